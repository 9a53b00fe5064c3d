"""A queue without a bound whose parties take turns."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gateway.fairness.party_queue import PartyQueue


@dataclass(frozen=True, eq=False)
class Item:
    """An item with a name."""

    party: str
    name: str


@pytest.fixture
def queue() -> PartyQueue[Item]:
    return PartyQueue()


def taken(queue: PartyQueue[Item]) -> list[str]:
    """Take out everything; return the names in the order of their turns."""
    names = []
    while queue:
        names.append(queue.take().name)
    return names


def test_parties_take_turns_and_of_each_party_its_items(queue: PartyQueue[Item]) -> None:
    for item in (Item("a", "a1"), Item("a", "a2"), Item("a", "a3"), Item("b", "b1"), Item("b", "b2")):
        queue.add(item)
    assert queue.count() == 5
    assert taken(queue) == ["a1", "b1", "a2", "b2", "a3"]
    assert queue.count() == 0


def test_an_item_that_is_added_again_keeps_its_turn(queue: PartyQueue[Item]) -> None:
    first = Item("a", "a1")
    for item in (first, Item("a", "a2"), first):
        queue.add(item)
    assert taken(queue) == ["a1", "a2"]


def test_a_forgotten_item_is_not_taken(queue: PartyQueue[Item]) -> None:
    first, second, alone = Item("a", "a1"), Item("a", "a2"), Item("b", "b1")
    for item in (first, second, alone):
        queue.add(item)
    queue.forget(first)
    queue.forget(alone)
    queue.forget(alone)
    assert taken(queue) == ["a2"]
