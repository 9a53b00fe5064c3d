"""A dictionary with a limited number of items."""

from __future__ import annotations

from gateway.keys.bounded_dict import BoundedDict


def test_the_oldest_item_beyond_the_limit_is_dropped() -> None:
    bounded: BoundedDict[str, int] = BoundedDict(2)
    for number, key in enumerate("abc"):
        bounded.put(key, number)
    assert bounded == {"b": 1, "c": 2}


def test_an_item_that_is_stored_again_becomes_the_newest_and_drops_no_other() -> None:
    bounded: BoundedDict[str, int] = BoundedDict(2)
    for number, key in enumerate("abac"):
        bounded.put(key, number)
    assert list(bounded.items()) == [("a", 2), ("c", 3)]
