"""A dictionary of a bounded size."""

from __future__ import annotations

from gateway.keys.bounded_dict import BoundedDict


def test_of_too_many_items_the_oldest_is_dropped() -> None:
    bounded: BoundedDict[str, int] = BoundedDict(2)
    for number, key in enumerate("abc"):
        bounded.put(key, number)
    assert bounded == {"b": 1, "c": 2}


def test_an_item_that_is_put_again_is_the_newest_and_drops_no_other() -> None:
    bounded: BoundedDict[str, int] = BoundedDict(2)
    for number, key in enumerate("abac"):
        bounded.put(key, number)
    assert list(bounded.items()) == [("a", 2), ("c", 3)]
