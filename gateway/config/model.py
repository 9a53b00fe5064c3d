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
        metadata=described(
            urls.upstream_url,
            "Core, with `server.secure: true`: `http://` or `https://`, host and port, no path; the "
            "certificate of an `https://` one is verified with the system's authorities, or with "
            "`upstream.ca_file`",
            "http://127.0.0.1:5100",
        )
    )
    master_key: Secret = field(
        default=Secret(""),
        metadata=described(
            secret_values.secret, "Core's master key; or name its file in `upstream.master_key_file`"
        ),
    )
    master_key_file: Path | None = field(
        default=None,
        metadata=described(
            values.path, "file with Core's master key; read again every second, and when Core refuses it"
        ),
    )
    master_key_next_file: Path | None = field(
        default=None,
        metadata=described(
            values.path,
            "file for the next master key, while [Core's is "
            "changed](README.md#changing-the-master-key); absent or empty at other times",
        ),
    )
    ca_file: Path | None = field(
        default=None,
        metadata=described(
            values.path,
            "file in PEM with the authorities of Core's certificate, or with its self-signed "
            "certificate, instead of the system's; read again when it changes",
        ),
    )
    certificate: Path | None = field(
        default=None,
        metadata=described(
            values.path,
            "file in PEM with the certificate that the gateway shows to Core; read again when it "
            "changes, for new connections",
        ),
    )
    key: Path | None = field(
        default=None,
        metadata=described(
            values.path, "file in PEM with the private key of `upstream.certificate`, without a password"
        ),
    )
    connections: int = field(
        default=128,
        metadata=described(
            values.count(1, 65535),
            "the most requests at Core at once; when all are in use, keys below their share may use "
            "an eighth more, and networks a sixteenth; with requests that run on after their 504, at "
            "most twice as many connections",
        ),
    )
    queue: int = field(
        default=1024,
        metadata=described(
            values.count(0), "the most requests that wait for a connection to Core; more get 503"
        ),
    )
    queue_wait: float = field(
        default=0.05,
        metadata=described(
            values.duration,
            "once requests have waited for half a second without a pause, only as many may wait as "
            "get a connection within this time; more get 503 at once "
            "([Overload](README.md#overload)); `0s`: all may wait, for `timeouts.connect`",
        ),
    )
    max_body: int = field(
        default=5 * 1024**2,
        metadata=described(
            values.size,
            "Core's limit of a request body (its `max_request_body_size_mb`, in MiB); a body that is "
            "longer after it is stamped gets 413",
        ),
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
            values.path,
            "file in PEM with the certificate of the listeners, and behind it those of its "
            "authorities; with `tls.key`, the listeners of `tls.listeners` speak "
            "[TLS](README.md#tls); read again when it changes",
        ),
    )
    key: Path | None = field(
        default=None,
        metadata=described(
            values.path, "file in PEM with the private key of `tls.certificate`, without a password"
        ),
    )
    client_ca: Path | None = field(
        default=None,
        metadata=described(
            values.path,
            "file in PEM with the authorities of clients: on `listen` and `admin`, where they speak "
            "TLS, a client has to show a certificate of one of them",
        ),
    )
    listeners: tuple[str, ...] = field(
        default=("listen",),
        metadata=described(
            values.sequence(values.choice("listen", "admin", "health")),
            "the listeners that speak TLS: `listen`, `admin`, `health`",
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
            "`gateway`: the store is the only record of keys; `core`: Core's table is the record, and "
            "the store caches it",
        ),
    )
    core_database: str = field(
        default="",
        repr=False,
        metadata=described(
            urls.database_url,
            "Core's PostgreSQL, `postgres://user:password@host:5432/database`, for `keys.authority: "
            "core` and the import; read access is enough",
        ),
    )
    store: str = field(
        repr=False,
        metadata=described(
            urls.store_url,
            "`redis://`, `rediss://`, each also with `+sentinel` or `+cluster`; or `memory://` for a trial",
            "redis://127.0.0.1:6379/0",
        ),
    )
    grace: float = field(
        default=0.0,
        metadata=described(
            values.duration,
            "how long known keys keep working while the store fails; a revoked key may work that long "
            "too; `0s`: not at all",
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
        metadata=described(
            values.count(0),
            "the most live keys of one owner, and four times as many records, dead keys included; "
            "beyond that no key is created for the owner, not even with the master key; 0 is no limit",
        ),
    )
    prefix: str = field(
        default="",
        metadata=described(
            values.key_prefix,
            "what new keys begin with, such as `blnk_live_`: at most 20 lower-case letters, digits "
            "and `_`, with `_` at the end; they end with a checksum, [for secret "
            "scanners](README.md#secret-scanners); not where Core mints the keys; imported keys that "
            "begin with it and have no checksum are refused as soon as a gateway has not cached them",
        ),
    )
    master: str = field(
        default="accept",
        metadata=described(
            values.choice("accept", "deny"), "whether a client may send the master key: `accept` or `deny`"
        ),
    )

    report_only: KeyDates = field(
        default=NO_DATES,
        metadata=described(
            report_only_dates.key_dates,
            'key ids with dates, `api_key_...: "2026-12-15"`: until that date, a request that lacks '
            "only a scope passes and is reported",
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
        metadata=described(
            values.deadline, "the longest time from the first to the last byte of a client's request head"
        ),
    )
    body: float = field(
        default=30.0,
        metadata=described(
            values.deadline,
            "the longest time between two bytes of a client's body; a body that takes longer than "
            "this in all has to come at 1 KiB/s or more",
        ),
    )
    idle: float = field(
        default=75.0,
        metadata=described(values.deadline, "how long a client's connection is kept between two requests"),
    )
    write: float = field(
        default=30.0,
        metadata=described(
            values.deadline, "after this time, a client that takes less than 1 KiB/s of its response is cut"
        ),
    )
    connect: float = field(
        default=2.0,
        metadata=described(
            values.deadline,
            "the longest time for opening a connection to Core, with all addresses of its name and "
            "TLS, or waiting for a free connection",
        ),
    )
    first_byte: float = field(
        default=300.0,
        metadata=described(
            values.deadline,
            "the longest time until the first byte of Core's response; then 504; a route can have its "
            "own: `{scope: ..., first_byte: 15m}`",
        ),
    )
    between_bytes: float = field(
        default=60.0,
        metadata=described(values.deadline, "the longest time between two bytes of Core's response"),
    )
    upstream_idle: float = field(
        default=60.0,
        metadata=described(
            values.deadline,
            "how long an unused connection to Core is kept; one in use is replaced after 5 minutes, "
            "so that the gateway follows a host name that moves",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """Limits for one client, or for all clients together; sizes in bytes."""

    body: int = field(
        default=5 * 1024**2,
        metadata=described(
            values.size,
            "the largest body that is stamped, as the client sends it; a larger one gets 413; other "
            "bodies are streamed without a limit, except for 64 KiB on GET, HEAD, public routes and "
            "`/api-keys`",
        ),
    )
    buffered: int = field(
        default=64 * 1024**2,
        metadata=described(
            values.size,
            "the most bytes of all bodies that are buffered at once: those that are stamped, and "
            "small ones that are not whole yet; keys that hold less than their share may use an "
            "eighth more, and networks a sixteenth; beyond that, 503",
        ),
    )
    connections: int = field(
        default=10_000,
        metadata=described(
            values.count(1),
            "the most connections of clients at once; further ones get 503 and are closed; the "
            "defaults need 10,432 open files; with fewer, `check` says how many connections are "
            "possible",
        ),
    )
    rate: Rate | None = field(
        default=None,
        metadata=described(
            rates.rate,
            "the rate of every key that has none of its own, and of the master key: `100/s`, `600/m`, "
            "`10000/h`, or a plain number for a second; requests that are refused count too; more get "
            "429; 0 is no limit; each key has its own, and `keys.per_owner` bounds how many an owner "
            "has ([Limits](README.md#limits))",
        ),
    )
    on_store_failure: str = field(
        default="local",
        metadata=described(
            values.choice("local", "deny"),
            "while replicas cannot share limits because Redis fails: `local`: each lets through its "
            "last share of them; `deny`: requests of keys with a limit get 503",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideConfig:
    """The listener at which an ingress asks whether a request is allowed."""

    listen: Address | None = field(
        default=None,
        metadata=described(
            addresses.address,
            "where an ingress asks for [decisions](README.md#decisions-for-an-ingress); only "
            "`trusted_proxies` get one; off without it",
        ),
    )
    unstamped: str = field(
        default="deny",
        metadata=described(
            values.choice("deny", "allow"),
            "`allow` also allows requests on routes that stamp: nothing stamps them then, so a client "
            "can leave out or forge the stamp; `deny` refuses them",
        ),
    )
    connections: int = field(
        default=1024,
        metadata=described(
            values.count(1),
            "the most connections to `decide.listen` at once; further ones are refused; with the "
            "listener they need as many open files, and 8 more",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainConfig:
    """The times, in seconds, for which SIGTERM waits."""

    delay: float = field(
        default=5.0,
        metadata=described(
            values.duration, "how long after SIGTERM the gateway is not ready, but still accepts connections"
        ),
    )
    timeout: float = field(
        default=25.0,
        metadata=described(
            values.duration, "how long after `drain.delay` the requests in progress may take to finish"
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """The format and the level of log lines."""

    format: str = field(
        default="auto",
        metadata=described(
            values.choice("auto", "json", "console"),
            "`json`, `console`, or `auto`: console on a terminal, else JSON",
        ),
    )
    level: str = field(
        default="info",
        metadata=described(
            values.choice("debug", "info", "warning", "error"),
            "the lowest level of events that are written: `debug`, `info`, `warning` or `error`; "
            "lines of requests are always written",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditConfig:
    """The audit stream."""

    kept: int = field(
        default=AUDIT_KEPT,
        metadata=described(
            values.count(1000, 10_000_000),
            "about how many entries the audit stream keeps: some 35 MB of Redis, and 150 MB if all "
            "have the largest size; the same in all replicas and commands, because the smallest "
            "counts; a command without the file trims nothing",
        ),
    )
    unshipped: str = field(
        default="warn",
        metadata=described(
            values.choice("warn", "drop"),
            "`warn` before entries are trimmed that no shipper has printed, or `drop` them",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingConfig:
    """The export of traces."""

    endpoint: str = field(
        default="",
        metadata=described(
            urls.collector_url,
            "where spans go by OTLP over HTTP, with the path: `http://127.0.0.1:4318/v1/traces` "
            "([Tracing](README.md#tracing)); without it there are none",
        ),
    )
    ratio: float = field(
        default=0.01,
        metadata=described(
            values.ratio,
            "the part of the requests that is traced, from 0 to 1; requests that `trusted_proxies` "
            "send with a `traceparent` follow that one",
        ),
    )


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
