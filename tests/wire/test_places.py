"""The places at Core as counts: what is taken, waited for and given back."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import GatewayError
from gateway.wire.places import Place, Places

ONE = Place("one", "192.0.2.1", streams=False)
OTHER = Place("other", "192.0.2.2", streams=False)


@pytest.fixture
async def places() -> Places:
    """One place and one that is kept, both taken; two requests may wait."""
    made = Places(asyncio.get_running_loop(), lambda _: None)
    made.adopt(1, 2, 60.0)
    assert made.claim(ONE)
    assert made.claim(OTHER)
    return made


async def waiting(places: Places, place: Place, count: int) -> asyncio.Task[None]:
    """A request that waits for a place; so many wait then."""
    task = asyncio.create_task(places.wait(place, None))
    await asyncio.sleep(0)
    assert places.waiting == count
    return task


async def test_who_is_refused_and_leaves_in_one_turn_gives_nothing_back(places: Places) -> None:
    """It never had a place."""
    tasks = [await waiting(places, ONE, 1), await waiting(places, ONE, 2), await waiting(places, OTHER, 2)]
    refused = tasks[1]
    refused.cancel()
    with pytest.raises(asyncio.CancelledError):
        await refused
    assert (places.held, places.waiting) == (2, 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (places.held, places.waiting) == (2, 0)


async def test_who_leaves_as_its_turn_comes_gives_its_place_back(places: Places) -> None:
    task = await waiting(places, ONE, 1)
    places.give(ONE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (places.held, places.waiting) == (1, 0)


async def test_who_waits_for_too_long_is_refused(places: Places) -> None:
    places.adopt(1, 1, 0.05)
    with pytest.raises(GatewayError):
        await places.wait(ONE, None)
    assert (places.held, places.waiting) == (2, 0)
