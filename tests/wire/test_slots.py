"""The counts of slots at Core: taken, waited for and given back."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import GatewayError
from gateway.fairness.shares import Claimant
from gateway.wire.slots import ASK_AGAIN_SECONDS, Slots
from gateway.wire.upstream_request import OwnRequest


def one() -> OwnRequest:
    """A request of one party."""
    return OwnRequest("one", "192.0.2.1")


def other() -> OwnRequest:
    """A request of another party, from another address."""
    return OwnRequest("other", "192.0.2.2")


@pytest.fixture
async def slots() -> Slots:
    """Slots of which one is shared and one is kept; two requests may wait."""
    made = Slots(asyncio.get_running_loop(), lambda *_: False)
    made.adopt(1, 2, 60.0)
    return made


@pytest.fixture
def held(slots: Slots) -> OwnRequest:
    """The request that holds the shared slot; another party's holds the kept one."""
    first = one()
    assert slots.claim(first)
    assert slots.claim(other())
    return first


async def waiting(slots: Slots, call: OwnRequest, count: int, *, streams: bool = False) -> asyncio.Task[None]:
    """Return a request that waits for a slot, after asserting how many wait then."""
    task = asyncio.create_task(slots.wait(call, streams=streams))
    await asyncio.sleep(0)
    assert slots.waiting == count
    return task


async def test_one_that_is_refused_and_leaves_in_one_turn_gives_nothing_back(
    slots: Slots, held: OwnRequest
) -> None:
    """A request that is refused and leaves in the same turn gives no slot back, since it never had one."""
    tasks = [await waiting(slots, call, count) for call, count in ((one(), 1), (one(), 2), (other(), 2))]
    refused = tasks[1]
    refused.cancel()
    with pytest.raises(asyncio.CancelledError):
        await refused
    assert (slots.held, slots.waiting) == (2, 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (slots.held, slots.waiting) == (2, 0)


async def test_one_that_leaves_as_its_turn_comes_gives_its_slot_back(slots: Slots, held: OwnRequest) -> None:
    task = await waiting(slots, one(), 1)
    slots.release(held)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (slots.held, slots.waiting) == (1, 0)


async def test_one_that_waits_for_too_long_is_refused(slots: Slots, held: OwnRequest) -> None:
    slots.adopt(1, 1, 0.05)
    with pytest.raises(GatewayError):
        await slots.wait(one(), streams=False)
    assert (slots.held, slots.waiting) == (2, 0)


async def test_an_upload_waits_for_one_that_is_cut(slots: Slots) -> None:
    """An upload waits until another is cut, even if slots for requests without a stream are free."""
    slots.adopt(3, 2, 60.0)
    first = one()
    assert slots.claim_for_stream(first)
    task = await waiting(slots, one(), 1, streams=True)
    slots.release(first)
    async with asyncio.timeout(1):
        await task
    assert (slots.held, slots.waiting) == (1, 0)


async def test_many_that_wait_ask_for_a_slot_no_more_often_than_a_few() -> None:
    """Many requests that wait call for a slot as often as few: each call goes through all connections."""
    pressed: list[Claimant] = []

    def press(waiting: Claimant, streams: bool) -> bool:
        pressed.append(waiting)
        return False

    slots = Slots(asyncio.get_running_loop(), press)
    slots.adopt(1, 1000, 10 * ASK_AGAIN_SECONDS)
    taken = [OwnRequest(f"busy {number}", "here") for number in range(2)]
    assert all(map(slots.claim, taken))
    tasks = [
        asyncio.ensure_future(slots.wait(OwnRequest(f"key {number}", "here"), streams=number % 2 == 0))
        for number in range(1000)
    ]
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.sleep(0)
    pressed.clear()
    await asyncio.sleep(4.5 * ASK_AGAIN_SECONDS)
    # Uploads and the other requests each ask once in this time; a busy machine sleeps for longer.
    assert 1 <= len(pressed) <= 2 * ((loop.time() - began) // ASK_AGAIN_SECONDS)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for call in taken:
        slots.release(call)
    assert (slots.held, slots.waiting) == (0, 0)


async def test_a_slot_that_is_claimed_twice_is_given_back_once(slots: Slots, held: OwnRequest) -> None:
    """A slot that its request claims twice is given back once."""
    slots.claim(held)
    slots.release(held)
    slots.release(held)
    assert (slots.held, slots.weight(held)) == (1, (0, 0))


async def test_a_full_queue_turns_away_one_that_has_more_than_the_newcomer(slots: Slots) -> None:
    """A full queue refuses a request of the larger network, even if the key with most has a smaller one."""
    slots.adopt(1, 20, 60.0)
    taken = [OwnRequest("busy", "network 0"), OwnRequest("other", "network 0")]
    assert all(map(slots.claim, taken))
    waiting = {"C": "network 2", "B": "network 1", "E": "network 1"}
    tasks = {
        key: [await waits(slots, OwnRequest(key, waiting[key])) for _ in range(count)]
        for key, count in (("C", 10), ("B", 9), ("E", 1))
    }
    newcomer = await waits(slots, OwnRequest("A", "network 1"))
    refused = [key for key, of_key in tasks.items() for task in of_key if task.done()]
    assert (refused, newcomer.done(), slots.waiting) == (["B"], False, 20)
    everybody = [newcomer, *(task for of_key in tasks.values() for task in of_key)]
    for task in everybody:
        task.cancel()
    await asyncio.gather(*everybody, return_exceptions=True)


async def test_an_upload_waits_behind_nobody_whose_uploads_are_too_many(slots: Slots) -> None:
    """A kept slot for streams goes to a key without streams, even if another key has fewer slots."""
    slots.adopt(32, 20, 60.0)
    a, c = ([OwnRequest(key, "here") for _ in range(9)] for key in "ac")
    b = [OwnRequest("b", "here") for _ in range(9)]
    assert all(map(slots.claim, b))
    taken = [call for call in [*a, *c] if slots.claim_for_stream(call)]
    first = await waits(slots, OwnRequest("a", "here"), streams=True)
    second = await waits(slots, OwnRequest("b", "here"), streams=True)
    assert (first.done(), second.done()) == (False, False)
    slots.release(taken[-1])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (first.done(), second.done()) == (False, True)
    first.cancel()


async def waits(slots: Slots, call: OwnRequest, *, streams: bool = False) -> asyncio.Task[None]:
    """Return the state of a request: it waits, has been refused, or has its slot."""
    task = asyncio.create_task(slots.wait(call, streams=streams))
    for _ in range(3):
        await asyncio.sleep(0)
    return task
