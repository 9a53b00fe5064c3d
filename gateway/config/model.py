"""The settings of gateway.yaml, in sections, each with its name, default, parser and meaning.

Rules kept here:
- Every value is frozen; a reload builds a new Config and swaps one reference.
- A field holds a parsed value: seconds, bytes, addresses. No repr shows a secret.
- These classes and those of `sections/` are the only list of settings; file, environment and documentation
  follow them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from gateway.config import addresses, peers, unix_addresses, values
from gateway.config.addresses import Address, ListenAddress
from gateway.config.peers import UNIX_PEERS, TrustedPeers
from gateway.config.sections.keys import KeysConfig
from gateway.config.sections.operation import AuditConfig, DecideConfig, DrainConfig, LogConfig, TracingConfig
from gateway.config.sections.requests import LimitsConfig, TimeoutsConfig
from gateway.config.sections.tls import TlsConfig
from gateway.config.sections.upstream import UpstreamConfig
from gateway.config.setting import Setting, described
from gateway.ip_addresses import is_inside
from gateway.policy.decisions import Policy
from gateway.policy.problems import Problem
from gateway.policy.routes import RouteTable
from gateway.wire.client_address import UNIX_PEER

_PEERS = 1024
"""Addresses of which it is remembered whether they are trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One gateway.yaml, complete and checked."""

    listen: tuple[ListenAddress, ...] = field(
        default=(Address("127.0.0.1", 5001),),
        metadata=described(
            addresses.addresses,
            "where clients connect: an address or a list of addresses; `[::]:5001` accepts IPv4 too; "
            "`unix:/run/blnk-gateway/gateway.sock` is a Unix socket",
        ),
    )
    listen_mode: str = field(
        default="0660",
        metadata=described(
            unix_addresses.mode,
            "mode of the files of Unix sockets in `listen`, in quotes: who connects has to write to the file",
        ),
    )
    admin: Address = field(
        default=Address("127.0.0.1", 5002),
        metadata=described(
            addresses.address,
            "health, metrics, `POST /explain`, `GET /scopes`, the [console](README.md#console); `GET "
            "/` lists the paths; keep this listener private",
        ),
    )
    health: Address | None = field(
        default=None,
        metadata=described(
            addresses.address, "one more listener, for probes: health and metrics, without a token"
        ),
    )
    admin_token_file: Path | None = field(
        default=None,
        metadata=described(
            values.path,
            "file with the bearer token for `admin`, 16 characters or more; required unless `admin` "
            "is on loopback",
        ),
    )
    upstream: UpstreamConfig = field(metadata={"section": UpstreamConfig})
    tls: TlsConfig = field(default=TlsConfig(), metadata={"section": TlsConfig})
    keys: KeysConfig = field(metadata={"section": KeysConfig})
    timeouts: TimeoutsConfig = field(default=TimeoutsConfig(), metadata={"section": TimeoutsConfig})
    limits: LimitsConfig = field(default=LimitsConfig(), metadata={"section": LimitsConfig})
    decide: DecideConfig = field(default=DecideConfig(), metadata={"section": DecideConfig})
    drain: DrainConfig = field(default=DrainConfig(), metadata={"section": DrainConfig})
    log: LogConfig = field(default=LogConfig(), metadata={"section": LogConfig})
    audit: AuditConfig = field(default=AuditConfig(), metadata={"section": AuditConfig})
    tracing: TracingConfig = field(default=TracingConfig(), metadata={"section": TracingConfig})
    ready_requires: tuple[str, ...] = field(
        default=(),
        metadata=described(
            values.sequence(values.choice("upstream", "store")),
            "the dependencies without which the gateway is not ready: `upstream`, `store`",
        ),
    )
    trusted_proxies: tuple[TrustedPeers, ...] = field(
        default=(),
        metadata=described(
            values.sequence(peers.trusted_peers),
            "the proxies whose `X-Forwarded-*`, request id and trace headers are used: networks, and "
            "`unix` for the peers of Unix sockets",
        ),
    )
    proxy_protocol: bool = field(
        default=False,
        metadata=described(
            values.flag,
            "`true`: each connection to `listen` begins with a [PROXY "
            "header](README.md#proxy-protocol), which only `trusted_proxies` may send",
        ),
    )
    routes: RouteTable
    sha256: str
    """SHA-256 of the file's bytes in hexadecimal, which identifies the policy."""
    unset: tuple[str, ...] = ()
    """The settings that name a variable that is not set; they hold their defaults or examples."""
    warnings: tuple[Problem, ...] = ()
    """Values that are accepted but are seldom intended: of the file by line, then of the environment."""
    policy: Policy = field(init=False, repr=False, compare=False)
    """The routes and the settings that decide who may call them."""
    _trusts: Callable[[str], bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build once what every request asks for."""
        policy = Policy(
            self.routes,
            accepts_master=self.keys.master == "accept",
            report_only=self.keys.report_only,
            delegates_unstamped=self.decide.unstamped == "allow",
        )
        object.__setattr__(self, "policy", policy)
        # A request asks three times or more, mostly about the same few proxies.
        remembering = lru_cache(_PEERS)(partial(_is_in, self.trusted_proxies))
        object.__setattr__(self, "_trusts", remembering)

    def trusts(self, peer: str) -> bool:
        """Return whether a peer, an IP address or UNIX_PEER, is a proxy whose headers are believed."""
        return bool(self.trusted_proxies) and self._trusts(peer)


def _is_in(trusted: tuple[TrustedPeers, ...], peer: str) -> bool:
    """Return whether a peer, an IP address or UNIX_PEER, is one of those that are trusted."""
    if peer == UNIX_PEER:
        return UNIX_PEERS in trusted
    return is_inside(peer, (peers for peers in trusted if not isinstance(peers, str)))


def settings() -> dict[str, Setting]:
    """Return every setting by its path, as `timeouts.first_byte`, in the order of the model."""
    return dict(_walk(Config, ""))


def sections() -> dict[str, Callable[..., Any]]:
    """Return the section classes by name, as `timeouts`."""
    return {
        item.name: item.metadata["section"]
        for item in dataclasses.fields(Config)
        if "section" in item.metadata
    }


def _walk(kind: type[Any], prefix: str) -> Iterator[tuple[str, Setting]]:
    for item in dataclasses.fields(kind):
        if "section" in item.metadata:
            yield from _walk(item.metadata["section"], f"{item.name}.")
        elif "parse" in item.metadata:
            example = item.metadata["example"]
            default = item.metadata["parse"](example) if example else item.default
            yield prefix + item.name, Setting(**item.metadata, default=default)
