"""The times and failures of commands to Redis, by their kind."""

from __future__ import annotations

import pytest

from gateway.keys.command_times import CommandKind
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.quota import Quota, QuotaError
from gateway.keys.redis.store import RedisKeyStore
from tests.keys.records import OTHER, RECORD
from tests.redis_server import free_port

pytestmark = pytest.mark.redis


def counts(store: RedisKeyStore) -> dict[str, tuple[float, int]]:
    """Return the number of responses and of failures of each kind."""
    return {
        kind.value: (times.responses.cumulative[-1][1], times.failures)
        for kind, times in store.times.by_kind.items()
    }


async def test_each_command_counts_once_by_its_kind(redis_store: RedisKeyStore) -> None:
    await redis_store.add(RECORD)
    await redis_store.get_by_digest(RECORD.digest)
    await redis_store.get_by_digest("unknown", "192.0.2.1")
    await redis_store.changes(await redis_store.last_position(), 0.01)
    assert counts(redis_store) == {"look_up": (2, 0), "change": (1, 0), "follow": (1, 0)}


async def test_a_refused_change_is_a_response(redis_store: RedisKeyStore) -> None:
    """A quota is no fault of the store."""
    await redis_store.add(RECORD)
    with pytest.raises(QuotaError):
        await redis_store.add(OTHER, Quota(1))
    assert counts(redis_store)["change"] == (2, 0)


async def test_the_time_that_redis_was_asked_to_wait_is_left_out(redis_store: RedisKeyStore) -> None:
    await redis_store.changes(await redis_store.last_position(), 0.5)
    times = redis_store.times.by_kind[CommandKind.FOLLOW].responses
    assert times.total < 0.4


async def test_a_read_that_changes_cut_short_has_no_time(redis_store: RedisKeyStore) -> None:
    """Nobody knows how long Redis waited for a change that came."""
    position = await redis_store.last_position()
    await redis_store.add(RECORD)
    await redis_store.changes(position, 0.5)
    assert counts(redis_store)["follow"] == (0, 0)


async def test_a_redis_that_is_away_fails_every_kind() -> None:
    store = RedisKeyStore(f"redis://127.0.0.1:{free_port()}")
    for call in (
        lambda: store.get_by_digest(RECORD.digest),
        lambda: store.add(RECORD),
        lambda: store.changes("0-0", 0.01),
    ):
        with pytest.raises(StoreUnavailableError):
            await call()
    await store.close()
    assert counts(store) == {"look_up": (0, 1), "change": (0, 1), "follow": (0, 1)}
