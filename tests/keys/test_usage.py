"""Last uses: noted for nothing, written in batches, kept while the store is down."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from gateway.keys.errors import StoreUnavailableError
from gateway.keys.usage import LastUsed


class Recording:
    """A store that keeps what it is told, or fails."""

    def __init__(self) -> None:
        self.writes: list[dict[str, float]] = []
        self.down = False
        self.told = asyncio.Event()

    async def record_uses(self, times: Mapping[str, float]) -> None:
        if self.down:
            raise StoreUnavailableError
        self.writes.append(dict(times))
        self.told.set()


async def test_many_uses_are_one_write() -> None:
    store = Recording()
    last_used = LastUsed(store)
    for now in range(1000):
        last_used.note("a", float(now))
    last_used.note("b", 5.0)
    await last_used.write()
    await last_used.write()
    assert store.writes == [{"a": 999.0, "b": 5.0}]


async def test_what_could_not_be_written_is_written_later() -> None:
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


async def test_a_use_during_a_write_that_fails_is_the_later_one() -> None:
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


async def test_a_use_whose_write_is_cut_short_is_written_at_the_end() -> None:
    """Whether it arrived nobody knows, and twice does no harm."""

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


async def test_what_is_noted_is_bounded_also_while_the_store_is_down() -> None:
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


async def test_it_writes_by_itself() -> None:
    store = Recording()
    last_used = LastUsed(store)
    last_used.note("a", 1.0)
    task = asyncio.create_task(last_used.run(every=0.001))
    async with asyncio.timeout(5):
        await store.told.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert store.writes == [{"a": 1.0}]
