"""Last uses of keys: recorded without I/O, written in batches, and kept while the store is down."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from gateway.keys.errors import StoreUnavailableError
from gateway.keys.usage import LastUsed


class Recording:
    """A store that keeps the last uses that it gets, or fails."""

    def __init__(self) -> None:
        self.writes: list[dict[str, float]] = []
        self.down = False
        self.written = asyncio.Event()

    async def record_uses(self, times: Mapping[str, float]) -> None:
        if self.down:
            raise StoreUnavailableError
        self.writes.append(dict(times))
        self.written.set()


async def test_many_uses_are_one_write() -> None:
    store = Recording()
    last_used = LastUsed(store)
    for now in range(1000):
        last_used.note("a", float(now))
    last_used.note("b", 5.0)
    await last_used.write()
    await last_used.write()
    assert store.writes == [{"a": 999.0, "b": 5.0}]


async def test_uses_that_could_not_be_written_are_written_later() -> None:
    store = Recording()
    store.down = True
    last_used = LastUsed(store)
    last_used.note("a", 1.0)
    last_used.note("b", 1.0)
    await last_used.write()
    last_used.note("b", 2.0)
    store.down = False
    await last_used.write()
    assert store.writes == [{"a": 1.0, "b": 2.0}]


async def test_a_use_during_a_failed_write_wins_over_the_earlier_one() -> None:
    class Slow(Recording):
        async def record_uses(self, times: Mapping[str, float]) -> None:
            last_used.note("a", 2.0)
            await super().record_uses(times)

    store = Slow()
    store.down = True
    last_used = LastUsed(store)
    last_used.note("a", 1.0)
    await last_used.write()
    store.down = False
    await last_used.write()
    assert store.writes == [{"a": 2.0}]


async def test_a_use_whose_write_was_cancelled_is_written_at_the_end() -> None:
    """A write that was cancelled is repeated at the end, because it may not have arrived."""

    class Stuck(Recording):
        stuck = True

        async def record_uses(self, times: Mapping[str, float]) -> None:
            if self.stuck:
                await asyncio.Event().wait()
            await super().record_uses(times)

    store = Stuck()
    last_used = LastUsed(store)
    last_used.note("a", 1.0)
    writing = asyncio.create_task(last_used.write())
    await asyncio.sleep(0)
    writing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await writing
    store.stuck = False
    await last_used.write()
    assert store.writes == [{"a": 1.0}]


async def test_the_number_of_recorded_uses_is_limited_also_while_the_store_is_down() -> None:
    store = Recording()
    store.down = True
    last_used = LastUsed(store, max_noted=2)
    for name in ("a", "b", "c"):
        last_used.note(name, 1.0)
    await last_used.write()
    last_used.note("a", 2.0)
    last_used.note("d", 2.0)
    store.down = False
    await last_used.write()
    assert store.writes == [{"a": 2.0, "b": 1.0}]


async def test_uses_are_written_periodically() -> None:
    store = Recording()
    last_used = LastUsed(store)
    last_used.note("a", 1.0)
    task = asyncio.create_task(last_used.run(every=0.001))
    async with asyncio.timeout(5):
        await store.written.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert store.writes == [{"a": 1.0}]
