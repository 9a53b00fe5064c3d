"""The settings of gateway.yaml, each with its name, default, parser and meaning.

Rules kept here:
- Every value is frozen; a reload builds a new Config and swaps one reference.
- A field holds a parsed value: seconds, bytes, addresses. No repr shows a secret.
- These classes are the only list of settings; file, environment and documentation follow them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.audit.shipping import AUDIT_KEPT
from gateway.config import (
    addresses,
    peers,
    rates,
    report_only_dates,
    secret_values,
    unix_addresses,
    urls,
    values,
)
from gateway.config.addresses import Address, ListenAddress
from gateway.config.certificates import KeyPair, PemFile
from gateway.config.peers import UNIX_PEERS, TrustedPeers
from gateway.config.secret_values import Secret
from gateway.config.setting import Setting, described
from gateway.ip_addresses import is_inside
from gateway.policy.decisions import Policy
from gateway.policy.problems import Problem
from gateway.policy.report_only import NO_DATES, KeyDates
from gateway.policy.routes import RouteTable
from gateway.policy.terms import Rate
from gateway.wire.client_address import UNIX_PEER

_PEERS = 1024
"""Addresses of which it is remembered whether they are trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConfig:
    """Blnk Core and the connections to it."""

    url: str = field(
        metadata=described(urls.upstream_url, "Blnk Core, server.secure: true", "http://127.0.0.1:5100")
    )
    master_key: Secret = field(
        default=Secret(""), metadata=described(secret_values.secret, "Core's master key; or master_key_file")
    )
    master_key_file: Path | None = field(
        default=None, metadata=described(values.path, "a file that holds Core's master key")
    )
    master_key_next_file: Path | None = field(
        default=None,
        metadata=described(
            values.path, "a file for the next master key, while Core's is changed; absent or empty: no change"
        ),
    )
    ca_file: Path | None = field(
        default=None,
        metadata=described(
            values.path, "a PEM file with the authorities of Core's certificate, instead of the system's"
        ),
    )
    certificate: Path | None = field(
        default=None,
        metadata=described(values.path, "a PEM file with the certificate that the gateway shows to Core"),
    )
    key: Path | None = field(
        default=None, metadata=described(values.path, "a PEM file with the private key of that certificate")
    )
    connections: int = field(
        default=128, metadata=described(values.count(1, 65535), "the most connections to Core at once")
    )
    queue: int = field(
        default=1024, metadata=described(values.count(0), "the most requests that wait for a connection")
    )
    queue_wait: float = field(
        default=0.05,
        metadata=described(
            values.duration,
            "how long a request may wait for a connection while more come than Core can take; "
            "0: timeouts.connect",
        ),
    )
    max_body: int = field(
        default=5 * 1024**2,
        metadata=described(values.size, "Core's limit for a request body: its max_request_body_size_mb"),
    )

    @property
    def host(self) -> str:
        """Return the host name or IP address, without brackets."""
        return urlsplit(self.url).hostname or ""

    @property
    def authority(self) -> str:
        """Return host and port as the URL has them, for the `Host` header to Core."""
        return urlsplit(self.url).netloc

    @property
    def tls(self) -> bool:
        """Return True for https."""
        return urlsplit(self.url).scheme == "https"

    @property
    def port(self) -> int:
        """Return the port of the URL, or the default port of its scheme."""
        return urlsplit(self.url).port or (443 if self.tls else 80)

    @property
    def authorities(self) -> PemFile | None:
        """Return the file of the authorities of Core's certificate, if it is named."""
        return PemFile("upstream.ca_file", self.ca_file) if self.ca_file is not None else None

    @property
    def pair(self) -> KeyPair | None:
        """Return the certificate that the gateway shows to Core, and its key, if they are named."""
        if self.certificate is None or self.key is None:
            return None
        return KeyPair(PemFile("upstream.certificate", self.certificate), PemFile("upstream.key", self.key))


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """TLS of the gateway's own listeners."""

    certificate: Path | None = field(
        default=None,
        metadata=described(
            values.path, "a PEM file with the certificate, and behind it those of its authorities"
        ),
    )
    key: Path | None = field(
        default=None, metadata=described(values.path, "a PEM file with the private key of the certificate")
    )
    client_ca: Path | None = field(
        default=None,
        metadata=described(
            values.path,
            "a PEM file with the authorities of clients: their certificate is required on listen and admin",
        ),
    )
    listeners: tuple[str, ...] = field(
        default=("listen",),
        metadata=described(
            values.sequence(values.choice("listen", "admin", "health")), "the listeners that speak TLS"
        ),
    )

    @property
    def pair(self) -> KeyPair | None:
        """Return the certificate and its key, if they are named."""
        if self.certificate is None or self.key is None:
            return None
        return KeyPair(PemFile("tls.certificate", self.certificate), PemFile("tls.key", self.key))

    @property
    def client_authorities(self) -> PemFile | None:
        """Return the file of the authorities of clients, if it is named."""
        return PemFile("tls.client_ca", self.client_ca) if self.client_ca is not None else None

    def speaks(self, listener: str) -> bool:
        """Return True if a listener speaks TLS."""
        return self.pair is not None and listener in self.listeners

    def asks_clients(self, listener: str) -> bool:
        """Return True if a client of a listener has to show a certificate; a kubelet has none."""
        return self.client_ca is not None and self.speaks(listener) and listener != "health"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysConfig:
    """The authority and the store of keys, and the use of the master key."""

    authority: str = field(
        default="gateway",
        metadata=described(
            values.choice("gateway", "core"),
            "gateway: the store is the only record; core: Core's own keys, cached in the store",
        ),
    )
    core_database: str = field(
        default="",
        repr=False,
        metadata=described(
            urls.database_url,
            "Core's PostgreSQL, for authority: core; read access is enough",
        ),
    )
    store: str = field(
        repr=False,
        metadata=described(
            urls.store_url, "redis://, rediss://, or memory:// for a trial", "redis://127.0.0.1:6379/0"
        ),
    )
    grace: float = field(
        default=0.0,
        metadata=described(
            values.duration, "how long known keys are still accepted while the store fails; 0: not at all"
        ),
    )
    replicas: int = field(
        default=0,
        metadata=described(
            values.count(0, 16), "the least number of Redis replicas that must acknowledge a change"
        ),
    )
    per_owner: int = field(
        default=1000,
        metadata=described(values.count(0), "the most live keys of one owner; 0: no limit"),
    )
    prefix: str = field(
        default="",
        metadata=described(
            values.key_prefix,
            "what new keys begin with, such as blnk_live_; they end with a checksum, for secret scanners",
        ),
    )
    master: str = field(
        default="accept",
        metadata=described(
            values.choice("accept", "deny"), "whether a client may send the master key: accept or deny"
        ),
    )

    report_only: KeyDates = field(
        default=NO_DATES,
        metadata=described(
            report_only_dates.key_dates,
            "key ids and dates: until its date, requests that only lack a scope are let pass and reported",
        ),
    )

    @property
    def in_memory(self) -> bool:
        """Return True if the store is the memory of one process, which no other can use."""
        return self.store == urls.MEMORY_STORE

    @property
    def shown_store(self) -> str:
        """Return the store's URL without user, password and query, for logs."""
        scheme, _, rest = self.store.partition("://")
        return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutsConfig:
    """One deadline, in seconds, for each phase of a request."""

    head: float = field(
        default=10.0,
        metadata=described(values.deadline, "from the first to the last byte of a client's request head"),
    )
    body: float = field(
        default=30.0,
        metadata=described(
            values.deadline,
            "between two bytes of a client's body; the whole body must come at 1 KiB/s or more",
        ),
    )
    idle: float = field(
        default=75.0, metadata=described(values.deadline, "between two requests on a client's connection")
    )
    write: float = field(
        default=30.0,
        metadata=described(values.deadline, "how long a client may read its response at less than 1 KiB/s"),
    )
    connect: float = field(
        default=2.0,
        metadata=described(values.deadline, "to connect to Core, or to wait for a free connection"),
    )
    first_byte: float = field(
        default=300.0, metadata=described(values.deadline, "until the first byte of Core's response")
    )
    between_bytes: float = field(
        default=60.0, metadata=described(values.deadline, "between two bytes of Core's response")
    )
    upstream_idle: float = field(
        default=60.0, metadata=described(values.deadline, "how long an unused connection to Core is kept")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """Limits for one client, or for all clients together; sizes in bytes."""

    body: int = field(
        default=5 * 1024**2, metadata=described(values.size, "the largest body on a route that stamps")
    )
    buffered: int = field(
        default=64 * 1024**2, metadata=described(values.size, "the most bytes of all bodies held at once")
    )
    connections: int = field(
        default=10_000, metadata=described(values.count(1), "the most connections of clients at once")
    )
    rate: Rate | None = field(
        default=None,
        metadata=described(
            rates.rate,
            "the most requests of a key that has no rate of its own, as 100/s or 600/m; 0: no limit",
        ),
    )
    on_store_failure: str = field(
        default="local",
        metadata=described(
            values.choice("local", "deny"),
            "while replicas cannot share limits: local: each goes on with its last share; deny: 503",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideConfig:
    """The listener at which an ingress asks whether a request is allowed."""

    listen: Address | None = field(
        default=None,
        metadata=described(addresses.address, "where trusted_proxies ask for decisions; off without it"),
    )
    unstamped: str = field(
        default="deny",
        metadata=described(
            values.choice("deny", "allow"),
            "whether requests on routes that stamp may be allowed, although nothing stamps them then",
        ),
    )
    connections: int = field(
        default=1024,
        metadata=described(values.count(1), "the most connections to this listener at once"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainConfig:
    """The times, in seconds, for which SIGTERM waits."""

    delay: float = field(
        default=5.0,
        metadata=described(
            values.duration, "how long to accept requests, already not ready, before the listeners close"
        ),
    )
    timeout: float = field(
        default=25.0,
        metadata=described(values.duration, "how long requests that were accepted may take to finish"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """The format and the level of log lines."""

    format: str = field(
        default="auto",
        metadata=described(
            values.choice("auto", "json", "console"), "auto: console on a terminal, else json"
        ),
    )
    level: str = field(
        default="info",
        metadata=described(
            values.choice("debug", "info", "warning", "error"), "the lowest level that is written"
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditConfig:
    """The audit stream."""

    kept: int = field(
        default=AUDIT_KEPT,
        metadata=described(values.count(1000, 10_000_000), "about how many entries the audit stream keeps"),
    )
    unshipped: str = field(
        default="warn",
        metadata=described(
            values.choice("warn", "drop"),
            "entries that are trimmed before a shipper has printed them: warn in time, or drop them",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingConfig:
    """The export of traces."""

    endpoint: str = field(
        default="",
        metadata=described(
            urls.collector_url,
            "where traces go by OTLP over HTTP, as http://127.0.0.1:4318/v1/traces; none: no traces",
        ),
    )
    ratio: float = field(
        default=0.01,
        metadata=described(values.ratio, "the part of the requests that is traced, from 0 to 1"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One gateway.yaml, complete and checked."""

    listen: tuple[ListenAddress, ...] = field(
        default=(Address("127.0.0.1", 5001),),
        metadata=described(addresses.addresses, "the address where clients connect, or a list of addresses"),
    )
    listen_mode: str = field(
        default="0660",
        metadata=described(unix_addresses.mode, "the mode of the files of Unix sockets in listen"),
    )
    admin: Address = field(
        default=Address("127.0.0.1", 5002),
        metadata=described(addresses.address, "health, metrics and administration: keep private"),
    )
    health: Address | None = field(
        default=None, metadata=described(addresses.address, "health and metrics alone")
    )
    admin_token_file: Path | None = field(
        default=None,
        metadata=described(
            values.path, "a file with the bearer token for admin; required unless admin is on loopback"
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
            "the dependencies without which the gateway is not ready",
        ),
    )
    trusted_proxies: tuple[TrustedPeers, ...] = field(
        default=(),
        metadata=described(
            values.sequence(peers.trusted_peers),
            "the proxies whose Forwarded and trace headers are believed: networks, unix for Unix sockets",
        ),
    )
    proxy_protocol: bool = field(
        default=False,
        metadata=described(
            values.flag, "whether connections to listen begin with a PROXY header, from trusted_proxies alone"
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
