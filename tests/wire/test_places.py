"""The places at Core as counts: what is taken, waited for and given back."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import GatewayError
from gateway.wire.places import Places
from gateway.wire.pool import OwnCall


def one() -> OwnCall:
    """A request of a party."""
    return OwnCall("one", "192.0.2.1")


def other() -> OwnCall:
    """A request of another party, from elsewhere."""
    return OwnCall("other", "192.0.2.2")


@pytest.fixture
async def places() -> Places:
    """One place and one that is kept; two requests may wait."""
    made = Places(asyncio.get_running_loop(), lambda *_: None)
    made.adopt(1, 2, 60.0)
    return made


@pytest.fixture
def held(places: Places) -> OwnCall:
    """The request that holds the place; another's holds the one that is kept."""
    first = one()
    assert places.claim(first)
    assert places.claim(other())
    return first


async def waiting(places: Places, call: OwnCall, count: int, *, streams: bool = False) -> asyncio.Task[None]:
    """A request that waits for a place; so many wait then."""
    task = asyncio.create_task(places.wait(call, streams=streams))
    await asyncio.sleep(0)
    assert places.waiting == count
    return task


async def test_who_is_refused_and_leaves_in_one_turn_gives_nothing_back(
    places: Places, held: OwnCall
) -> None:
    """It never had a place."""
    tasks = [await waiting(places, call, count) for call, count in ((one(), 1), (one(), 2), (other(), 2))]
    refused = tasks[1]
    refused.cancel()
    with pytest.raises(asyncio.CancelledError):
        await refused
    assert (places.held, places.waiting) == (2, 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (places.held, places.waiting) == (2, 0)


async def test_who_leaves_as_its_turn_comes_gives_its_place_back(places: Places, held: OwnCall) -> None:
    task = await waiting(places, one(), 1)
    places.give(held)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (places.held, places.waiting) == (1, 0)


async def test_who_waits_for_too_long_is_refused(places: Places, held: OwnCall) -> None:
    places.adopt(1, 1, 0.05)
    with pytest.raises(GatewayError):
        await places.wait(one(), streams=False)
    assert (places.held, places.waiting) == (2, 0)


async def test_an_upload_waits_for_one_that_is_cut(places: Places) -> None:
    """Also while there are places enough for requests that do not stream."""
    places.adopt(3, 2, 60.0)
    first = one()
    assert places.claim_for_stream(first)
    task = await waiting(places, one(), 1, streams=True)
    places.give(first)
    async with asyncio.timeout(1):
        await task
    assert (places.held, places.waiting) == (1, 0)
