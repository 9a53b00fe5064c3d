"""Shapes of paths: which requests two of them share, for each length, and how overlapping ones are found."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.overlaps import ROOT, ShapeIndex, example, intersection, merge_lengths, split_by_length
from gateway.policy.patterns import Placeholder, Shape, includes, shape_of
from tests.conftest import examples

PATHS = [path for length in (1, 2, 3, 4) for path in product("abz", repeat=length)] + [ROOT]

kinds = st.sampled_from(["a", "b", Placeholder.ONE])
shapes = st.one_of(
    st.just(ROOT),
    st.lists(kinds, min_size=1, max_size=3).map(tuple),
    st.lists(kinds, max_size=2).map(lambda start: (*start, Placeholder.REST)),
)


def matches(shape: Shape, path: tuple[str, ...]) -> bool:
    return shape == path if ROOT in (shape, path) else includes(shape, path)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("/a/{x}", "/{y}/b", "/a/b"),
        ("/a/{x}", "/a/{y}", "/a/{x}"),
        ("/a/{x...}", "/{y}/b/{z}", "/a/b/{z}"),
        ("/a/{x...}", "/{y...}", "/a/{x...}"),
        ("/a", "/b", None),
        ("/a/b", "/a/{x}/c", None),
        ("/a", "/a/{x...}", None),
        ("/", "/{x}", None),
        ("/", "/{x...}", None),
        ("/", "/", "/"),
    ],
)
def test_what_two_patterns_share(one: str, other: str, shared: str | None) -> None:
    expected = None if shared is None else shape_of(shared)
    assert (
        intersection(shape_of(one), shape_of(other))
        == intersection(shape_of(other), shape_of(one))
        == expected
    )


@given(one=shapes, other=shapes)
def test_a_path_is_shared_if_both_match_it(one: Shape, other: Shape) -> None:
    shared = intersection(one, other)
    for path in PATHS:
        both = matches(one, path) and matches(other, path)
        assert both == (shared is not None and matches(shared, path))


def test_an_example_has_no_literal_but_the_shapes_own() -> None:
    assert example(shape_of("/a/{x}/{y...}")) == ("a", "{}", "{}")


def test_lengths_go_one_beyond_the_longest() -> None:
    one = Placeholder.ONE
    assert split_by_length(shape_of("/a/{x}"), 9) == (("a", one),)
    assert split_by_length(shape_of("/a/{x...}"), 3) == (("a", one), ("a", one, one), ("a", one, one, one))
    assert split_by_length(shape_of("/{a}/{b}/{c...}"), 1) == ((one, one, one),)


@given(shape=shapes, longest=st.integers(3, 5))
def test_all_lengths_together_are_the_shape_again(shape: Shape, longest: int) -> None:
    assert merge_lengths(split_by_length(shape, longest), longest) == (shape,)


def test_a_length_that_is_missing_stays_out() -> None:
    one, two, *longer = split_by_length(shape_of("/a/{x...}"), 4)
    assert merge_lengths((one, *longer), 4) == (one, ("a", *two[1:], Placeholder.REST))


@examples(200)
@given(known=st.lists(shapes, max_size=8, unique=True), shape=shapes)
def test_near_shapes_are_all_that_share_a_request(known: list[Shape], shape: Shape) -> None:
    expected = {
        other: intersection(other, shape) for other in known if intersection(other, shape) is not None
    }
    assert dict(ShapeIndex(known).overlapping(shape)) == expected
