"""What is said of a Redis that would lose keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.errors import Code, GatewayError
from gateway.keys.persistence import (
    EVICTION_UNKNOWN,
    EVICTS,
    NOT_PERSISTED,
    PERSISTENCE_UNKNOWN,
    SNAPSHOTS,
    WRITTEN_LATER,
)
from gateway.keys.redis_store import RedisKeyStore
from tests.conftest import Start
from tests.keys import redis_acl
from tests.keys.conftest import RedisServer, start_redis
from tests.keys.records import RECORD
from tests.test_server import shows

pytestmark = pytest.mark.redis

EMPTY = "the key store is empty: every client but one with the master key will get 401"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that persists nothing, for tests to change."""
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
async def test_what_may_not_be_asked_is_said_to_be_unchecked(
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


async def test_a_redis_that_is_down_is_asked_again(store: RedisKeyStore, server: RedisServer) -> None:
    server.kill()
    with pytest.raises(GatewayError) as failure:
        await store.warnings()
    assert failure.value.code is Code.KEY_STORE_UNAVAILABLE


async def test_readiness_and_the_log_carry_the_warnings(start_gateway: Start, store: RedisKeyStore) -> None:
    gateway = await start_gateway(store=store)
    await shows(gateway, 200, warnings=[EMPTY, NOT_PERSISTED])
    await gateway.logged("Redis persists nothing")


async def test_a_store_that_is_emptied_is_told_of(
    start_gateway: Start, store: RedisKeyStore, server: RedisServer
) -> None:
    """Every client gets 401 then, and it is not the clients' fault."""
    await store.add(RECORD)
    gateway = await start_gateway(store=store)
    await shows(gateway, 200, warnings=[NOT_PERSISTED])
    server.command("FLUSHALL")
    await shows(gateway, 200, warnings=[EMPTY, NOT_PERSISTED])
    await gateway.logged("changes in the key store were missed: it was emptied, restored, or ")
