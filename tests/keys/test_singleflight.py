"""Callers that ask for the same work at the same time share one run of it."""

from __future__ import annotations

import asyncio

from gateway.errors import GatewayError
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.singleflight import SingleFlight


class Work:
    """Counts how often it is started; ends when a test lets it."""

    def __init__(self, failure: GatewayError | None = None) -> None:
        self.begun = 0
        self.let_go = asyncio.Event()
        self.calls: SingleFlight[int] = SingleFlight()
        self._failure = failure

    async def ask(self, name: str = "a") -> int:
        return await self.calls.do(name, self.run)

    async def run(self) -> int:
        self.begun += 1
        number = self.begun
        await self.let_go.wait()
        if self._failure is not None:
            raise self._failure
        return number


async def test_simultaneous_callers_share_one_run_and_later_callers_do_not() -> None:
    work = Work()
    asking = [asyncio.ensure_future(work.ask(name)) for name in ("a", "a", "b")]
    await asyncio.sleep(0)
    work.let_go.set()
    assert await asyncio.gather(*asking) == [1, 1, 2]
    assert await work.ask() == 3


async def test_the_run_continues_if_the_caller_that_started_it_leaves() -> None:
    work = Work()
    first, second = asyncio.ensure_future(work.ask()), asyncio.ensure_future(work.ask())
    await asyncio.sleep(0)
    first.cancel()
    work.let_go.set()
    assert await second == 1
    assert first.cancelled()


async def test_each_caller_gets_its_own_copy_of_a_failure() -> None:
    """An exception that several callers raised would collect the tracebacks of all."""
    work = Work(StoreUnavailableError(reason="away"))
    work.let_go.set()
    one, other = await asyncio.gather(work.ask(), work.ask(), return_exceptions=True)
    assert isinstance(one, GatewayError)
    assert isinstance(other, GatewayError)
    assert (one.reason, other.reason, one is other) == ("away", "away", False)


async def test_a_forgotten_run_ends_and_the_next_caller_starts_another() -> None:
    work = Work()
    asking = [asyncio.ensure_future(work.ask(name)) for name in ("a", "b")]
    await asyncio.sleep(0)
    call = work.calls.start("a", lambda _: work.run())
    other = work.calls.start("b", lambda _: work.run())
    work.calls.forget("a")
    assert (call.forgotten, other.forgotten) == (True, False)
    asking.append(asyncio.ensure_future(work.ask()))
    await asyncio.sleep(0)
    work.calls.forget_all()
    assert other.forgotten
    work.let_go.set()
    assert await asyncio.gather(*asking) == [1, 2, 3]


async def test_closing_cancels_the_runs_under_way() -> None:
    work = Work()
    asking = asyncio.ensure_future(work.ask())
    async with asyncio.timeout(5):
        while not work.begun:
            await asyncio.sleep(0)
    await work.calls.close()
    await asyncio.wait([asking])
    assert (work.begun, asking.cancelled()) == (1, True)
