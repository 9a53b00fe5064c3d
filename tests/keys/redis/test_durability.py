"""Warnings about a Redis that could lose keys."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.admin.health import Health
from gateway.errors import Code, GatewayError
from gateway.keys.redis.durability import (
    EVICTION_UNKNOWN,
    EVICTS,
    NEARLY_FULL,
    NO_CHANGES,
    NOT_PERSISTED,
    PERSISTENCE_UNKNOWN,
    SNAPSHOTS,
    WRITTEN_LATER,
)
from gateway.keys.redis.store import RedisKeyStore
from gateway.proxy.errors import code_of
from gateway.server.store_watch import StoreWatch
from tests import redis_acl
from tests.conftest import Start
from tests.keys.records import RECORD
from tests.redis_server import RedisServer, start_redis
from tests.running import eventually
from tests.server.test_build import shows

pytestmark = pytest.mark.redis

EMPTY = "the key store is empty: every client but one with the master key will get 401"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """Start a Redis that persists nothing; tests change its settings."""
    server = start_redis(tmp_path)
    yield server
    server.kill()


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisKeyStore]:
    store = RedisKeyStore(server.url)
    yield store
    await store.close()


@pytest.mark.parametrize(
    ("settings", "warnings"),
    [
        ({}, (NOT_PERSISTED,)),
        ({"appendonly": "yes", "appendfsync": "always"}, ()),
        ({"appendonly": "yes", "appendfsync": "always", "save": "60 1"}, ()),
        ({"appendonly": "yes"}, (WRITTEN_LATER,)),
        ({"appendonly": "yes", "appendfsync": "no"}, (WRITTEN_LATER,)),
        ({"save": "60 1"}, (SNAPSHOTS,)),
        ({"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "allkeys-lru"}, (EVICTS,)),
        ({"maxmemory-policy": "volatile-ttl"}, (NOT_PERSISTED, EVICTS)),
    ],
)
async def test_settings_that_lose_keys_are_named(
    store: RedisKeyStore, server: RedisServer, settings: dict[str, str], warnings: tuple[str, ...]
) -> None:
    for name, value in settings.items():
        server.command("CONFIG", "SET", name, value)
    assert await store.warnings() == warnings


@pytest.mark.parametrize(
    ("settings", "forbidden", "warnings"),
    [
        ({"appendonly": "yes"}, ("-config|get",), (PERSISTENCE_UNKNOWN,)),
        ({"save": "60 1"}, ("-config|get",), (PERSISTENCE_UNKNOWN,)),
        (
            {"appendonly": "yes"},
            ("-config|get", "-info"),
            (PERSISTENCE_UNKNOWN, EVICTION_UNKNOWN),
        ),
    ],
)
async def test_settings_that_may_not_be_read_are_reported_as_unchecked(
    store: RedisKeyStore,
    server: RedisServer,
    settings: dict[str, str],
    forbidden: tuple[str, ...],
    warnings: tuple[str, ...],
) -> None:
    for name, value in settings.items():
        server.command("CONFIG", "SET", name, value)
    assert server.command("ACL", "SETUSER", redis_acl.USER, *forbidden) == b"+OK\r\n"
    assert await store.warnings() == warnings


async def test_a_user_that_may_not_change_keys_is_reported_before_a_change_fails(
    store: RedisKeyStore, server: RedisServer
) -> None:
    assert server.command("ACL", "SETUSER", redis_acl.USER, "-eval") == b"+OK\r\n"
    assert await store.warnings() == (NOT_PERSISTED, NO_CHANGES)


async def test_a_redis_that_is_down_is_asked_again(store: RedisKeyStore, server: RedisServer) -> None:
    server.kill()
    with pytest.raises(GatewayError) as failure:
        await store.warnings()
    assert code_of(failure.value) is Code.KEY_STORE_UNAVAILABLE


async def test_readiness_and_the_log_have_the_warnings(start_gateway: Start, store: RedisKeyStore) -> None:
    gateway = await start_gateway(store=store)
    await shows(gateway, 200, warnings=[EMPTY, NOT_PERSISTED])
    await gateway.logged("Redis persists nothing")


async def test_a_store_that_is_emptied_is_reported(
    start_gateway: Start, store: RedisKeyStore, server: RedisServer
) -> None:
    """An emptied store is reported, because every client gets 401 through no fault of its own."""
    await store.add(RECORD)
    gateway = await start_gateway(store=store)
    await shows(gateway, 200, warnings=[NOT_PERSISTED])
    server.command("FLUSHALL")
    await shows(gateway, 200, warnings=[EMPTY, NOT_PERSISTED])
    await gateway.logged("changes in the key store were missed: it was emptied, restored, or ")


def fill(server: RedisServer, ratio: float) -> None:
    """Set `maxmemory` so that the server uses that part of it."""
    info = server.command("INFO", "memory")
    used, apart = (
        int(found[1])
        for found in (re.search(rb"used_memory:(\d+)", info), re.search(rb"for_evict:(\d+)", info))
        if found is not None
    )
    server.command("CONFIG", "SET", "maxmemory", str(round((used - apart) / ratio)))


async def test_the_store_returns_how_full_redis_is(store: RedisKeyStore, server: RedisServer) -> None:
    assert await store.memory_ratio() is None
    fill(server, 0.5)
    assert await store.memory_ratio() == pytest.approx(0.5, rel=0.2)
    server.command("ACL", "SETUSER", redis_acl.USER, "-info")
    assert await store.memory_ratio() is None


async def test_a_nearly_full_redis_is_reported_before_it_refuses_changes(
    start_gateway: Start, store: RedisKeyStore, server: RedisServer
) -> None:
    """The warning is on the health page, in the log and in the metrics."""
    await store.add(RECORD)
    fill(server, 0.93)
    gateway = await start_gateway(store=store)
    await shows(gateway, 200, warnings=[NEARLY_FULL, NOT_PERSISTED])
    await gateway.logged(NEARLY_FULL)
    page, _ = gateway.gateway.metrics.exposition("")
    (shown,) = re.findall(rb"^blnk_gateway_key_store_memory_ratio (\S+)$", page, re.MULTILINE)
    assert float(shown) > 0.9


async def test_a_nearly_full_redis_is_reported_once_until_there_is_room_again(
    store: RedisKeyStore, server: RedisServer
) -> None:
    class Log:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def warning(self, line: str) -> None:
            self.lines.append(line)

    log, health = Log(), Health(version="")
    watch = StoreWatch(store, log, health, lambda _: None, only_record=False)
    # Compared with this, the memory of connections is negligible.
    server.command("SET", "ballast", b"x" * 20_000_000)

    async def reported_at(ratio: float) -> bool:
        fill(server, ratio)
        await eventually(lambda: round(watch.memory or 0.0, 2) == ratio, f"a look at {ratio}")
        # The warning is set in the same step as the ratio.
        return NEARLY_FULL in health.warnings

    watching = asyncio.create_task(watch.run(every=0.02))
    try:
        reported = [await reported_at(ratio) for ratio in (0.7, 0.93, 0.87, 0.94, 0.7, 0.87, 0.93)]
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert reported == [False, True, True, True, False, False, True]
    assert log.lines.count(NEARLY_FULL) == 2
