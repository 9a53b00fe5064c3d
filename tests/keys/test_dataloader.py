"""Reads that many callers wait for are done in few batches."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from gateway.errors import Code, GatewayError
from gateway.keys.dataloader import BatchLimits, BatchLoader
from gateway.keys.errors import KeysUnavailableError, LookupOverloadError, StoreUnavailableError
from gateway.proxy.errors import code_of

LIMITS = BatchLimits(size=3, waiting=5)


class Reads:
    """Records what each read was asked for; a test decides when a read ends, and whether it fails."""

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


async def started(batches: BatchLoader[str], *names: str, party: str = "") -> list[asyncio.Task[str | None]]:
    tasks = [asyncio.create_task(batches.get(name, party)) for name in names]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_names_that_are_wanted_during_a_read_are_in_the_next() -> None:
    """There is one read at a time; the next one has each name once, for all who wait for it."""
    reads = Reads()
    batches = BatchLoader(reads.read, LIMITS)
    reads.going.clear()
    first = await started(batches, "a")
    rest = await started(batches, "a", "b", "b", "nobody")
    reads.going.set()
    assert await asyncio.gather(*first, *rest) == ["A", "A", "B", "B", None]
    assert reads.asked == [["a"], ["a", "b", "nobody"]]


async def test_a_read_is_no_larger_than_its_limit() -> None:
    reads = Reads()
    batches = BatchLoader(reads.read, LIMITS)
    assert await asyncio.gather(*(batches.get(name) for name in "abcde")) == list("ABCDE")
    assert reads.asked == [["a", "b", "c"], ["d", "e"]]


async def test_a_caller_beyond_the_limit_fails_at_once() -> None:
    reads = Reads()
    batches = BatchLoader(reads.read, LIMITS)
    reads.going.clear()
    waiting = await started(batches, "a") + await started(batches, *"bcdef")
    with pytest.raises(LookupOverloadError) as failure:
        await batches.get("g")
    assert code_of(failure.value) is Code.KEY_STORE_UNAVAILABLE
    reads.going.set()
    assert await asyncio.gather(*waiting) == list("ABCDEF")


async def test_a_flood_from_one_party_delays_another_by_one_name() -> None:
    reads = Reads()
    batches = BatchLoader(reads.read, LIMITS)
    reads.going.clear()
    flood = await started(batches, "a") + await started(batches, *"bcdef", party="flood")
    other = await started(batches, "x", party="other")
    reads.going.set()
    await asyncio.gather(*flood, *other, return_exceptions=True)
    assert reads.asked == [["a"], ["b", "x", "c"], ["d", "e"]]
    # The flood has one name too many, and its last one is refused.
    assert [type(task.exception()) for task in flood] == [type(None)] * 5 + [LookupOverloadError]


async def test_a_name_that_two_parties_want_is_read_once_at_the_earlier_turn() -> None:
    """A name is read at the earliest turn of those who want it, so a long queue delays nobody else."""
    reads = Reads()
    batches = BatchLoader(reads.read, LIMITS)
    reads.going.clear()
    flood = await started(batches, "a") + await started(batches, *"bcx", party="flood")
    other = await started(batches, "x", party="other")
    reads.going.set()
    assert await asyncio.gather(*flood, *other) == ["A", "B", "C", "X", "X"]
    assert reads.asked == [["a"], ["b", "x", "c"], ["x"]]


async def test_a_caller_that_waited_too_long_is_refused_and_not_read() -> None:
    reads, now = Reads(), 100.0
    batches = BatchLoader(reads.read, BatchLimits(size=3, waiting=5, patience=0.5), lambda: now)
    reads.going.clear()
    first = await started(batches, "a")
    late = await started(batches, *"bc")
    now += 0.4
    timely = await started(batches, "d")
    now += 0.2
    reads.going.set()
    assert await asyncio.gather(*first, *timely) == ["A", "D"]
    assert [type(each) for each in await asyncio.gather(*late, return_exceptions=True)] == [
        LookupOverloadError
    ] * 2
    assert reads.asked == [["a"], ["d"]]


async def test_one_turn_of_the_loop_completes_no_more_callers_than_one_read_has() -> None:
    """Other tasks get their turns in between, in a flood and also when all callers fail."""
    reads, now = Reads(), 100.0
    batches = BatchLoader(reads.read, BatchLimits(size=3, waiting=100, patience=0.5), lambda: now)
    reads.going.clear()
    waiting = await started(batches, "a") + await started(batches, *map(str, range(20)))
    now += 1
    reads.failure = StoreUnavailableError()
    reads.going.set()
    done = [0]
    while done[-1] < len(waiting):
        await asyncio.sleep(0)
        done.append(sum(task.done() for task in waiting))
    assert max(after - before for before, after in pairwise(done)) <= 3
    assert reads.asked == [["a"]]


async def test_a_name_that_fails_alone_fails_nobody_else() -> None:
    async def read(names: list[str]) -> dict[str, str | GatewayError]:
        failure = StoreUnavailableError(reason="unreadable")
        return {name: failure if name == "bad" else name.upper() for name in names}

    batches = BatchLoader(read, LIMITS)
    good, bad = await asyncio.gather(batches.get("a"), batches.get("bad"), return_exceptions=True)
    assert good == "A"
    assert isinstance(bad, GatewayError)
    assert bad.reason == "unreadable"


async def test_a_failure_fails_all_who_wait_and_nobody_after() -> None:
    reads = Reads()
    batches = BatchLoader(reads.read, LIMITS)
    reads.going.clear()
    waiting = await started(batches, "a") + await started(batches, "b")
    reads.failure = StoreUnavailableError()
    reads.going.set()
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(failure) for failure in failures] == [StoreUnavailableError] * 2
    reads.failure = None
    assert await batches.get("c") == "C"
    assert reads.asked == [["a"], ["c"]]


async def test_a_caller_that_is_cancelled_fails_nobody_else() -> None:
    reads = Reads()
    batches = BatchLoader(reads.read, LIMITS)
    reads.going.clear()
    leaving, staying = await started(batches, "a", "a")
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    reads.going.set()
    assert await staying == "A"


async def test_closing_fails_all_who_wait() -> None:
    reads = Reads()
    batches = BatchLoader(reads.read, LIMITS)
    reads.going.clear()
    waiting = await started(batches, "a") + await started(batches, "b")
    await batches.close()
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(failure) for failure in failures] == [KeysUnavailableError] * 2


async def test_a_loader_that_never_read_can_be_closed() -> None:
    await BatchLoader(Reads().read, LIMITS).close()
