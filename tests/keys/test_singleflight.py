"""One flight for all who ask the same at once: who has what of it."""

from __future__ import annotations

import asyncio

from gateway.errors import GatewayError
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.singleflight import shared


class Work:
    """Counts how often it is begun; ends once it is let go."""

    def __init__(self, failure: GatewayError | None = None) -> None:
        self.begun = 0
        self.let_go = asyncio.Event()
        self.flights: dict[str, asyncio.Task[int | GatewayError]] = {}
        self._failure = failure

    async def ask(self, name: str = "a") -> int:
        return await shared(self.flights, name, self._run)

    async def _run(self) -> int:
        self.begun += 1
        number = self.begun
        await self.let_go.wait()
        if self._failure is not None:
            raise self._failure
        return number


async def test_who_asks_meanwhile_shares_it_and_who_asks_later_does_not() -> None:
    work = Work()
    asking = [asyncio.ensure_future(work.ask(name)) for name in ("a", "a", "b")]
    await asyncio.sleep(0)
    work.let_go.set()
    assert await asyncio.gather(*asking) == [1, 1, 2]
    assert await work.ask() == 3
    await asyncio.sleep(0)
    assert work.flights == {}


async def test_it_goes_on_where_who_began_it_leaves() -> None:
    work = Work()
    first, second = asyncio.ensure_future(work.ask()), asyncio.ensure_future(work.ask())
    await asyncio.sleep(0)
    first.cancel()
    work.let_go.set()
    assert await second == 1
    assert first.cancelled()


async def test_each_has_a_failure_of_his_own() -> None:
    """One that is raised twice would gather the tracebacks of all."""
    work = Work(StoreUnavailableError(reason="away"))
    work.let_go.set()
    one, other = await asyncio.gather(work.ask(), work.ask(), return_exceptions=True)
    assert isinstance(one, GatewayError)
    assert isinstance(other, GatewayError)
    assert (one.reason, other.reason, one is other) == ("away", "away", False)
