"""The queue for places at Core, however many wait in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.wire.places import PRESS_SECONDS, Place, Places


async def test_many_that_wait_ask_for_a_place_no_more_often_than_a_few() -> None:
    """Each time costs a pass over all connections: a thousand keys would hold up the event loop."""
    pressed: list[Place] = []
    places = Places(asyncio.get_running_loop(), pressed.append)
    places.adopt(1, 1000, 10 * PRESS_SECONDS)
    taken = Place("busy", "here", streams=False)
    assert places.claim(taken)
    waiting = [
        asyncio.ensure_future(places.wait(Place(f"key {number}", "here", streams=number % 2 == 0), None))
        for number in range(1000)
    ]
    await asyncio.sleep(0)
    pressed.clear()
    await asyncio.sleep(4.5 * PRESS_SECONDS)
    assert 1 <= len(pressed) <= 8
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    places.give(taken)
    assert (places.held, places.waiting) == (0, 0)


class Leaving:
    """A client that leaves when it is told to."""

    gone = abandoned = False

    def __init__(self) -> None:
        self.leave: Callable[[], None] | None = None

    def when_leaving(self, react: Callable[[], None] | None) -> None:
        self.leave = react


async def test_one_that_is_cancelled_as_it_is_turned_away_gives_nothing_back() -> None:
    """It never had a place."""
    places = Places(asyncio.get_running_loop(), lambda _: None)
    places.adopt(1, 1, 10.0)
    taken, client = Place("busy", "here", streams=False), Leaving()
    assert places.claim(taken)
    waiting = asyncio.ensure_future(places.wait(taken, client))
    await asyncio.sleep(0)
    assert client.leave is not None
    client.leave()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (places.held, places.waiting) == (1, 0)
