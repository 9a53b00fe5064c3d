"""The settings of the decision endpoint, of the end of the process, of logs, the audit stream and traces."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.audit.shipping import AUDIT_KEPT
from gateway.config import addresses, urls, values
from gateway.config.addresses import Address
from gateway.config.setting import described


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
