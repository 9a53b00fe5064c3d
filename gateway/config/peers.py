"""Parses the peers that are trusted: networks, and programs that connect to a Unix socket."""

from __future__ import annotations

from typing import Final, Literal

from gateway.config import values
from gateway.config.values import BadValueError, Network, Raw
from gateway.wire.client_address import UNIX_PEER

UNIX_PEERS: Final = "unix"
"""All peers on Unix sockets, in `trusted_proxies`."""

TrustedPeers = Network | Literal["unix"]


def trusted_peers(raw: Raw) -> TrustedPeers:
    """Return a network, or UNIX_PEERS for `unix` (or `unix:`, as nginx has it)."""
    if raw in (UNIX_PEERS, UNIX_PEER):
        return UNIX_PEERS
    try:
        return values.network(raw)
    except BadValueError as problem:
        raise BadValueError(f"{problem}, or unix for the peers of Unix sockets") from None
