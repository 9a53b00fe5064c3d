"""Reads that many wait for, done as few."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import Code, GatewayError
from gateway.keys.batches import Batches, BatchLimits

LIMITS = BatchLimits(size=3, waiting=5, pause=0.0)


class Reads:
    """Reads that end when the test says so; keeps what each was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.going = asyncio.Event()
        self.going.set()
        self.failure: GatewayError | None = None

    async def read(self, names: list[str]) -> dict[str, str]:
        self.asked.append(names)
        await self.going.wait()
        if self.failure is not None:
            raise self.failure
        return {name: name.upper() for name in names if name != "nobody"}


async def started(batches: Batches[str], *names: str) -> list[asyncio.Task[str | None]]:
    tasks = [asyncio.create_task(batches.get(name)) for name in names]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_what_is_wanted_meanwhile_is_read_next() -> None:
    """One read at a time, each with everybody who waits, and the same name once."""
    reads = Reads()
    batches = Batches(reads.read, LIMITS)
    reads.going.clear()
    first = await started(batches, "a")
    rest = await started(batches, "a", "b", "b", "nobody")
    reads.going.set()
    assert await asyncio.gather(*first, *rest) == ["A", "A", "B", "B", None]
    assert reads.asked == [["a"], ["a", "b", "nobody"]]


async def test_a_read_is_no_larger_than_its_bound() -> None:
    reads = Reads()
    batches = Batches(reads.read, LIMITS)
    assert await asyncio.gather(*(batches.get(name) for name in "abcde")) == list("ABCDE")
    assert reads.asked == [["a", "b", "c"], ["d", "e"]]


async def test_who_would_be_too_many_fails_at_once() -> None:
    reads = Reads()
    batches = Batches(reads.read, LIMITS)
    reads.going.clear()
    waiting = await started(batches, "a") + await started(batches, *"bcdef")
    with pytest.raises(GatewayError) as failure:
        await batches.get("g")
    assert failure.value.code is Code.KEY_STORE_UNAVAILABLE
    reads.going.set()
    assert await asyncio.gather(*waiting) == list("ABCDEF")


async def test_a_failure_fails_all_who_wait_and_nobody_after() -> None:
    reads = Reads()
    batches = Batches(reads.read, LIMITS)
    reads.going.clear()
    waiting = await started(batches, "a") + await started(batches, "b")
    reads.failure = GatewayError(Code.KEY_STORE_UNAVAILABLE)
    reads.going.set()
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(failure) for failure in failures] == [GatewayError, GatewayError]
    reads.failure = None
    assert await batches.get("c") == "C"
    assert reads.asked == [["a"], ["c"]]


async def test_who_leaves_fails_nobody_else() -> None:
    reads = Reads()
    batches = Batches(reads.read, LIMITS)
    reads.going.clear()
    leaving, staying = await started(batches, "a", "a")
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    reads.going.set()
    assert await staying == "A"


async def test_closing_fails_all_who_wait() -> None:
    reads = Reads()
    batches = Batches(reads.read, LIMITS)
    reads.going.clear()
    waiting = await started(batches, "a") + await started(batches, "b")
    await batches.close()
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(failure) for failure in failures] == [GatewayError, GatewayError]


async def test_closing_what_never_read_is_nothing() -> None:
    await Batches(Reads().read, LIMITS).close()
