"""The address of a connection's other end, and of the client behind trusted proxies."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from gateway.ip_addresses import read_address

ANNOUNCED: Final = "announced_client"
"""The extra info of a transport whose client a proxy has announced: the client's address."""
UNIX_PEER: Final = "unix:"
"""The address of every peer on a Unix socket, as nginx has it."""


def peer_of(transport: asyncio.BaseTransport) -> str:
    """Return the address of the other end, without its port and zone; empty if there is none.

    If a proxy has announced its client, that is the other end. A peer on a Unix socket is UNIX_PEER, whatever
    path it has bound.
    A socket for IPv6 shows a peer that came by IPv4 as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
    """
    announced: str | None = transport.get_extra_info(ANNOUNCED)
    if announced is not None:
        return announced
    opened = transport.get_extra_info("socket")
    if opened is not None and opened.family == socket.AF_UNIX:
        return UNIX_PEER
    peer = transport.get_extra_info("peername")
    return str(peer[0]).partition("%")[0].removeprefix("::ffff:") if peer else ""


def client_of(peer: str, forwarded: Iterable[str], trusts: Callable[[str], bool]) -> str:
    """Return the rightmost address that is not a trusted proxy's; the leftmost if all of them are.

    Args:
        peer: the address of the connection's other end.
        forwarded: the values of `X-Forwarded-For`, in order. Each proxy appends the address that the request
            came from.
        trusts: returns True for a trusted proxy's address. Only what such a proxy wrote counts.

    An entry that is no address ends the search: its writer is known, its meaning is not.
    """
    client = peer
    for entry in _from_the_right(forwarded):
        if not trusts(client):
            return client
        address = _address(entry)
        if address is None:
            return client
        client = address
    return client


def _from_the_right(forwarded: Iterable[str]) -> Iterator[str]:
    for value in reversed(list(forwarded)):
        yield from (entry.strip() for entry in reversed(value.split(",")))


def _address(entry: str) -> str | None:
    """Return an address in its usual form, None if it is none; some proxies add a port and brackets.

    An address with a zone is none: it means something on one machine only, and a zone may be any text.
    """
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    address = None if "%" in entry else read_address(entry)
    return None if address is None else str(address)
