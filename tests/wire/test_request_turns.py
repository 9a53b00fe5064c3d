"""The requests behind others of their connections that one turn of the event loop begins."""

from __future__ import annotations

import asyncio

import pytest

from gateway.wire.request_queue import RequestQueue
from gateway.wire.request_turns import PER_TURN, RequestTurns


class Connection:
    """A connection of a party that has a further request, and waits for its turn."""

    def __init__(self, party: str, turns: RequestTurns) -> None:
        self.party = party
        self.requests = RequestQueue(asyncio.get_running_loop())
        self.turn = self.requests.change()
        turns.wait(self)


@pytest.fixture
async def turns() -> RequestTurns:
    return RequestTurns(asyncio.get_running_loop())


def begun(connections: list[Connection]) -> int:
    """Return how many had their turn."""
    return sum(connection.turn.done() for connection in connections)


async def test_a_turn_begins_so_many_and_leaves_the_rest_to_the_next_ones(turns: RequestTurns) -> None:
    many = [Connection("many", turns) for _ in range(2 * PER_TURN + 1)]
    counts = []
    for _ in range(4):
        await asyncio.sleep(0)
        counts.append(begun(many))
    assert counts == [PER_TURN, 2 * PER_TURN, 2 * PER_TURN + 1, 2 * PER_TURN + 1]


async def test_parties_take_turns(turns: RequestTurns) -> None:
    """A party with one connection does not wait for those of a party with many."""
    many = [Connection("many", turns) for _ in range(10 * PER_TURN)]
    one = Connection("one", turns)
    await asyncio.sleep(0)
    assert (begun([one]), begun(many)) == (1, PER_TURN - 1)


async def test_one_that_has_ended_takes_no_turn(turns: RequestTurns) -> None:
    ended, other = Connection("a", turns), Connection("a", turns)
    turns.forget(ended)
    turns.forget(ended)
    await asyncio.sleep(0)
    assert (begun([ended]), begun([other])) == (0, 1)
