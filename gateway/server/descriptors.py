"""The numbers of connections that the limit of open files has room for.

Rules kept here:
- Every connection that this process may open has a descriptor: no `accept` and no `connect` fails for lack of
  one, whatever clients do.
- If the limit is too low for the configuration, every purpose gets a share, so that the gateway can serve.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from gateway.config import Config

LEAST: Final = 128
"""With fewer descriptors the gateway does not start."""

_STORE: Final = 48
"""Connections to Redis, its Sentinels or nodes, and to Core's database."""
_FILES: Final = 32
"""Standard streams, the event loop, listeners, configuration, certificates, name look-ups."""
_ACCEPTED: Final = 32
"""Connections beyond a bound: a turn of the event loop accepts at most 24, and the next one closes them."""
_FIXED: Final = _STORE + _FILES + _ACCEPTED
_DECIDING: Final = 8
"""Sockets of the listener for decisions."""
_PRIVATE: Final = 64
"""Connections of one private listener."""
_HEADERS: Final = 128
"""Connections whose PROXY header is not whole."""
_UPSTREAM_TWICE: Final = 2
"""Requests that run to their end apart from the pool hold the same number of connections again."""

# If not everything fits: the largest part of the rest for one private listener, headers, the pool, decisions.
_PRIVATE_PART: Final = 16
_HEADERS_PART: Final = 16
_UPSTREAM_PART: Final = 6
_DECISIONS_PART: Final = 4


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one; return the limit that holds then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        # macOS: the kernel has a bound of its own below a hard limit that is unlimited.
        return _finite(soft)
    return _finite(hard)


def hard_limit() -> int:
    """Return the limit of open files that `raise_limit` would reach."""
    return _finite(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def _finite(limit: int) -> int:
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A configured number of connections that `limit` open files have no room for."""

    setting: str
    configured: int
    possible: int
    limit: int
    needed: int

    def __str__(self) -> str:
        """Name both numbers, and what to do."""
        return (
            f"{self.setting} is {self.configured}, but {self.limit} open files leave room for "
            f"{self.possible}: raise the hard limit of open files to {self.needed} (ulimit -Hn, LimitNOFILE= "
            f"in systemd, ulimits in Compose), or write {self.possible}"
        )


@dataclass(frozen=True, slots=True)
class FittedConfig:
    """The configuration with numbers of connections that fit.

    `private` is the number for each private listener, and `headers` that of connections which may wait for
    their PROXY header.
    """

    config: Config
    private: int
    headers: int
    shortfalls: tuple[Shortfall, ...]


def fit(config: Config, limit: int) -> FittedConfig:
    """Return what fits into `limit` open files, which are at least `LEAST`."""
    clients, upstream = config.limits.connections, config.upstream.connections
    decides = config.decide.listen is not None
    listeners = 1 if config.health is None else 2
    fixed = _FIXED + _DECIDING if decides else _FIXED
    decisions = config.decide.connections if decides else 0
    headers = _HEADERS if config.proxy_protocol else 0
    needed = fixed + clients + upstream * _UPSTREAM_TWICE + decisions + _PRIVATE * listeners + headers
    if needed <= limit:
        return FittedConfig(config, _PRIVATE, headers, ())
    rest = limit - fixed
    headers = min(headers, max(1, rest // _HEADERS_PART))
    private = min(_PRIVATE, max(1, rest // _PRIVATE_PART))
    pool = min(upstream, max(1, rest // _UPSTREAM_PART))
    decisions = min(decisions, max(1, rest // _DECISIONS_PART))
    taken = min(clients, rest - private * listeners - pool * _UPSTREAM_TWICE - decisions - headers)
    fitted = replace(
        config,
        limits=replace(config.limits, connections=taken),
        upstream=replace(config.upstream, connections=pool),
        decide=replace(config.decide, connections=decisions) if decides else config.decide,
    )
    return FittedConfig(fitted, private, headers, tuple(_shortfalls(config, fitted, limit, needed)))


def _shortfalls(config: Config, fitted: Config, limit: int, needed: int) -> Iterator[Shortfall]:
    for setting, configured, possible in (
        ("limits.connections", config.limits.connections, fitted.limits.connections),
        ("upstream.connections", config.upstream.connections, fitted.upstream.connections),
        ("decide.connections", config.decide.connections, fitted.decide.connections),
    ):
        if possible < configured:
            yield Shortfall(setting, configured, possible, limit, needed)


def too_few(limit: int) -> str:
    """Return what is wrong with a limit of open files, and what to do; empty if nothing is."""
    if limit >= LEAST:
        return ""
    return f"{limit} open files are too few: raise the hard limit to at least {LEAST} (ulimit -Hn)"
