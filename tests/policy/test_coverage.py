"""Coverage reports effects of a table that its author may not intend: lost requests, gaps, unused scopes."""

from __future__ import annotations

import pytest

from gateway.policy.coverage import Remark, shadowed, uncovered, unused_scopes
from gateway.policy.routes import Access, Route, RouteTable, compile_routes

READ, WRITE = "ledgers:read", "ledgers:write"


def table(*lines: str) -> RouteTable:
    """Return a table of lines such as `GET /a: ledgers:read`, numbered 1, 2, 3."""
    routes = []
    for number, line in enumerate(lines, 1):
        name, _, who = line.partition(": ")
        method, pattern = name.split(" ")
        access = Access(who) if who in ("public", "master", "deny") else Access.SCOPES
        scopes = tuple(who.split("|")) if access is Access.SCOPES else ()
        routes.append(Route(method, pattern, access, scopes, line=number))
    compiled = compile_routes(routes)
    assert isinstance(compiled, RouteTable), compiled
    return compiled


NOTHING = table()


def test_routes_that_cross_are_named_with_both_lines() -> None:
    crossing = table(f"GET /{{x}}/b: {WRITE}", f"GET /a/{{y}}: {READ}")
    text = (
        "GET /a/{y} crosses GET /{x}/b in line 1 and takes the requests that both match: "
        "write a line for those"
    )
    assert list(shadowed(crossing, NOTHING)) == [Remark(2, text, warns=True)]


def test_a_line_for_what_two_routes_share_settles_it() -> None:
    settled = table(f"GET /{{x}}/b: {WRITE}", f"GET /a/{{y}}: {READ}", f"GET /a/b: {READ}")
    assert [remark.warns for remark in shadowed(settled, NOTHING)] == [False]


def test_a_deny_that_a_more_specific_route_passes_by_is_named() -> None:
    text = (
        "GET /a/{id} bypasses the deny of GET /a/{all...} in line 1: the more specific route is tried "
        "first; remove one of the two"
    )
    found = shadowed(table("GET /a/{all...}: deny", f"GET /a/{{id}}: {READ}"), NOTHING)
    assert list(found) == [Remark(2, text, warns=True)]


def test_a_placeholder_that_leaves_requests_to_literals_is_noted_once() -> None:
    literals = [f"GET /a/{name}: {WRITE}" for name in "pqrst"]
    text = (
        "GET /a/{id} loses requests to GET /a/p in line 2, GET /a/q in line 3, GET /a/r in line 4 and 2 more"
    )
    assert list(shadowed(table("GET /a/{id}: master", *literals), NOTHING)) == [Remark(1, text, warns=False)]


@pytest.mark.parametrize(
    "lines",
    [
        (f"GET /a/{{id}}: {READ}", f"GET /a/b: {READ}"),
        (f"GET /a/{{id}}: {READ}", f"POST /a/b: {WRITE}"),
        (f"GET /a/{{id}}: {READ}", f"GET /b/{{id}}: {WRITE}"),
        (f"GET /a/{{id}}: {READ}", f"GET /api-keys: {WRITE}", f"GET /{{x}}: {READ}"),
    ],
    ids=["same permission", "another method", "nothing shared", "reserved"],
)
def test_what_surprises_nobody_is_not_remarked(lines: tuple[str, ...]) -> None:
    assert list(shadowed(table(*lines), NOTHING)) == []


def test_what_cores_own_routes_do_is_not_remarked() -> None:
    core = table(f"POST /search/{{collection}}: {READ}", f"POST /{{id}}/metadata: {WRITE}")
    assert list(shadowed(core, core)) == []
    assert len(list(shadowed(core, table(f"POST /search/{{collection}}: {READ}")))) == 1


def test_routes_of_core_that_no_route_covers_are_named() -> None:
    core = table("GET /: public", f"GET /a/{{id}}: {READ}", "GET /b: master", f"POST /b: {WRITE}")
    text = "no route covers {} of Core: list it, or deny it on purpose"
    covering = table("GET /{all...}: deny")
    assert list(uncovered(covering, core)) == [
        Remark(0, text.format(name), warns=True) for name in ("GET /", "POST /b")
    ]


def test_a_route_that_the_gateway_adds_may_be_left_out() -> None:
    core = table(f"GET /a: {READ}", "PATCH /api-keys/{id}: master")
    assert list(uncovered(table(f"GET /a: {READ}"), core)) == []


def test_a_scope_that_another_took_over_is_a_warning() -> None:
    core = table(f"GET /a: {READ}", f"POST /a: {WRITE}")
    text = "no route requires ledgers:read, as Core does: GET /a requires balances:read or balances:write"
    found = unused_scopes(table("GET /a: balances:read|balances:write", f"POST /a: {WRITE}"), core)
    assert list(found) == [Remark(1, text, warns=True)]


@pytest.mark.parametrize(
    "line", ["GET /a: master", "GET /a: deny", "GET /a: public", "GET /b: balances:read"]
)
def test_a_scope_that_is_closed_on_purpose_or_not_listed_is_a_note(line: str) -> None:
    core = table(f"GET /a: {READ}", f"POST /a: {WRITE}")
    text = "no route requires ledgers:read, ledgers:write: such a scope permits nothing"
    assert list(unused_scopes(table(line), core)) == [Remark(0, text, warns=False)]


def test_a_table_that_asks_for_all_of_cores_scopes_is_not_remarked() -> None:
    core = table(f"GET /a: {READ}|{WRITE}")
    assert list(unused_scopes(core, core)) == []
