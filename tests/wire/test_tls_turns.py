"""The time that one turn of the event loop spends on TLS, and how connections share it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.wire.tls_turns import TURN_SECONDS, TlsTurns

HALF = TURN_SECONDS / 2


class Clock:
    """A clock that stands still but for the steps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Connection:
    """A connection whose step takes half of the time of a turn, and is recorded in a shared list."""

    def __init__(self, party: str, clock: Clock, made: list[str]) -> None:
        self.party = party
        self._clock = clock
        self._made = made

    def step(self) -> None:
        self._made.append(self.party)
        self._clock.now += HALF


class Stage:
    """The turns, and the steps that were made."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.turns = TlsTurns(asyncio.get_running_loop(), self.clock)
        self.made: list[str] = []

    def connection(self, party: str) -> Connection:
        return Connection(party, self.clock, self.made)

    def ask(self, *parties: str) -> list[bool]:
        return [self.turns.ask(self.connection(party)) for party in parties]


@pytest.fixture
async def stage() -> Stage:
    return Stage()


async def test_a_turn_makes_steps_until_its_time_is_over(stage: Stage) -> None:
    assert (stage.ask("a", "a", "a", "a", "a"), stage.made) == ([True, True, False, False, False], ["a"] * 2)
    await asyncio.sleep(0)
    assert stage.made == ["a"] * 4
    await asyncio.sleep(0)
    assert stage.made == ["a"] * 5


async def test_what_waits_comes_before_what_arrives(stage: Stage) -> None:
    stage.ask("a", "a", "waits")
    assert stage.ask("later") == [False]
    await asyncio.sleep(0)
    assert stage.made[2:] == ["waits", "later"]


async def test_parties_take_turns(stage: Stage) -> None:
    """A party with one connection does not wait for all connections of another."""
    stage.ask("many", "many", "many", "many", "many", "one")
    await asyncio.sleep(0)
    assert stage.made[2:] == ["many", "one"]


async def test_a_step_knows_when_the_time_of_its_turn_is_over(stage: Stage) -> None:
    """The steps before it in the turn count, and those of earlier turns do not."""
    over: list[bool] = []

    class Long(Connection):
        def step(self) -> None:
            super().step()
            over.append(stage.turns.is_over())

    def ask() -> None:
        stage.turns.ask(Long("a", stage.clock, stage.made))

    ask()
    ask()
    await asyncio.sleep(0)
    ask()
    assert over == [False, True, False]


async def test_one_that_waits_by_itself_is_called_in_its_turn(stage: Stage) -> None:
    """A step may ask for another one, which is made once others had their turn."""
    stage.ask("a")
    for party in ("again", "again", "other"):
        stage.turns.wait(stage.connection(party))
    await asyncio.sleep(0)
    assert stage.made == ["a", "again", "other"]


async def test_one_that_has_ended_is_not_called(stage: Stage) -> None:
    stage.ask("a", "a")
    ended = stage.connection("ended")
    stage.turns.ask(ended)
    stage.turns.forget(ended)
    await asyncio.sleep(0)
    assert (stage.ask("b"), stage.made) == ([True], ["a", "a", "b"])
