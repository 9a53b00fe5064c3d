"""An explanation says which route wins, why others lose, and who may use it, for people and for machines."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.decisions import Policy
from gateway.policy.explanation import (
    EACH_KIND,
    Explanation,
    LosingRoute,
    explain,
    members,
    name_of,
    needs,
    printable,
)
from gateway.policy.principals import MASTER, ApiKey
from gateway.policy.routes import Access, Route, RouteTable, Stamp, compile_routes
from gateway.policy.terms import KeyTerms, read_network
from gateway.policy.verdicts import NO_KEY, PolicyCaller, PolicyRequest, key_with, read_request

NOW = 1_000.0


def scoped(method: str, pattern: str, *scopes: str, line: int = 0, stamp: Stamp = Stamp.NONE) -> Route:
    return Route(method, pattern, Access.SCOPES, scopes or ("ledgers:read",), stamp, line=line)


LITERAL = scoped("GET", "/ledgers/filter", line=3)
ONE = scoped("GET", "/ledgers/{id}", line=1)
REST = scoped("GET", "/ledgers/{rest...}", line=2)
LIST = scoped("GET", "/ledgers", line=4)
CREATE = scoped("POST", "/ledgers", "ledgers:write", line=5, stamp=Stamp.CREATE)
ANY_POST = scoped("POST", "/{all...}", "metadata:write", line=6)
KEYS = scoped("GET", "/api-keys", "api-keys:read", line=7)
HEALTH = Route("GET", "/health", Access.PUBLIC, line=8)
HOOKS = Route("GET", "/hooks", Access.MASTER, line=9)
CLOSED = Route("GET", "/backup", Access.DENY, line=10)
EITHER = scoped("PUT", "/ledgers/{id}", "ledgers:write", "metadata:write", line=11)
ROUTES = (ONE, REST, LITERAL, LIST, CREATE, ANY_POST, KEYS, HEALTH, HOOKS, CLOSED, EITHER)


def policy(*routes: Route) -> Policy:
    table = compile_routes(routes or ROUTES)
    assert isinstance(table, RouteTable)
    return Policy(table)


def asked(line: str) -> PolicyRequest:
    request = read_request(*line.split(" ", 1))
    assert isinstance(request, PolicyRequest)
    return request


def explained(line: str, *callers: PolicyCaller) -> Explanation:
    return explain(asked(line), callers, policy(), NOW)


@pytest.mark.parametrize(
    ("line", "won", "lost"),
    [
        (
            "GET /ledgers/filter",
            LITERAL,
            (
                LosingRoute(ONE, "the literal filter is tried before {id}"),
                LosingRoute(REST, "the literal filter is tried before {rest...}"),
                LosingRoute(ANY_POST, "another method"),
                LosingRoute(EITHER, "another method"),
            ),
        ),
        (
            "GET /ledgers/x",
            ONE,
            (
                LosingRoute(REST, "{id}, one segment, is tried before {rest...}, all remaining segments"),
                LosingRoute(ANY_POST, "another method"),
                LosingRoute(EITHER, "another method"),
            ),
        ),
        ("GET /ledgers/x/y", REST, (LosingRoute(ANY_POST, "another method"),)),
        (
            "POST /ledgers",
            CREATE,
            (
                LosingRoute(ANY_POST, "the literal ledgers is tried before {all...}"),
                LosingRoute(LIST, "another method"),
            ),
        ),
        (
            "POST /api-keys/x",
            None,
            (LosingRoute(ANY_POST, "no placeholder reaches /api-keys"),),
        ),
        ("POST /metrics", None, (LosingRoute(ANY_POST, "no placeholder reaches /metrics"),)),
        (
            "GET /ledgers/",
            None,
            (LosingRoute(LIST, "the target ends with '/', so it is another path"),),
        ),
        ("GET /nothing/", None, ()),
        ("GET /", None, ()),
        (
            "HEAD /health",
            None,
            (LosingRoute(HEALTH, "another method"), LosingRoute(ANY_POST, "another method")),
        ),
        ("GET //", None, ()),
    ],
)
def test_the_losers_are_shown_with_the_reason(
    line: str, won: Route | None, lost: tuple[LosingRoute, ...]
) -> None:
    found = explained(line)
    assert (found.route, found.lost) == (won, lost)


SEGMENTS = ("ledgers", "a", "{one}", "{rest...}")
PATTERNS = [
    "/" + "/".join(parts)
    for length in (1, 2, 3)
    for parts in itertools.product(SEGMENTS, repeat=length)
    if "{rest...}" not in parts[:-1] and parts.count("{one}") < 2
]


@given(
    patterns=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=12, unique=True),
    segments=st.lists(st.sampled_from(["ledgers", "a", "b"]), min_size=1, max_size=3),
    slash=st.booleans(),
)
def test_the_winner_is_the_only_route_that_fits_and_has_not_lost(
    patterns: list[str], segments: list[str], slash: bool
) -> None:
    """The winner is the route that the test finds itself, by segments and by the kinds of the patterns."""
    request = asked("GET /" + "/".join(segments) + "/" * slash)
    found = explain(request, (), policy(*(scoped("GET", pattern) for pattern in patterns)), NOW)
    path = [*segments, *([""] if slash else [])]
    fitting = sorted((pattern for pattern in patterns if fits(pattern, path)), key=kinds)
    slashed = {lost.route.pattern for lost in found.lost if "ends with" in lost.reason}
    reported = {lost.route.pattern for lost in found.lost} - slashed
    assert found.route == (scoped("GET", fitting[0]) if fitting else None)
    assert reported == set(fitting[1:])


def fits(pattern: str, path: list[str]) -> bool:
    parts = pattern[1:].split("/")
    if parts[-1] == "{rest...}":
        rest = path[len(parts) - 1 :]
        return bool(rest) and "" not in rest and fits_exactly(parts[:-1], path[: len(parts) - 1])
    return fits_exactly(parts, path)


def fits_exactly(parts: list[str], path: list[str]) -> bool:
    return len(parts) == len(path) and all(
        part == segment or (part == "{one}" and segment != "")
        for part, segment in zip(parts, path, strict=True)
    )


def kinds(pattern: str) -> list[int]:
    return [2 if "..." in part else 1 if "{" in part else 0 for part in pattern[1:].split("/")]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("GET /ledgers", "ledgers:read"),
        ("PUT /ledgers/x", "ledgers:write or metadata:write"),
        ("GET /health", "nothing: anyone, without a key"),
        ("GET /hooks", "the master key"),
        ("GET /backup", "nothing helps: it is refused for everyone"),
        ("GET /nothing", "a route: none matches, and no resource of Core has this name"),
        (
            "DELETE /ledgers",
            "a route: none matches; a key without ledgers:delete, which Core implies here, gets 403, not 404",
        ),
        ("GET /a//b", "another target: an ambiguous target is refused for everyone"),
    ],
)
def test_what_is_needed_is_shown_in_one_line(line: str, text: str) -> None:
    assert needs(explained(line)) == text


@pytest.mark.parametrize(
    ("caller", "name"),
    [
        (NO_KEY, "no key"),
        (MASTER, "the master key"),
        (key_with(()), "a key without any scope"),
        (key_with(["a:read", "b:*"]), "a key with a:read, b:*"),
        (ApiKey("api_key_1", "ac\x9bme", ("a:read",), NOW + 1), "api_key_1 of ac\\x9bme, live, with a:read"),
        (ApiKey("api_key_1", "acme", (), NOW), "api_key_1 of acme, expired, without any scope"),
        (ApiKey("k", "acme", ("x\n:y",), NOW + 1, revoked=True), "k of acme, revoked, with x\\n:y"),
    ],
)
def test_a_caller_is_named_in_words(caller: PolicyCaller, name: str) -> None:
    assert name_of(caller, NOW) == name


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain é", "plain é"),
        ("\x1b[31m\x9b", "\\x1b[31m\\x9b"),
        ("\udcff", "\\udcff"),
        ("\u202e", "\\u202e"),
    ],
)
def test_nothing_shown_can_steer_a_terminal(text: str, escaped: str) -> None:
    assert printable(text) == escaped


def reported(route: Route, **more: str) -> dict[str, Any]:
    """Return a route as machines get it."""
    return {
        "name": route.name,
        "line": route.line,
        "access": route.access.value,
        "scopes": list(route.scopes),
        "stamp": route.stamp.value,
        "served_by": "core",
        **more,
    }


def refused(status: int, code: str, message: str) -> dict[str, Any]:
    body = f'{{"error":"{message}","error_detail":{{"code":"{code}","message":"{message}"}}}}'
    return {"status": status, "code": code, "message": message, "body": body}


def test_machines_get_all_of_it() -> None:
    stored = ApiKey("api_key_1", "ac\udcffme", ("ledgers:*",), NOW + 1)
    lacking = "Insufficient permissions for ledgers:write"
    assert members(explained("POST /ledgers?a=b", *EACH_KIND, stored)) == {
        "method": "POST",
        "target": {"raw": "/ledgers?a=b", "path": "/ledgers", "segments": ["ledgers"], "query": "a=b"},
        "route": reported(CREATE),
        "lost": [
            reported(ANY_POST, reason="the literal ledgers is tried before {all...}"),
            reported(LIST, reason="another method"),
        ],
        "implied_scope": "ledgers:write",
        "verdicts": [
            {
                "caller": {"kind": "key", "scopes": []},
                "decision": "deny",
                "answer": refused(403, "AUTH_INSUFFICIENT_PERMISSIONS", lacking),
            },
            {"caller": {"kind": "master key"}, "decision": "allow", "stamp": "none"},
            {
                "caller": {"kind": "no key"},
                "decision": "deny",
                "answer": refused(
                    401, "AUTH_MISSING_API_KEY", "Authentication required. Use X-Blnk-Key header"
                ),
            },
            {
                "caller": {
                    "kind": "key",
                    "id": "api_key_1",
                    "owner": "ac\\udcffme",
                    "state": "live",
                    "scopes": ["ledgers:*"],
                },
                "decision": "allow",
                "stamp": "create",
            },
        ],
    }


def test_machines_get_the_reason_of_an_ambiguous_target() -> None:
    assert members(explained("GET /a//b")) == {
        "method": "GET",
        "target": {"raw": "/a//b", "ambiguous": "empty segment"},
        "route": None,
        "lost": [],
        "implied_scope": None,
        "verdicts": [],
    }


def test_what_the_gateway_serves_itself_is_shown() -> None:
    assert members(explained("GET /api-keys"))["route"] == reported(KEYS, served_by="gateway")


def test_bytes_that_are_no_text_are_escaped_for_machines() -> None:
    target = members(explained("GET /ledgers/%ff"))["target"]
    assert target == {
        "raw": "/ledgers/%ff",
        "path": "/ledgers/%ff",
        "segments": ["ledgers", "\\udcff"],
        "query": "",
    }


def test_a_key_that_report_only_lets_pass_is_shown_with_its_later_code() -> None:
    """The explanation shows the code that the key will get after the date."""
    spared = Route("GET", "/ledgers", Access.SCOPES, ("ledgers:read",), report_until=NOW + 1, line=4)
    table = compile_routes((spared,))
    assert isinstance(table, RouteTable)
    reported = members(explain(asked("GET /ledgers"), (key_with(()),), Policy(table), NOW))
    assert reported["verdicts"] == [
        {
            "caller": reported["verdicts"][0]["caller"],  # type: ignore[index]
            "decision": "allow",
            "stamp": "none",
            "would_deny": "AUTH_INSUFFICIENT_PERMISSIONS",
        }
    ]


def test_a_key_is_shown_with_the_origins_that_no_verdict_knows() -> None:
    """The client's address and its certificate are no part of the request that is explained."""
    terms = KeyTerms(allow_from=(read_network("10.0.0.0/8"),), certificate="ab" * 32)
    key = ApiKey("api_key_1", "acme", ("ledgers:read",), NOW + 1, terms=terms)
    assert name_of(key, NOW) == (
        "api_key_1 of acme, live, with ledgers:read, only from 10.0.0.0/8, only with its client certificate"
    )
    found = members(explained("GET /ledgers/x", key))["verdicts"]
    assert found[0]["caller"] == {  # type: ignore[index]
        "kind": "key",
        "id": "api_key_1",
        "owner": "acme",
        "state": "live",
        "scopes": ["ledgers:read"],
        "allow_from": ["10.0.0.0/8"],
        "certificate": "ab" * 32,
    }
