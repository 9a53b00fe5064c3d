"""The section `routes`: what a line may say, and the text of every refusal."""

from __future__ import annotations

import pytest

from gateway.config.route_reader import read_routes
from gateway.config.suggestions import nearest
from gateway.config.yaml_document import YamlMapping, YamlRefused, read_document
from gateway.policy.problems import Problem
from gateway.policy.routes import Access, Route, RouteTable, Stamp

SECTION = "routes: write one line per route, as 'GET /ledgers: ledgers:read'"
KEY = "routes: write a method, one blank and a path, as 'GET /ledgers/{id}'"
SHAPE = "write a scope, a list of scopes, public, master or deny"
SCOPE = "a scope is a resource of Core and read, write or delete, as ledgers:read"


def read(text: str) -> RouteTable | tuple[Problem, ...]:
    """Return the result of reading a section whose first line is line 1."""
    document, problems = read_document(text.encode())
    assert problems == ()
    return read_routes(document)


@pytest.mark.parametrize(
    ("line", "route"),
    [
        ("GET /health: public", Route("GET", "/health", Access.PUBLIC)),
        ("GET /hooks/{id}: master", Route("GET", "/hooks/{id}", Access.MASTER)),
        ("GET /{rest...}: deny", Route("GET", "/{rest...}", Access.DENY)),
        ("GET /ledgers: ledgers:read", Route("GET", "/ledgers", Access.SCOPES, ("ledgers:read",))),
        (
            "POST /ledgers/filter: [ledgers:read, ledgers:write]",
            Route("POST", "/ledgers/filter", Access.SCOPES, ("ledgers:read", "ledgers:write")),
        ),
        (
            "POST /transactions/bulk: {scope: transactions:write, stamp: bulk}",
            Route("POST", "/transactions/bulk", Access.SCOPES, ("transactions:write",), stamp=Stamp.BULK),
        ),
        (
            "POST /refund-transaction/{id}: {scope: [transactions:write], stamp: create, body: optional}",
            Route(
                "POST",
                "/refund-transaction/{id}",
                Access.SCOPES,
                ("transactions:write",),
                stamp=Stamp.CREATE,
                body_optional=True,
            ),
        ),
        (
            "POST /ledgers: {scope: ledgers:write, stamp: none}",
            Route("POST", "/ledgers", Access.SCOPES, ("ledgers:write",)),
        ),
        ("POST /ledgers: master", Route("POST", "/ledgers", Access.MASTER)),
        ("POST /ledgers: {scope: deny}", Route("POST", "/ledgers", Access.DENY)),
    ],
)
def test_a_line_is_one_route(line: str, route: Route) -> None:
    table = read(line)
    assert isinstance(table, RouteTable)
    assert table.routes == (route,)
    assert table.routes[0].line == 1


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("get-ledgers: ledgers:read", KEY),
        ("GET  /ledgers: ledgers:read", KEY),
        ("GET ledgers: ledgers:read", KEY),
        ("GET /led gers: ledgers:read", KEY),
        ("GET /a: [[ledgers:read]]", f"GET /a: {SHAPE}"),
        ("GET /a: {scope: {a: b}}", f"GET /a: {SHAPE}"),
        ("GET /a: 5", f"GET /a: {SCOPE}"),
        ("GET /a: ledgers", f"GET /a: {SCOPE}; did you mean 'ledgers:read'?"),
        ("GET /a: x:y", f"GET /a: {SCOPE}"),
        ("GET /a: pubic", f"GET /a: {SCOPE}; did you mean 'public'?"),
        ("GET /a: leders:read", f"GET /a: {SCOPE}; did you mean 'ledgers:read'?"),
        ('GET /a: "*:read"', f"GET /a: {SCOPE}"),
        ("GET /a: ${SCOPE}", "GET /a: routes take no variables: write the scope itself"),
        ("GET /a: []", "GET /a: the list is empty: write a scope, or 'deny' to refuse everyone"),
        ("GET /a: [ledgers:read, master]", "GET /a: 'master' is written alone, not in a list of scopes"),
        ("GET /a: [ledgers:read, ledgers:read]", "GET /a: a scope is in the list twice: write it once"),
        ("GET /a: {}", "GET /a: the scope is missing: write {scope: ledgers:write, ...}"),
        ("GET /a: {scope: public, stamp: none}", "GET /a: 'public' takes no option: write 'public' alone"),
        (
            "GET /a: {scope: ledgers:read, scopes: x}",
            "GET /a: an option is scope, stamp, body, first_byte, mode or until; did you mean 'scope'?",
        ),
        (
            "GET /a: {scope: ledgers:read, bod: x}",
            "GET /a: an option is scope, stamp, body, first_byte, mode or until; did you mean 'body'?",
        ),
        (
            "POST /a: {scope: ledgers:write, stamp: creat}",
            "POST /a: stamp is none, create, bulk, replace or merge; did you mean 'create'?",
        ),
        (
            "POST /a: {scope: ledgers:write, stamp: [create]}",
            "POST /a: stamp is none, create, bulk, replace or merge",
        ),
        (
            "POST /a: {scope: ledgers:write, stamp: create, body: true}",
            "POST /a: body is optional",
        ),
        (
            "POST /ledgers: ledgers:write",
            "POST /ledgers: Core writes meta_data here: write {scope: ledgers:write, stamp: create}, "
            "or stamp: none on purpose",
        ),
        (
            "PUT /identities/{any}: {scope: [identities:write, metadata:write]}",
            "PUT /identities/{any}: Core writes meta_data here: write "
            "{scope: [identities:write, metadata:write], stamp: replace}, or stamp: none on purpose",
        ),
        (
            "POST /transactions/{any...}: transactions:write",
            "POST /transactions/{any...}: Core writes meta_data here: write "
            "{scope: transactions:write, stamp: bulk}, or stamp: none on purpose",
        ),
        (
            "POST /transactions/bulk: {scope: transactions:write, stamp: create}",
            "POST /transactions/bulk: the stamp does not fit what Core does here: write stamp: bulk",
        ),
        (
            "GET /a: {scope: ledgers:read, stamp: create}",
            "GET /a: a stamp is allowed only on POST, PUT and PATCH",
        ),
    ],
)
def test_a_bad_line_is_refused_with_what_to_write(line: str, text: str) -> None:
    assert read(line) == (Problem(1, text),)


