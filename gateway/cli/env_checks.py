"""Checks Core, the key store and Core's database from this machine, as `serve` does.

Rules kept here:
- A dependency that `serve` waits for, or starts without, is a warning; one that ends its start is unsafe.
- The master key is sent only to a Core that has refused a request without a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass

from gateway.cli.dependency_failures import CORE, DATABASE, STORE
from gateway.cli.keys.store import authority_of, open_core_rows
from gateway.config import Config
from gateway.errors import GatewayError
from gateway.keys.authority import UnusableAuthorityError
from gateway.keys.redis.store import RedisKeyStore
from gateway.server.core_check import Finding, check_core
from gateway.server.upstream import core_access, core_probe, core_tls, open_probe_pool


@dataclass(frozen=True, slots=True)
class DependencyStatus:
    """The finding about the dependency that `setting` names, and a text for operators."""

    setting: str
    finding: Finding
    text: str


async def check_dependencies(config: Config) -> list[DependencyStatus]:
    """Return the status of each dependency that the configuration names."""
    checks: list[Coroutine[None, None, DependencyStatus]] = [_check_core(config)]
    if not config.keys.in_memory:
        checks.append(_check_store(config))
    if not authority_of(config).store_is_record:
        checks.append(_check_database(config))
    return await asyncio.gather(*checks)


async def _check_core(config: Config) -> DependencyStatus:
    core = core_access(config)
    pool = open_probe_pool(config, asyncio.get_running_loop(), core_tls(config))
    try:
        found = await check_core(pool, core_probe(config, core))
    finally:
        pool.abort()
    good = f"Core at {config.upstream.url} responds and accepts the master key"
    return DependencyStatus(CORE, found.finding, found.reason or good)


async def _check_store(config: Config) -> DependencyStatus:
    store = RedisKeyStore(config.keys.store, replicas=config.keys.replicas)
    try:
        return await _status_of(STORE, store.ping, f"the key store at {config.keys.shown_store} responds")
    finally:
        await store.close()


async def _check_database(config: Config) -> DependencyStatus:
    rows = open_core_rows(config)
    try:
        return await _status_of(DATABASE, rows.check, "Core's database responds, and its table is readable")
    finally:
        rows.close()


async def _status_of(setting: str, check: Callable[[], Awaitable[None]], good: str) -> DependencyStatus:
    try:
        await check()
    except UnusableAuthorityError as problem:
        return DependencyStatus(setting, Finding.UNSAFE, str(problem))
    except GatewayError as failure:
        return DependencyStatus(setting, Finding.UNREACHABLE, failure.reason)
    return DependencyStatus(setting, Finding.SAFE, good)
