"""The bytes that one turn of the event loop parses, and how connections share them."""

from __future__ import annotations

import asyncio

import pytest

from gateway.wire.parse_budget import ParseBudget


class Connection:
    """A connection with pieces of 10 bytes to parse, which records each in a shared list."""

    def __init__(self, party: str, pieces: int, turns: ParseBudget, parsed: list[str]) -> None:
        self.party = party
        self._pieces = pieces
        self._turns = turns
        self._parsed = parsed

    def parse_next(self) -> int:
        self._pieces -= 1
        self._parsed.append(self.party)
        if self._pieces:
            self._turns.wait(self)
        return 10


@pytest.fixture
async def turns() -> ParseBudget:
    return ParseBudget(asyncio.get_running_loop(), 40)


async def test_a_turn_parses_so_many_bytes_of_all_connections(turns: ParseBudget) -> None:
    assert [turns.take(size) for size in (20, 20, 1)] == [True, True, False]
    await asyncio.sleep(0)
    assert turns.take(1)


async def test_what_waits_comes_before_what_arrives(turns: ParseBudget) -> None:
    parsed: list[str] = []
    turns.wait(Connection("a", 1, turns, parsed))
    assert not turns.take(1)
    await asyncio.sleep(0)
    assert (parsed, turns.take(1)) == (["a"], True)


async def test_parties_take_turns(turns: ParseBudget) -> None:
    """A party with one piece does not wait for all pieces of a party with many connections."""
    parsed: list[str] = []
    for _ in range(3):
        turns.wait(Connection("many", 2, turns, parsed))
    turns.wait(Connection("one", 1, turns, parsed))
    await asyncio.sleep(0)
    assert parsed == ["many", "one", "many", "many"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(parsed) == 7


async def test_one_that_has_ended_is_not_called(turns: ParseBudget) -> None:
    parsed: list[str] = []
    ended = Connection("a", 1, turns, parsed)
    turns.wait(ended)
    turns.forget(ended)
    turns.forget(ended)
    await asyncio.sleep(0)
    assert parsed == []
