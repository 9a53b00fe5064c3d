"""Whether Core, the key store and Core's database can be reached from here, asked as `serve` asks them.

Rules kept here:
- What `serve` waits for, or serves without, is a warning; what ends its start is a fault.
- The master key is sent to a Core only after it has refused a request without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass

from gateway.cli.key_store import core_database
from gateway.config import Config
from gateway.errors import GatewayError
from gateway.keys.authority import UnusableAuthorityError
from gateway.keys.redis.store import RedisKeyStore
from gateway.server.core_check import Finding, check_core
from gateway.server.upstream import core_probe, open_probe_pool, read_master_key


@dataclass(frozen=True, slots=True)
class State:
    """What was found: `setting` names the dependency, `text` says what is so of it."""

    setting: str
    text: str
    warns: bool = False
    unsafe: bool = False


async def states(config: Config) -> list[State]:
    """The state of each dependency that the configuration names."""
    asking: list[Coroutine[None, None, State]] = [_core(config)]
    if not config.keys.store.startswith("memory:"):
        asking.append(_store(config))
    if config.keys.authority == "core":
        asking.append(_database(config))
    return await asyncio.gather(*asking)


async def _core(config: Config) -> State:
    master = read_master_key(config)
    pool = open_probe_pool(config, asyncio.get_running_loop())
    try:
        found = await check_core(pool, core_probe(config, master.line))
    finally:
        pool.abort()
    good = f"Core at {config.upstream.url} responds and accepts the master key"
    return State(
        "upstream.url",
        found.reason or good,
        warns=found.finding is Finding.UNREACHABLE,
        unsafe=found.finding is Finding.UNSAFE,
    )


async def _store(config: Config) -> State:
    store = RedisKeyStore(config.keys.store, replicas=config.keys.replicas)
    try:
        return await _asked("keys.store", store.ping, f"the key store at {config.keys.shown_store} responds")
    finally:
        await store.close()


async def _database(config: Config) -> State:
    rows = core_database(config)
    try:
        return await _asked("keys.core_database", rows.check, "Core's database responds and can be read")
    finally:
        rows.close()


async def _asked(setting: str, ask: Callable[[], Awaitable[None]], good: str) -> State:
    try:
        await ask()
    except UnusableAuthorityError as problem:
        return State(setting, str(problem), unsafe=True)
    except GatewayError as failure:
        return State(setting, failure.reason, warns=True)
    return State(setting, good)
