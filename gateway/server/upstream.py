"""The connections to Core that a configuration asks for, and the master key that it names."""

from __future__ import annotations

import asyncio
import ssl

from gateway.config import Config
from gateway.config.certificates import core_context
from gateway.proxy.core_access import CoreAccess
from gateway.server.core_check import CoreProbe, probe_limits
from gateway.server.master_keys import read_master_keys
from gateway.wire.pool import Pool
from gateway.wire.upstream_deadlines import PoolLimits


def core_access(config: Config) -> CoreAccess:
    """Return the access to Core, which is not verified yet; raises as `read_master_keys`."""
    return CoreAccess(config.upstream.url, config.upstream.authority, *read_master_keys(config))


def core_probe(config: Config, core: CoreAccess, own_ids: str = "") -> CoreProbe:
    """Return what checks the Core of the configuration."""
    lines = tuple(key.line for key in (core.master, *core.trials(core.master.line)))
    return CoreProbe(core.host_line, lines, tls=config.upstream.tls, own_ids=own_ids)


def pool_limits(config: Config) -> PoolLimits:
    """Return the bounds of the connections to Core."""
    upstream, timeouts = config.upstream, config.timeouts
    return PoolLimits(
        connections=upstream.connections,
        queue=upstream.queue,
        connect=timeouts.connect,
        first_byte=timeouts.first_byte,
        between_bytes=timeouts.between_bytes,
        idle=timeouts.upstream_idle,
        queue_wait=upstream.queue_wait,
    )


def core_tls(config: Config) -> ssl.SSLContext | None:
    """Return the TLS of connections to Core, None for plain HTTP. Raises CertificateError."""
    upstream = config.upstream
    return core_context(upstream.authorities, upstream.pair) if upstream.tls else None


def open_pool(config: Config, loop: asyncio.AbstractEventLoop, tls: ssl.SSLContext | None) -> Pool:
    """Return the pool of connections to Core."""
    return Pool(config.upstream.host, config.upstream.port, pool_limits(config), loop, tls)


def open_probe_pool(config: Config, loop: asyncio.AbstractEventLoop, tls: ssl.SSLContext | None) -> Pool:
    """Return a pool of one connection to Core, for `check_core` alone."""
    limits = probe_limits(pool_limits(config))
    return Pool(config.upstream.host, config.upstream.port, limits, loop, tls)