def test_every_problem_of_the_section_is_reported_those_between_routes_too() -> None:
    text = (
        "GET /a/{b}: ledgers:read\nGET /a/{c}: ledgers:read\nFOO /d: pubic\n"
        "POST /e: {scope: [leders:read, 5], stamp: x, body: y}\n"
    )
    assert read(text) == (
        Problem(3, f"FOO /d: {SCOPE}; did you mean 'public'?"),
        Problem(4, f"POST /e: {SCOPE}; did you mean 'ledgers:read'?"),
        Problem(4, f"POST /e: {SCOPE}"),
        Problem(4, "POST /e: stamp is none, create, bulk, replace or merge"),
        Problem(4, "POST /e: body is optional"),
        Problem(2, "GET /a/{c}: ties with GET /a/{b} in line 1"),
    )


@pytest.mark.parametrize("text", ["a", "[GET /a]", "{}"])
def test_a_section_without_lines_is_refused(text: str) -> None:
    document, _ = read_document(f"routes: {text}".encode())
    assert read_routes(document.entries[0].value) == (Problem(1, SECTION),)


@pytest.mark.parametrize("value", ["~", "[.5]", "{scope: ~}", "{scope: [~]}"])
def test_what_the_document_refused_is_not_refused_twice(value: str) -> None:
    document, problems = read_document(f"GET /a: {value}\n".encode())
    assert len(problems) == 1
    assert read_routes(document) == ()


def test_a_broken_section_is_not_refused_twice() -> None:
    assert read_routes(YamlRefused(1)) == ()


def test_a_section_of_nothing_is_refused() -> None:
    assert read_routes(YamlMapping((), 7)) == (Problem(7, SECTION),)


def test_the_nearest_word_is_offered_only_where_it_is_near() -> None:
    assert (nearest("stmp", ("scope", "stamp")), nearest("x", ("scope",))) == ("; did you mean 'stamp'?", "")
