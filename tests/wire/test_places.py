"""The places at Core as counts: what is taken, waited for and given back."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import GatewayError
from gateway.fairness.shares import Claimant
from gateway.wire.places import PRESS_SECONDS, Places
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
    made = Places(asyncio.get_running_loop(), lambda *_: False)
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


async def test_many_that_wait_ask_for_a_place_no_more_often_than_a_few() -> None:
    """Each time costs a pass over all connections: a thousand keys would hold up the event loop."""
    pressed: list[Claimant] = []

    def press(waiting: Claimant, streams: bool) -> bool:
        pressed.append(waiting)
        return False

    places = Places(asyncio.get_running_loop(), press)
    places.adopt(1, 1000, 10 * PRESS_SECONDS)
    taken = [OwnCall(f"busy {number}", "here") for number in range(2)]
    assert all(map(places.claim, taken))
    tasks = [
        asyncio.ensure_future(places.wait(OwnCall(f"key {number}", "here"), streams=number % 2 == 0))
        for number in range(1000)
    ]
    await asyncio.sleep(0)
    pressed.clear()
    await asyncio.sleep(4.5 * PRESS_SECONDS)
    assert 1 <= len(pressed) <= 8
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for call in taken:
        places.give(call)
    assert (places.held, places.waiting) == (0, 0)


async def test_a_place_that_is_claimed_twice_is_given_back_once(places: Places, held: OwnCall) -> None:
    """A connection may end without being heard of before its request claims another."""
    places.claim(held)
    places.give(held)
    places.give(held)
    assert (places.held, places.weight(held)) == (1, (0, 0))


async def test_a_full_queue_turns_away_one_that_has_more_than_the_newcomer(places: Places) -> None:
    """Also where the key that has most of all does not yield, since the newcomer's network has more."""
    places.adopt(1, 20, 60.0)
    taken = [OwnCall("busy", "network 0"), OwnCall("other", "network 0")]
    assert all(map(places.claim, taken))
    waiting = {"C": "network 2", "B": "network 1", "E": "network 1"}
    tasks = {
        key: [await waits(places, OwnCall(key, waiting[key])) for _ in range(count)]
        for key, count in (("C", 10), ("B", 9), ("E", 1))
    }
    newcomer = await waits(places, OwnCall("A", "network 1"))
    refused = [key for key, of_key in tasks.items() for task in of_key if task.done()]
    assert (refused, newcomer.done(), places.waiting) == (["B"], False, 20)
    everybody = [newcomer, *(task for of_key in tasks.values() for task in of_key)]
    for task in everybody:
        task.cancel()
    await asyncio.gather(*everybody, return_exceptions=True)


async def test_an_upload_waits_behind_nobody_whose_uploads_are_too_many(places: Places) -> None:
    """A kept place for streams goes to a key without streams, though another has fewer places."""
    places.adopt(32, 20, 60.0)
    a, c = ([OwnCall(key, "here") for _ in range(9)] for key in "ac")
    b = [OwnCall("b", "here") for _ in range(9)]
    assert all(map(places.claim, b))
    taken = [call for call in [*a, *c] if places.claim_for_stream(call)]
    first = await waits(places, OwnCall("a", "here"), streams=True)
    second = await waits(places, OwnCall("b", "here"), streams=True)
    assert (first.done(), second.done()) == (False, False)
    places.give(taken[-1])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (first.done(), second.done()) == (False, True)
    first.cancel()


async def waits(places: Places, call: OwnCall, *, streams: bool = False) -> asyncio.Task[None]:
    """A request that waits for a place, or has been refused, or has it."""
    task = asyncio.create_task(places.wait(call, streams=streams))
    for _ in range(3):
        await asyncio.sleep(0)
    return task
