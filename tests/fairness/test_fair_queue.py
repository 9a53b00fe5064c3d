"""A queue that serves parties by turns."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fairness.fair_queue import FairQueue


def queued(*items: str) -> FairQueue[str]:
    """A queue of items such as `a1`, each of the party that its first letter names."""
    turns: FairQueue[str] = FairQueue()
    for item in items:
        turns.add(item[0], item)
    return turns


def taken(turns: FairQueue[str]) -> list[str]:
    return [turns.take() for _ in range(len(turns))]


def test_parties_are_served_in_turn_and_each_in_its_own_order() -> None:
    assert taken(queued("a1", "a2", "a3", "b1", "c1", "c2")) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_a_party_alone_has_every_turn() -> None:
    assert taken(queued("a1", "a2", "a3")) == ["a1", "a2", "a3"]


def test_who_comes_waits_for_one_item_of_each_party_before() -> None:
    turns = queued("a1", "a2", "a3")
    assert turns.take() == "a1"
    turns.add("b", "b1")
    assert taken(turns) == ["a2", "b1", "a3"]


def test_the_newest_item_of_the_party_with_the_most_is_shed() -> None:
    turns = queued("a1", "b1", "b2", "b3", "c1")
    assert [turns.shed() for _ in range(2)] == ["b3", "b2"]
    assert taken(turns) == ["a1", "b1", "c1"]


def test_of_parties_with_as_many_the_last_that_came_is_shed() -> None:
    turns = queued("a1", "b1", "c1")
    assert turns.shed() == "c1"
    assert taken(turns) == ["a1", "b1"]


def test_an_empty_queue_has_nothing_to_take_or_shed() -> None:
    turns = queued("a1")
    turns.take()
    for nothing in (turns.take, turns.shed):
        with pytest.raises(LookupError):
            nothing()
    turns.add("b", "b1")
    assert taken(turns) == ["b1"]


@given(st.lists(st.sampled_from(["a", "b", "c", "take", "shed"])))
def test_it_agrees_with_one_that_counts_anew_at_every_step(steps: list[str]) -> None:
    turns: FairQueue[int] = FairQueue()
    simple: dict[str, list[int]] = {}
    for number, step in enumerate(steps):
        if step in "abc":
            turns.add(step, number)
            simple.setdefault(step, []).append(number)
        elif simple and step == "take":
            party = next(iter(simple))
            items = simple.pop(party)
            assert turns.take() == items.pop(0)
            if items:
                simple[party] = items
        elif simple:
            shed = turns.shed()
            most = max(map(len, simple.values()))
            (party,) = (party for party, items in simple.items() if items[-1] == shed)
            assert len(simple[party]) == most
            simple[party].pop()
            if not simple[party]:
                del simple[party]
        assert len(turns) == sum(map(len, simple.values()))


def test_a_step_takes_no_longer_the_more_there_is() -> None:
    """20,000 parties, and one with 20,000 items: each is taken and shed in microseconds."""
    turns: FairQueue[int] = FairQueue()
    began = time.perf_counter()
    for number in range(20_000):
        turns.add(str(number), number)
        turns.add("one", number)
    for _ in range(10_000):
        turns.take()
        turns.shed()
    assert time.perf_counter() - began < 2
