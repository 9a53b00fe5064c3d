"""Path patterns have a shape, report their faults, and know which other patterns they include."""

from __future__ import annotations

from itertools import product

import pytest

from gateway.policy.patterns import MAX_SEGMENTS, Placeholder, Shape, faults, includes, shape_of

ONE, REST = Placeholder.ONE, Placeholder.REST


@pytest.mark.parametrize(
    ("pattern", "shape"),
    [
        ("/", ("",)),
        ("/ledgers", ("ledgers",)),
        ("/ledgers/{id}", ("ledgers", ONE)),
        ("/{entity_id}/metadata", (ONE, "metadata")),
        ("/search/{rest...}", ("search", REST)),
        ("/{}/{a-b}/x{a}", ("{}", "{a-b}", "x{a}")),
    ],
)
def test_a_shape_forgets_the_names_of_placeholders(pattern: str, shape: Shape) -> None:
    assert shape_of(pattern) == shape


@pytest.mark.parametrize(
    "pattern",
    [
        "/",
        "/ledgers",
        "/ledgers/{id}",
        "/{_a1}/metadata",
        "/a/{rest...}",
        "/a.b/..c/~d;e=1:@",
        "/ledgers/a:b",
        "/ledgers/:",
        "/x" * MAX_SEGMENTS,
    ],
)
def test_a_well_formed_pattern_has_no_fault(pattern: str) -> None:
    assert list(faults(pattern)) == []


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["the path must start with '/'", "an empty segment (or a trailing slash) matches nothing"]),
        ("ledgers", ["the path must start with '/'"]),
        ("/ledgers/", ["an empty segment (or a trailing slash) matches nothing"]),
        ("//a", ["an empty segment (or a trailing slash) matches nothing"]),
        ("/a/../b", ["a dot segment matches nothing"]),
        ("/.", ["a dot segment matches nothing"]),
        ("/{a...}/b", ["'{name...}' must come last"]),
        ("/{a}/{a}", ["two placeholders have the same name"]),
        ("/{a}/{a...}", ["two placeholders have the same name"]),
        ("/x" * (MAX_SEGMENTS + 1), [f"the path must have at most {MAX_SEGMENTS} segments"]),
        *(
            (f"/{segment}", [f"'{segment}' is neither a plain segment nor '{{name}}' nor '{{name...}}'"])
            for segment in (
                "{}",
                "{a-b}",
                "x{a}",
                "{a..}",
                "{a...}x",
                "a%2fb",
                "a b",
                "a?b",
                "a#b",
                "a\\b",
                "é",
            )
        ),
    ],
)
def test_every_fault_of_a_pattern_is_reported(pattern: str, expected: list[str]) -> None:
    assert list(faults(pattern)) == expected


ONE_SEGMENT, REST_OF_PATH = "write '{%s}' for one segment", "write '{%s...}' for all remaining segments"


@pytest.mark.parametrize(
    ("segment", "advice"),
    [
        (":id", ONE_SEGMENT % "id"),
        (":id?", ONE_SEGMENT % "id"),
        (":id([0-9]+)", ONE_SEGMENT % "id"),
        ("<id>", ONE_SEGMENT % "id"),
        ("<uuid:id>", ONE_SEGMENT % "id"),
        ("<path:rest>", REST_OF_PATH % "rest"),
        ("*", "write '{name}' for one segment, or '{name...}' for all remaining ones"),
        ("**", REST_OF_PATH % "path"),
        ("*rest", REST_OF_PATH % "rest"),
        ("**rest", REST_OF_PATH % "rest"),
        ("txn_*", "write the segment out, or '{name}' for any one"),
        ("*.json", "write the segment out, or '{name}' for any one"),
    ],
)
def test_a_placeholder_of_another_router_gets_advice_to_use_braces(segment: str, advice: str) -> None:
    assert list(faults(f"/ledgers/{segment}")) == [f"'{segment}' is not a placeholder here: {advice}"]


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("/ledgers", "/ledgers"),
        ("/{a}", "/ledgers"),
        ("/{a}", "/{b}"),
        ("/{a}/bulk", "/transactions/bulk"),
        ("/transactions/{rest...}", "/transactions/bulk"),
        ("/{rest...}", "/transactions/{id}/x"),
        ("/{rest...}", "/{more...}"),
        ("/{rest...}", "/a/{more...}"),
    ],
)
def test_a_pattern_includes_what_its_placeholders_stand_for(wide: str, narrow: str) -> None:
    assert includes(shape_of(wide), shape_of(narrow))


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("/ledgers", "/{a}"),
        ("/ledgers", "/balances"),
        ("/{a}", "/a/b"),
        ("/{a}/{b}", "/a"),
        ("/{a}", "/{rest...}"),
        ("/a/{rest...}", "/a"),
        ("/a/{rest...}", "/{rest...}"),
        ("/{id}/metadata", "/search/{collection}"),
        ("/search/{collection}", "/{id}/metadata"),
    ],
)
def test_a_pattern_includes_nothing_else(wide: str, narrow: str) -> None:
    assert not includes(shape_of(wide), shape_of(narrow))


def test_two_patterns_that_include_each_other_have_one_shape() -> None:
    kinds: tuple[str | Placeholder, ...] = ("a", "b", ONE)
    short = [(kind,) for kind in kinds] + list(product(kinds, repeat=2))
    shapes: list[Shape] = [*short, (REST,), *((*shape, REST) for shape in short)]
    both = [
        (one, other)
        for one, other in product(shapes, repeat=2)
        if includes(one, other) and includes(other, one)
    ]
    assert both == [(shape, shape) for shape in shapes]
