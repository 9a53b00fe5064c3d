"""The route table: which route is preferred, what is a tie, what may be listed, and what a match costs."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import SupportsIndex, overload

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.patterns import Placeholder, Shape
from gateway.policy.problems import Problem
from gateway.policy.routes import (
    CREATES,
    Access,
    Route,
    RouteTable,
    Stamp,
    compile_routes,
    expected_stamp,
)

CONTRACT = json.loads((Path(__file__).parents[1] / "contract" / "routes.json").read_text())


def listed(
    name: str, *scopes: str, stamp: Stamp = Stamp.NONE, optional: bool = False, line: int = 0
) -> Route:
    method, pattern = name.split(" ")
    return Route(method, pattern, Access.SCOPES, scopes or ("ledgers:read",), stamp, optional, line)


def opened(name: str, access: Access, *scopes: str, stamp: Stamp = Stamp.NONE) -> Route:
    method, pattern = name.split(" ")
    return Route(method, pattern, access, scopes, stamp)


def table_of(routes: Iterable[Route]) -> RouteTable:
    table = compile_routes(routes)
    assert isinstance(table, RouteTable)
    return table


def matched(names: Iterable[str], method: str, path: str) -> str | None:
    route = table_of(map(listed, names)).match(method, tuple(path[1:].split("/")))
    return route.name if route else None


def problems(*routes: Route) -> tuple[Problem, ...]:
    found = compile_routes(routes)
    assert not isinstance(found, RouteTable)
    return found


def test_a_route_knows_its_name_and_every_scope_that_opens_it() -> None:
    route = listed("POST /ledgers/filter", "ledgers:read", "ledgers:write")
    assert route.name == "POST /ledgers/filter"
    assert route.accepted_scopes == frozenset(
        ("ledgers:read", "ledgers:write", "ledgers:*", "*:read", "*:write", "*:*")
    )


def test_two_routes_are_equal_wherever_they_are_listed() -> None:
    assert listed("GET /ledgers", line=3) == listed("GET /ledgers", line=9)


def test_the_three_routes_of_the_key_resource_are_served_whatever_their_placeholder() -> None:
    names = ["POST /api-keys", "GET /api-keys", "DELETE /api-keys/{key}", "PUT /api-keys", "GET /ledgers"]
    assert [listed(name).served for name in names] == [True, True, True, False, False]


class TestMatch:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/", "GET /"),
            ("/a", "GET /a"),
            ("/z", "GET /{x}"),
            ("/a/b", "GET /a/b"),
            ("/a/z", "GET /a/{x}"),
            ("/z/b", "GET /{x}/b"),
            ("/z/z", "GET /{rest...}"),
            ("/a/b/c", "GET /a/{x}/c"),
            ("/a/b/d", "GET /a/{rest...}"),
            ("/z/b/d", "GET /{rest...}"),
            ("/a/", None),
            ("/z/", None),
            ("/z/z/", None),
        ],
    )
    def test_literal_then_placeholder_then_rest_with_backtracking(
        self, path: str, expected: str | None
    ) -> None:
        names = ["GET /", "GET /a", "GET /{x}", "GET /a/b", "GET /a/{x}", "GET /{x}/b", "GET /{rest...}"]
        names += ["GET /a/{x}/c", "GET /a/{rest...}"]
        assert matched(names, "GET", path) == expected

    def test_the_order_of_the_lines_does_not_matter(self) -> None:
        names = ["GET /{rest...}", "GET /{x}", "GET /a", "GET /a/{x}"]
        forwards = [matched(names, "GET", path) for path in ("/a", "/b", "/a/b", "/b/b")]
        assert forwards == [matched(names[::-1], "GET", path) for path in ("/a", "/b", "/a/b", "/b/b")]

    @pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "get", ""])
    def test_a_route_matches_its_own_method_only(self, method: str) -> None:
        assert matched(["GET /a", "PUT /a"], method, "/a") is None

    def test_rest_takes_one_segment_or_more(self) -> None:
        paths = ["/a", "/a/", "/a/b", "/a/b/c", "/a/b/c/"]
        assert [matched(["GET /a/{rest...}"], "GET", path) for path in paths] == [
            None,
            None,
            "GET /a/{rest...}",
            "GET /a/{rest...}",
            None,
        ]

    def test_an_empty_table_matches_nothing(self) -> None:
        assert matched([], "GET", "/") is None

    @pytest.mark.parametrize(
        ("method", "path", "expected"),
        [
            ("POST", "/api-keys", "POST /api-keys"),
            ("DELETE", "/api-keys/api_key_1", "DELETE /api-keys/{id}"),
            ("PUT", "/api-keys", None),
            ("GET", "/api-keys", None),
            ("DELETE", "/api-keys/", None),
            ("DELETE", "/api-keys/a/b", None),
            ("POST", "/api-keys/metadata", None),
            ("GET", "/api-keys/api_key_1", None),
            ("GET", "/metrics", None),
            ("GET", "/metrics/x", None),
            ("GET", "/api-keysx", "GET /{rest...}"),
            ("GET", "/x/api-keys", "GET /{rest...}"),
        ],
    )
    def test_no_wildcard_reaches_the_key_resource_or_the_metrics_of_core(
        self, method: str, path: str, expected: str | None
    ) -> None:
        names = [f"{method} /{{rest...}}" for method in ("GET", "POST", "PUT", "DELETE")]
        names += [
            "POST /api-keys",
            "DELETE /api-keys/{id}",
            "POST /{id}/metadata",
            "PUT /{a}",
            "DELETE /{a}/{b}",
        ]
        assert matched(names, method, path) == expected


def test_a_public_route_is_found_by_its_exact_method_and_path_and_no_other_route_is() -> None:
    health = opened("GET /health", Access.PUBLIC)
    table = table_of([health, listed("GET /ledgers"), listed("POST /health"), listed("GET /{rest...}")])
    asked = [("GET", "health"), ("POST", "health"), ("HEAD", "health"), ("GET", "ledgers"), ("GET", "x")]
    found = [table.public(method, (segment,)) for method, segment in asked]
    assert [*found, table.public("GET", ("health", ""))] == [health, None, None, None, None, None]


kinds = st.sampled_from(["a", "b", Placeholder.ONE])
shapes = st.builds(
    lambda head, rest: (*head, *rest),
    st.lists(kinds, max_size=4),
    st.sampled_from([(), (Placeholder.REST,)]),
).filter(bool)


def written(shape: Shape) -> str:
    names = {Placeholder.ONE: "{{p{}}}", Placeholder.REST: "{{p{}...}}"}
    return "/" + "/".join(
        names[kind].format(at) if isinstance(kind, Placeholder) else kind for at, kind in enumerate(shape)
    )


def fits(shape: Shape, segments: tuple[str, ...]) -> bool:
    if shape[-1] is Placeholder.REST:
        head, tail = segments[: len(shape) - 1], segments[len(shape) - 1 :]
        return bool(tail) and "" not in tail and (len(shape) == 1 or fits(shape[:-1], head))
    return len(shape) == len(segments) and all(
        bool(segment) if kind is Placeholder.ONE else kind == segment
        for kind, segment in zip(shape, segments, strict=True)
    )


def preference(shape: Shape) -> tuple[int, ...]:
    order = {Placeholder.ONE: 1, Placeholder.REST: 2}
    return tuple(order[kind] if isinstance(kind, Placeholder) else 0 for kind in shape)


@settings(deadline=None)
@given(st.sets(shapes, max_size=25), st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=6))
def test_the_tree_finds_what_trying_every_route_in_order_of_preference_finds(
    listing: set[Shape], path: list[str]
) -> None:
    segments = tuple(path)
    table = table_of(listed(f"GET {written(shape)}") for shape in listing)
    fitting = sorted((shape for shape in listing if fits(shape, segments)), key=preference)
    route = table.match("GET", segments)
    assert (route and route.shape) == (fitting[0] if fitting else None)


class CountedPath(tuple[str, ...]):
    """A path that counts how often it is read; a match reads it once at each node that it visits."""

    reads = 0

    @overload
    def __getitem__(self, key: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[str, ...]: ...
    def __getitem__(self, key: SupportsIndex | slice) -> str | tuple[str, ...]:
        self.reads += 1
        return super().__getitem__(key)


@functools.cache
def wide_table(size: int) -> RouteTable:
    """Return a table with every kind of sibling: literals beside each other, above and below placeholders."""
    names = ["GET /{a}/{b}/{c}", "GET /hit/{id}/end", "GET /{rest...}"]
    forms = ["GET /n{}", "GET /n{}/{{id}}/end", "GET /hit/n{}", "GET /{{a}}/n{}", "GET /{{a}}/{{b}}/n{}"]
    names += [form.format(number) for number, form in product(range(size // len(forms)), forms)]
    return table_of(map(listed, names))


def reads(size: int, segments: tuple[str, ...]) -> tuple[str, int]:
    path = CountedPath(segments)
    route = wide_table(size).match("GET", path)
    assert route is not None
    return route.name, path.reads


@pytest.mark.parametrize(
    "path", [("hit", "x", "end"), ("hit", "n1", "end"), ("n1", "n1", "n1"), ("x", "x", "x", "x")]
)
def test_a_match_costs_the_same_among_10_and_1000_and_10000_routes(path: tuple[str, ...]) -> None:
    small, large, largest = (reads(size, path) for size in (10, 1_000, 10_000))
    assert small == large == largest
    assert small[1] <= 2 ** (len(path) + 1)


class TestCompile:
    def test_a_table_keeps_the_routes_in_their_order(self) -> None:
        routes = (listed("GET /b"), listed("GET /a"))
        assert table_of(routes).routes == routes

    def test_a_tie_names_both_lines(self) -> None:
        assert problems(
            listed("GET /{a}/x/{b...}", line=4), listed("GET /b", line=5), listed("GET /{c}/x/{d...}", line=6)
        ) == (Problem(6, "GET /{c}/x/{d...}: ties with GET /{a}/x/{b...} in line 4"),)

    def test_routes_that_overlap_without_a_tie_are_accepted(self) -> None:
        names = [
            "GET /a/{x}",
            "GET /{x}/a",
            "GET /{x}/{y}",
            "GET /{rest...}",
            "PUT /a/{x}",
            "GET /a/{rest...}",
        ]
        assert len(table_of(map(listed, names)).routes) == len(names)

    def test_every_problem_is_reported_in_the_order_of_the_lines(self) -> None:
        assert problems(
            listed("GET /a", line=9),
            listed("GET /a", line=3),
            listed("FETCH b", "ledgers", line=5),
        ) == (
            Problem(3, "GET /a: ties with GET /a in line 9"),
            Problem(5, "FETCH b: the method must be one of DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
            Problem(5, "FETCH b: the path must start with '/'"),
            Problem(
                5,
                "FETCH b: 'ledgers' is not a scope of Core: write one such as ledgers:read",
            ),
        )

    @pytest.mark.parametrize(
        ("route", "fault"),
        [
            (listed("TRACE /a"), "the method must be one of DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
            (listed("get /a"), "the method must be one of DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
            (listed("GET /a/{r...}/b"), "'{name...}' must come last"),
            (
                listed("PUT /api-keys"),
                "/api-keys has only POST and GET /api-keys, PATCH and DELETE /api-keys/{id}",
            ),
            (
                listed("DELETE /api-keys/{id...}"),
                "/api-keys has only POST and GET /api-keys, PATCH and DELETE /api-keys/{id}",
            ),
            (listed("GET /metrics"), "Core's metrics are never exposed"),
            (Route("GET", "/a", Access.SCOPES), "names no scope"),
            *(
                (
                    listed("GET /a", scope),
                    f"'{scope}' is not a scope of Core: write one such as ledgers:read",
                )
                for scope in ("", "ledger:read", "ledgers:list", "ledgers:*", "*:read", "ledgers:read:x")
            ),
            (opened("GET /a", Access.PUBLIC, "ledgers:read"), "'public' takes no scope"),
            (opened("GET /a", Access.MASTER, "ledgers:read"), "'master' takes no scope"),
            (opened("GET /a", Access.DENY, "ledgers:read"), "'deny' takes no scope"),
            (opened("GET /{a}", Access.PUBLIC), "'public' is allowed only on a path without placeholders"),
            (
                opened("GET /a/{b...}", Access.PUBLIC),
                "'public' is allowed only on a path without placeholders",
            ),
            (opened("GET /api-keys", Access.PUBLIC), "keys cannot be managed without a key"),
            (
                listed("PATCH /api-keys/{id}", "api-keys:write"),
                "only the master key changes keys: write master or deny",
            ),
            (
                opened("POST /a", Access.PUBLIC, stamp=Stamp.CREATE),
                "'public' takes no stamp: only scoped keys are stamped",
            ),
            (
                opened("POST /a", Access.MASTER, stamp=Stamp.BULK),
                "'master' takes no stamp: only scoped keys are stamped",
            ),
            (listed("GET /a", stamp=Stamp.CREATE), "a stamp is allowed only on POST, PUT and PATCH"),
            (listed("DELETE /a", stamp=Stamp.MERGE), "a stamp is allowed only on POST, PUT and PATCH"),
            (listed("OPTIONS /a", stamp=Stamp.MERGE), "a stamp is allowed only on POST, PUT and PATCH"),
            (
                listed("POST /api-keys", stamp=Stamp.CREATE),
                "a route that the gateway serves itself takes no stamp",
            ),
            (listed("POST /a", optional=True), "'body: optional' is allowed only with 'stamp: create'"),
            (
                listed("POST /a", stamp=Stamp.BULK, optional=True),
                "'body: optional' is allowed only with 'stamp: create'",
            ),
        ],
    )
    def test_what_may_not_be_listed_is_refused(self, route: Route, fault: str) -> None:
        assert problems(route) == (Problem(0, f"{route.name}: {fault}"),)

    @pytest.mark.parametrize(
        "route",
        [
            opened("GET /", Access.PUBLIC),
            opened("OPTIONS /a", Access.PUBLIC),
            opened("GET /api-keys", Access.MASTER),
            opened("GET /a/{b...}", Access.DENY),
            listed("PUT /a", "ledgers:read", "api-keys:delete", stamp=Stamp.REPLACE),
            listed("POST /a", stamp=Stamp.CREATE, optional=True),
        ],
    )
    def test_what_may_be_listed_is_accepted(self, route: Route) -> None:
        assert table_of([route]).routes == (route,)


class TestExpectedStamp:
    def test_every_route_of_core_expects_the_stamp_of_the_contract(self) -> None:
        stamps = {"meta_data": Stamp.CREATE, "bulk": Stamp.BULK, "strip": Stamp.MERGE}
        stamps["meta_data_if_present"] = Stamp.REPLACE
        routes = [route for route in CONTRACT if route["scope"]]
        expected = {f"{route['method']} {route['path']}": stamps.get(route["stamp"]) for route in routes}
        assert {name: expected_stamp(listed(name)) for name in expected} == expected

    def test_a_wildcard_that_reaches_a_writer_expects_its_stamp(self) -> None:
        names = [
            "POST /{any}",
            "POST /{rest...}",
            "POST /transactions/{id}",
            "POST /{a}/bulk",
            "PUT /{a}/{b}",
        ]
        assert [expected_stamp(listed(name)) for name in names] == [
            Stamp.CREATE,
            Stamp.CREATE,
            Stamp.BULK,
            Stamp.BULK,
            Stamp.REPLACE,
        ]

    def test_one_record_of_a_writer_expects_its_stamp(self) -> None:
        assert expected_stamp(listed("POST /ldg_1/metadata")) is Stamp.MERGE

    @pytest.mark.parametrize("access", [Access.PUBLIC, Access.MASTER, Access.DENY])
    def test_a_route_without_scoped_callers_expects_none(self, access: Access) -> None:
        assert [expected_stamp(opened(f"{method} {pattern}", access)) for method, pattern in CREATES] == [
            None
        ] * 10
