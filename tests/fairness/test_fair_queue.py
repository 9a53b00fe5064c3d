"""A bounded queue serves networks in turn, and within a network its keys in turn."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fairness.fair_queue import FairQueue
from gateway.fairness.shares import Caller, PairedShares


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """An item such as `a1 x`, of key `a` in network `x`."""

    name: str

    @property
    def claimant(self) -> Caller:
        return Caller(self.name[0], self.name.partition(" ")[2])


def queued(*names: str, limit: int = 100) -> FairQueue[Item]:
    queue: FairQueue[Item] = FairQueue(limit)
    for name in names:
        assert queue.add(Item(name)) is None
    return queue


def add(queue: FairQueue[Item], name: str) -> str | None:
    """Add an item; return the name of the item that is refused for it."""
    refused = queue.add(Item(name))
    return None if refused is None else refused.name


def taken(queue: FairQueue[Item]) -> list[str]:
    return [queue.take().name for _ in range(len(queue))]


def test_networks_are_served_in_turn_and_each_in_its_own_order() -> None:
    assert taken(queued("a1 x", "a2 x", "a3 x", "b1 y", "c1 z", "c2 z")) == [
        "a1 x",
        "b1 y",
        "c1 z",
        "a2 x",
        "c2 z",
        "a3 x",
    ]


def test_keys_of_a_network_are_served_in_turn_within_its_turns() -> None:
    assert taken(queued("a1 x", "a2 x", "b1 x", "b2 x", "c1 y", "c2 y")) == [
        "a1 x",
        "c1 y",
        "b1 x",
        "c2 y",
        "a2 x",
        "b2 x",
    ]


def test_a_key_alone_has_every_turn_and_the_whole_queue() -> None:
    assert taken(queued("a1 x", "a2 x", "a3 x", limit=3)) == ["a1 x", "a2 x", "a3 x"]


def test_a_newcomer_waits_for_one_item_of_each_network_before_it() -> None:
    queue = queued("a1 x", "a2 x", "a3 x")
    assert queue.take().name == "a1 x"
    assert add(queue, "b1 y") is None
    assert taken(queue) == ["a2 x", "b1 y", "a3 x"]


def test_an_item_keeps_its_place_until_its_turn_is_ended() -> None:
    """An item stays the next one until its turn is ended, because a long one takes several turns."""
    queue = queued("a1 x", "b1 y")
    assert (queue.next().name, queue.next().name) == ("a1 x", "a1 x")
    queue.end_turn(Caller("a", "x"))
    assert queue.next().name == "b1 y"
    first = queue.first_of(Caller("a", "x"))
    assert first is not None
    queue.remove(first)
    assert (queue.first_of(Caller("a", "x")), queue.first_of(Caller("b", "z"))) == (None, None)
    assert taken(queue) == ["b1 y"]


def test_the_first_wanted_item_of_a_key_and_network_is_taken() -> None:
    """Only the oldest item of each key and network is considered, and taking it ends a turn."""
    queue = queued("a1 x", "b1 x", "b2 x", "c1 y")
    found = queue.take_first(lambda item: item.name.startswith("b"))
    assert found is not None
    assert found.name == "b1 x"
    assert queue.take_first(lambda item: item.name == "no") is None
    assert taken(queue) == ["c1 y", "a1 x", "b2 x"]


def test_items_are_counted_by_key_and_network() -> None:
    queue = queued("a1 x", "a2 x", "a3 y", "b1 x")
    callers = (Caller("a", "x"), Caller("a", "y"), Caller("b", "y"), Caller("a", "z"))
    assert [queue.count_of(caller) for caller in callers] == [2, 1, 0, 0]


@pytest.mark.parametrize(
    ("held", "new", "refused"),
    [
        pytest.param(["a1 x", "a2 x", "a3 x"], "b1 y", "a3 x", id="newest item of the largest"),
        pytest.param(["a1 x", "a2 x", "b1 x"], "c1 x", "a2 x", id="a key of the same network"),
        pytest.param(["a1 x", "b1 x", "c1 x"], "d1 y", "c1 x", id="a network of many keys"),
        pytest.param(["a1 x", "a2 y", "a3 z"], "b1 w", "a3 z", id="a key in many networks"),
        pytest.param(["a1 x", "b1 y", "c1 z"], "d1 w", "d1 w", id="equals"),
        pytest.param(["a1 x", "a2 x", "b1 y"], "b2 y", "b2 y", id="one that would hold as much"),
        pytest.param(["a1 x", "a2 x", "a3 x"], "a4 x", "a4 x", id="the largest itself"),
    ],
)
def test_a_full_queue_refuses_the_newest_item_of_whoever_holds_most(
    held: list[str], new: str, refused: str
) -> None:
    queue = queued(*held, limit=3)
    assert add(queue, new) == refused
    assert sorted(taken(queue)) == sorted({*held, new} - {refused})


def test_an_empty_queue_has_nothing_to_take() -> None:
    queue = queued("a1 x")
    queue.take()
    for nothing in (queue.take, queue.next):
        with pytest.raises(LookupError):
            nothing()
    assert add(queue, "b1 x") is None
    assert taken(queue) == ["b1 x"]


NAMES = st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")).map(" ".join)


@given(st.lists(NAMES | st.just("take"), max_size=40), st.integers(1, 6))
def test_whoever_would_hold_less_than_the_largest_gets_in(steps: list[str], limit: int) -> None:
    """Compared with counts made anew at each step, the bound holds and no item is refused without need."""
    queue: FairQueue[Item] = FairQueue(limit)
    held: list[Item] = []
    for step in steps:
        if step == "take":
            if held:
                held.remove(queue.take())
            continue
        item = Item(step)
        refused = queue.add(item)
        shares = PairedShares(limit)
        for one in held:
            shares.take(one.claimant)
        weights = [shares.weight(one.claimant)[0] for one in held]
        shares.take(item.claimant)
        wanted = shares.weight(item.claimant)[0]
        shares.give(item.claimant)
        if len(held) < limit:
            assert refused is None
        elif refused is item:
            assert wanted >= max(weights)
        else:
            assert refused is not None
            assert shares.yields(refused.claimant, item.claimant)
            assert shares.weight(refused.claimant)[0] == max(weights)
            alike = [one for one in held if one.claimant == refused.claimant]
            assert alike[-1] is refused
            held.remove(refused)
        if refused is not item:
            held.append(item)
        assert len(queue) == len(held) <= limit


def test_a_step_takes_no_longer_when_more_is_queued() -> None:
    """With 20,000 networks of one item and one key of 20,000, each step takes microseconds."""
    queue: FairQueue[Item] = FairQueue(40_000)
    began = time.perf_counter()
    for number in range(20_000):
        queue.add(Item(f"a {number}"))
        queue.add(Item("b many"))
    for number in range(10_000):
        queue.take()
        queue.add(Item(f"c new {number}"))
        assert queue.add(Item(f"d newer {number}")) is not None
    assert time.perf_counter() - began < 3
