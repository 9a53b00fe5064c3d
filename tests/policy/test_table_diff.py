"""Changes between two tables: each kind by an example, and all of them compared with brute force."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.overlaps import ROOT, example
from gateway.policy.routes import Access, Route, RouteTable, Stamp, compile_routes
from gateway.policy.table_diff import ANY_KEY, ANYONE, MASTER, ChangeKind, PolicyChange, changes
from tests.conftest import examples
from tests.policy.comparing import stamp_for, target_of, unreported

READ, WRITE = "ledgers:read", "ledgers:write"
EVERYONE = {access.value: access for access in (Access.PUBLIC, Access.MASTER, Access.DENY)}


def route(line: str) -> Route:
    """Return the route of a text such as `POST /a: ledgers:read create optional @9`; 9 ends report-only."""
    name, _, rest = line.partition(": ")
    method, pattern = name.split(" ")
    who, *options = rest.split(" ")
    access = EVERYONE.get(who, Access.SCOPES)
    scopes = () if who in EVERYONE else tuple(who.split("|"))
    until = [float(option[1:]) for option in options if option.startswith("@")]
    stamps = [Stamp(option) for option in options if option in ("create", "merge")]
    return Route(
        method,
        pattern,
        access,
        scopes,
        stamp=stamps[0] if stamps else Stamp.NONE,
        body_optional="optional" in options,
        report_until=until[0] if until else 0.0,
    )


def table(*lines: str) -> RouteTable:
    return table_of(map(route, lines))


def table_of(routes: Iterable[Route]) -> RouteTable:
    compiled = compile_routes(routes)
    assert isinstance(compiled, RouteTable), compiled
    return compiled


NOTHING = table()


def reported(old: RouteTable, new: RouteTable, core: RouteTable = NOTHING) -> list[tuple[str, ...]]:
    return [
        (f"{one.method} {one.path}", one.kind.value, " ".join(one.opened), " ".join(one.closed))
        for one in changes(old, new, core)
    ]


@pytest.mark.parametrize(
    ("old", "new", "kind", "opened", "closed"),
    [
        ("deny", "public", ChangeKind.OPEN_TO_ANYONE, (ANYONE,), ()),
        (READ, "public", ChangeKind.OPEN_TO_ANYONE, (ANYONE,), ()),
        (f"{READ} @9", "public", ChangeKind.OPEN_TO_ANYONE, (ANYONE,), ()),
        (READ, f"{READ} @9", ChangeKind.OPEN_TO_ANY_KEY, (ANY_KEY,), ()),
        (f"{READ} @8", f"{WRITE} @9", ChangeKind.OPEN_TO_ANY_KEY, (ANY_KEY, WRITE), (READ,)),
        ("deny", f"{READ} @9", ChangeKind.OPEN_TO_ANY_KEY, (ANY_KEY, READ, MASTER), ()),
        (f"{READ} @9", f"{READ} @8", ChangeKind.CLOSED, (), (ANY_KEY,)),
        (f"{READ} @9", "master", ChangeKind.CLOSED, (), (ANY_KEY, READ)),
        ("master", READ, ChangeKind.OPEN_TO_SCOPES, (READ,), ()),
        ("deny", f"{READ}|{WRITE}", ChangeKind.OPEN_TO_SCOPES, (READ, WRITE, MASTER), ()),
        (READ, f"{WRITE}|{READ}", ChangeKind.OPEN_TO_SCOPES, (WRITE,), ()),
        (READ, WRITE, ChangeKind.OPEN_TO_SCOPES, (WRITE,), (READ,)),
        ("deny", "master", ChangeKind.OPEN_TO_MASTER, (MASTER,), ()),
        (f"{READ} create", READ, ChangeKind.UNSTAMPED, (), ()),
        (f"{READ} create", f"{READ} merge", ChangeKind.UNSTAMPED, (), ()),
        (f"{READ} create optional", f"{READ} create", ChangeKind.UNSTAMPED, (), ()),
        (f"{READ} create", f"{READ} create optional", ChangeKind.STAMPED, (), ()),
        (READ, f"{READ} create", ChangeKind.STAMPED, (), ()),
        (f"{READ} create", "master", ChangeKind.CLOSED, (), (READ,)),
        ("public", READ, ChangeKind.CLOSED, (), (ANYONE,)),
        ("public", "deny", ChangeKind.CLOSED, (), (ANYONE,)),
        ("master", "deny", ChangeKind.CLOSED, (), (MASTER,)),
    ],
)
def test_each_kind_of_change(
    old: str, new: str, kind: ChangeKind, opened: tuple[str, ...], closed: tuple[str, ...]
) -> None:
    (change,) = changes(table(f"POST /a: {old}"), table(f"POST /a: {new}"), NOTHING)
    assert (change.kind, change.opened, change.closed) == (kind, opened, closed)
    assert change.widens == (bool(opened) or kind is ChangeKind.UNSTAMPED)


@pytest.mark.parametrize("who", ["public", "master", f"{READ} create", f"{READ}|{WRITE}"])
def test_a_new_route_opens_and_a_removed_one_closes(who: str) -> None:
    listed = table(f"POST /a: {who}")
    (added,), (removed,) = changes(NOTHING, listed, NOTHING), changes(listed, NOTHING, NOTHING)
    assert added.opened == removed.closed != ()
    assert added.closed == removed.opened == ()
    assert (added.widens, removed.widens) == (True, False)


def test_a_line_that_only_moves_or_is_renamed_changes_nothing() -> None:
    old = table(f"GET /a/{{id}}: {READ}|{WRITE}", f"GET /b: {READ}")
    new = table(f"GET /b: {READ}", f"GET /a/{{other}}: {WRITE}|{READ}")
    assert changes(old, new, NOTHING) == ()


def test_deny_in_place_of_no_line_is_reported_and_no_one_gains() -> None:
    assert reported(NOTHING, table("GET /a: deny")) == [("GET /a", "refused otherwise", "", "")]


def test_a_wildcard_shows_each_route_of_core_that_it_newly_covers() -> None:
    core = table(f"GET /a/{{id}}: {READ}", "GET /b: master", f"POST /c: {WRITE}")
    assert reported(table(f"GET /a/{{id}}: {READ}"), table(f"GET /{{all...}}: {READ}"), core) == [
        ("GET /{all...}", "open to scopes", f"{READ} master", ""),
        ("GET /b", "open to scopes", f"{READ} master", ""),
    ]


def test_a_literal_shows_the_requests_that_it_takes_from_a_placeholder() -> None:
    old = table("GET /a/{id}: master", f"GET /{{x}}/b: {WRITE}")
    assert reported(old, table("GET /a/{id}: master", f"GET /{{x}}/b: {WRITE}", f"GET /a/b: {READ}")) == [
        ("GET /a/b", "open to scopes", READ, "")
    ]


def test_a_removed_literal_leaves_its_requests_to_the_placeholder() -> None:
    old = table(f"GET /a/{{id}}: {READ}", "GET /a/b: deny")
    assert reported(old, table(f"GET /a/{{id}}: {READ}")) == [
        ("GET /a/b", "open to scopes", f"{READ} master", "")
    ]


def test_requests_that_two_routes_share_are_reported_apart() -> None:
    """Neither pattern includes the other, and only requests for /a/b, which both match, lose the stamp."""
    old, new = table(f"POST /a/{{x}}: {READ} create"), table(f"POST /{{y}}/b: {READ}")
    assert reported(old, new) == [
        ("POST /{y}/b", "open to scopes", f"{READ} master", ""),
        ("POST /a/b", "unstamped", "", ""),
        ("POST /a/{x}", "closed", "", f"{READ} master"),
    ]


def test_what_a_wildcard_keeps_is_not_reported() -> None:
    """Requests of one more segment stay with the other route, so they are not reported."""
    both = "GET /a/{x}: deny"
    assert reported(table(both), table(both, f"GET /a/{{rest...}}: {READ}")) == [
        ("GET /a/{segment}/{rest...}", "open to scopes", f"{READ} master", "")
    ]


def test_no_wildcard_is_reported_to_reach_what_is_reserved() -> None:
    served = f"DELETE /api-keys/{{id}}: {WRITE}"
    assert reported(table(served), table(f"DELETE /{{rest...}}: {WRITE}")) == [
        ("DELETE /{rest...}", "open to scopes", f"{WRITE} master", ""),
        ("DELETE /api-keys/{id}", "closed", "", f"{WRITE} master"),
    ]


def test_the_most_dangerous_comes_first() -> None:
    old = table(f"POST /s: {READ} create", f"POST /t: {READ}", f"GET /c: {READ}")
    new = table(
        f"POST /s: {READ}",
        f"POST /t: {READ} create",
        "GET /m: master",
        "GET /d: deny",
        f"GET /a: {READ}",
        f"GET /b: {READ}",
        f"POST /b: {READ}",
        f"GET /w/{{rest...}}: {READ}",
        "GET /p: public",
    )
    assert [f"{one.method} {one.path}" for one in changes(old, new, NOTHING)] == [
        "GET /p", "POST /b", "GET /w/{rest...}", "GET /a", "GET /b", "POST /s", "GET /m", "POST /t", "GET /c",
        "GET /d",
    ]  # fmt: skip


def test_a_path_is_named_as_in_core_then_the_new_table_then_the_old() -> None:
    core, old = table(f"GET /a/{{core}}: {READ}"), table(f"GET /{{old}}/{{b}}/{{old_rest...}}: {READ}")
    new = table(f"GET /a/{{new}}: {READ}", f"PUT /{{new}}/{{new_rest...}}: {READ}")
    assert [change.path for change in changes(old, new, core)] == [
        "/{new}/{new_rest...}", "/a/{core}", "/{old}/{b}/{old_rest...}",
    ]  # fmt: skip


segments = st.sampled_from(["a", "a", "b", "{x}", "{x}", "{x}", "api-keys"])
patterns = st.builds(
    lambda parts, rest: (
        "/" + "/".join([*(f"{{n{at}}}" if p == "{x}" else p for at, p in enumerate(parts)), *rest])
    ),
    st.lists(segments, max_size=3),
    st.sampled_from([[], [], ["{rest...}"]]),
)
permissions = st.sampled_from(
    [
        "public",
        "master",
        "deny",
        READ,
        WRITE,
        f"{READ}|{WRITE}",
        f"{READ} create",
        f"{WRITE} merge",
        f"{READ} @1",
        f"{READ} create @2",
    ]
)


@st.composite
def tables(draw: st.DrawFn) -> RouteTable:
    """Draw routes, and leave out those that the table refuses."""
    kept: list[Route] = []
    for pattern, who in draw(st.lists(st.tuples(patterns, permissions), max_size=6)):
        if isinstance(compile_routes([*kept, route(f"POST {pattern}: {who}")]), RouteTable):
            kept.append(route(f"POST {pattern}: {who}"))
    return table_of(kept)


PATHS = [path for length in (1, 2, 3) for path in product("abz", repeat=length)]
PATHS += [path for length in (4, 5) for path in product("az", repeat=length)]
PATHS += [ROOT, ("api-keys",), ("api-keys", "a"), ("api-keys", "a", "b"), ("a", "api-keys"), ("a", "")]
REQUESTS = [("POST", path) for path in PATHS]
CALLERS: list[str | tuple[str, ...]] = [ANYONE, MASTER, (READ,), (WRITE,), ("ledgers:*",)]
MOMENTS = (0.0, 1.5, 3.0)  # before, between and after the dates of report-only


@examples(40)
@given(old=tables(), new=tables(), core=tables())
def test_whatever_differs_is_reported(old: RouteTable, new: RouteTable, core: RouteTable) -> None:
    """A request that only the new table allows is covered by a widening; other differences likewise."""
    assert list(unreported(old, new, changes(old, new, core), REQUESTS, CALLERS, MOMENTS)) == []


@examples(40)
@given(old=tables(), new=tables(), core=tables())
def test_whatever_is_reported_is_true(old: RouteTable, new: RouteTable, core: RouteTable) -> None:
    for change in changes(old, new, core):
        request = change.method, example(change.shape)
        for whom, refusing, allowing in ((change.opened, old, new), (change.closed, new, old)):
            for one in whom:
                caller = one if one in (ANYONE, MASTER) else () if one == ANY_KEY else (one,)
                assert any(
                    stamp_for(refusing, *request, caller, now) is None
                    and stamp_for(allowing, *request, caller, now) is not None
                    for now in MOMENTS
                ), (change, one)


@examples(40)
@given(old=tables(), new=tables(), core=tables())
def test_the_other_way_round_opens_what_was_closed(
    old: RouteTable, new: RouteTable, core: RouteTable
) -> None:
    def gist(found: Iterable[PolicyChange], *, turned: bool) -> set[object]:
        return {
            (one.method, one.shape, *((one.closed, one.opened) if turned else (one.opened, one.closed)))
            for one in found
        }

    assert gist(changes(old, new, core), turned=False) == gist(changes(new, old, core), turned=True)


@given(only=tables(), core=tables())
def test_a_table_changes_nothing_against_itself(only: RouteTable, core: RouteTable) -> None:
    assert changes(only, only, core) == ()


def test_the_comparison_itself_sees_what_is_not_reported() -> None:
    """Without the changes the brute force finds the differences, so the test above can fail."""
    old, new = table(f"POST /a: {READ} create"), table(f"POST /a: {READ}|{WRITE}")
    assert len(list(unreported(old, new, (), REQUESTS, CALLERS))) == 3
    assert target_of(("a", "b")).path == "/a/b"
