"""Expensive work is limited: only so many pieces run at once."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import Code, GatewayError
from gateway.fairness.concurrency import ConcurrencyLimit
from gateway.proxy.errors import code_of


class Work:
    """Pieces of work, each begun by its name, that run until the test ends them."""

    def __init__(self, turns: ConcurrencyLimit) -> None:
        self._turns = turns
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.begun: list[str] = []

    async def ask(self, *names: str) -> list[str]:
        """Begin pieces, such as `a1` of the party `a`; return the names of all that run or ran."""
        for name in names:
            self._ends[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._do(name))
        return await self._settled()

    async def end(self, name: str) -> list[str]:
        """End a piece that runs; return the names of all that run or ran."""
        self._ends[name].set()
        await self._tasks[name]
        return await self._settled()

    async def leave(self, name: str) -> list[str]:
        """Cancel a piece; return the names of all that run or ran."""
        self._tasks[name].cancel()
        return await self._settled()

    async def _do(self, name: str) -> None:
        async with self._turns.turn(name[0]):
            self.begun.append(name)
            await self._ends[name].wait()

    async def _settled(self) -> list[str]:
        for _ in range(10):
            await asyncio.sleep(0)
        return self.begun


async def test_a_party_has_only_so_much_at_once() -> None:
    work = Work(ConcurrencyLimit(2))
    assert await work.ask("a1", "a2", "a3", "b1") == ["a1", "a2", "b1"]
    assert await work.end("a2") == ["a1", "a2", "b1", "a3"]


async def test_the_parties_are_served_in_turn() -> None:
    """A party waits for at most one piece of another, however many pieces that one has waiting."""
    work = Work(ConcurrencyLimit(1, total=1))
    assert await work.ask("a1", "a2", "a3", "b1", "c1") == ["a1"]
    await work.end("a1")
    await work.end("b1")
    await work.end("c1")
    assert await work.end("a2") == ["a1", "b1", "c1", "a2", "a3"]


async def test_beyond_its_bound_a_party_is_refused_and_no_other() -> None:
    turns = ConcurrencyLimit(1, total=1, waiting=1)
    work = Work(turns)
    await work.ask("a1", "a2", "b1")
    with pytest.raises(GatewayError) as refused:
        await turns.turn("a").__aenter__()
    assert code_of(refused.value) is Code.UNAVAILABLE
    await work.end("a1")
    await work.end("b1")
    assert await work.end("a2") == ["a1", "b1", "a2"]


async def test_nothing_is_kept_of_a_party_that_wants_nothing_more() -> None:
    """A party that has ended, or that left while it waited, uses no memory."""
    turns = ConcurrencyLimit(1, total=1)
    work = Work(turns)
    await work.ask("a1", "b1", "b2")
    await work.leave("b1")
    await work.leave("b2")
    assert len(turns) == 1
    await work.end("a1")
    assert len(turns) == 0
    assert await work.ask("c1") == ["a1", "c1"]
    await work.end("c1")
