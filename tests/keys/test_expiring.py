"""The number of keys that end within a week, counted in small steps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gateway.gocompat.times import Instant
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.expiring import SOON_SECONDS, ExpiringKeys
from gateway.keys.minting import digest
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore
from tests.keys.records import RECORD, revocation
from tests.running import eventually

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def record(number: int, *, days: float, owner: str = "acme") -> KeyRecord:
    return replace(
        RECORD,
        id=f"api_key_00000000-0000-4000-8000-{number:012}",
        digest=digest(str(number)),
        owner=owner,
        expires_at=Instant.of(NOW + timedelta(days=days)),
    )


class Steps:
    """A store that counts in steps, of which some fail; the last count is repeated for ever."""

    def __init__(self, *counts: list[int | None]) -> None:
        self._counts = list(counts)
        self.asked: list[tuple[float, float]] = []

    async def count_ends(self, after: float, until: float) -> AsyncIterator[int]:
        self.asked.append((after, until))
        for number in self._counts.pop(0) if len(self._counts) > 1 else self._counts[0]:
            if number is None:
                raise StoreUnavailableError
            yield number


async def test_a_store_counts_live_keys_of_all_owners_by_when_they_end(store: KeyStore) -> None:
    """Keys that have ended, or are revoked, do not count."""
    days = {1: 1.0, 2: 6.9, 3: 7.1, 4: -1.0, 5: 2.0, 6: 3.0}
    for number, end in days.items():
        await store.add(record(number, days=end, owner=f"owner {number % 2}"))
    ended = replace(record(6, days=3.0), revocation=revocation("2026-10-01T00:00:00Z", "master"))
    await store.revise(ended.id, lambda found: replace(found, revocation=ended.revocation))
    since = NOW.timestamp()
    counts = [number async for number in store.count_ends(since, since + SOON_SECONDS)]
    assert sum(counts) == 3


async def test_the_steps_of_a_count_add_up() -> None:
    store = Steps([2, 0, 5], [1])
    expiring = ExpiringKeys(store, NOW.timestamp)
    counting = asyncio.create_task(expiring.run(every=0.05, step=0.0))
    await eventually(lambda: expiring.count == 7, "the first count")
    await eventually(lambda: expiring.count == 1, "the second count")
    counting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await counting
    assert store.asked[0] == (NOW.timestamp(), NOW.timestamp() + 7 * 86400)


async def test_a_count_that_fails_leaves_the_last_one() -> None:
    store = Steps([3], [9, None])
    expiring = ExpiringKeys(store, NOW.timestamp)
    counting = asyncio.create_task(expiring.run(every=0.0, step=0.0))
    await eventually(lambda: len(store.asked) > 2, "a count that fails")
    assert expiring.count == 3
    counting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await counting
