"""The verdict on a request of a caller, before the body is read."""

from __future__ import annotations

import json

import pytest

from gateway.errors import Code
from gateway.keys.minting import mint_key
from gateway.policy.decisions import Policy
from gateway.policy.principals import MASTER, ApiKey
from gateway.policy.routes import Access, Route, RouteTable, Stamp, compile_routes
from gateway.policy.values import Allow, Deny
from gateway.policy.verdicts import (
    HOLDABLE,
    NO_KEY,
    PolicyCaller,
    PolicyRequest,
    Unreadable,
    Verdict,
    body_of,
    holds_key,
    key_with,
    read_request,
    verdict,
)

NOW = 1_000.0
KEY = "A_b-0" * 8 + "xyz="  # the shape of a key
PREFIXED = mint_key(bytes, "blnk_live_")
HEALTH = Route("GET", "/health", Access.PUBLIC)
READ = Route("GET", "/ledgers", Access.SCOPES, ("ledgers:read",))
CREATE = Route("POST", "/ledgers", Access.SCOPES, ("ledgers:write",), Stamp.CREATE)
METHODS = "the method is one of DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, TRACE, in capitals"
PATH = "begin the path with '/', and percent-encode everything in it but visible ASCII"
HELD = "the path holds a key, or a text that looks like one: remove it"


def policy(*, accepts_master: bool = True) -> Policy:
    table = compile_routes((HEALTH, READ, CREATE))
    assert isinstance(table, RouteTable)
    return Policy(table, accepts_master=accepts_master)


def asked(line: str) -> PolicyRequest:
    request = read_request(*line.split(" ", 1))
    assert isinstance(request, PolicyRequest)
    return request


def deny(code: Code, message: str | None = None, route: Route | None = None) -> Deny:
    return Deny(code, code.message if message is None else message, route)


@pytest.mark.parametrize(
    ("caller", "line", "decision", "stamp"),
    [
        (NO_KEY, "GET /health", Allow(HEALTH), Stamp.NONE),
        (key_with(()), "GET /health", Allow(HEALTH), Stamp.NONE),
        (NO_KEY, "GET /ledgers", deny(Code.MISSING_KEY), Stamp.NONE),
        (NO_KEY, "GET //", deny(Code.MISSING_KEY), Stamp.NONE),
        (MASTER, "GET //", deny(Code.AMBIGUOUS_TARGET), Stamp.NONE),
        (MASTER, "POST /ledgers", Allow(CREATE), Stamp.NONE),
        (key_with(["ledgers:write"]), "POST /ledgers", Allow(CREATE), Stamp.CREATE),
        (key_with(["ledgers:read"]), "GET /ledgers", Allow(READ), Stamp.NONE),
        (
            key_with(["ledgers:read"]),
            "POST /ledgers",
            deny(Code.INSUFFICIENT, "Insufficient permissions for ledgers:write", CREATE),
            Stamp.NONE,
        ),
        (ApiKey("k", "acme", ("*:*",), NOW), "GET /ledgers", deny(Code.EXPIRED_KEY), Stamp.NONE),
        (ApiKey("k", "acme", ("*:*",), NOW), "GET /health", Allow(HEALTH), Stamp.NONE),
    ],
)
def test_each_caller_gets_what_the_data_path_gives(
    caller: PolicyCaller, line: str, decision: Allow | Deny, stamp: Stamp
) -> None:
    assert verdict(asked(line), caller, policy(), NOW) == Verdict(caller, decision, stamp)


@pytest.mark.parametrize(
    ("line", "decision"), [("GET /ledgers", deny(Code.INVALID_KEY)), ("GET /health", Allow(HEALTH))]
)
def test_a_master_key_that_is_not_accepted_is_an_invalid_one(line: str, decision: Allow | Deny) -> None:
    refusing = policy(accepts_master=False)
    assert verdict(asked(line), MASTER, refusing, NOW) == Verdict(MASTER, decision, Stamp.NONE)


@pytest.mark.parametrize(
    ("method", "raw", "text"),
    [
        ("get", "/ledgers", "write the method in capitals: GET"),
        ("GETT", "/ledgers", METHODS),
        ("CONNECT", "/ledgers", METHODS),
        ("", "/ledgers", METHODS),
        ("GET", "", PATH),
        ("GET", "ledgers", PATH),
        ("GET", "http://x/ledgers", PATH),
        ("GET", "/a b", PATH),
        ("GET", "/a?b c", PATH),
        ("GET", "/\xe9", PATH),
        ("GET", "/a\n", PATH),
        ("GET", "/a\x7f", PATH),
        ("GET", f"/ledgers/{KEY}", HELD),
        ("GET", f"/ledgers?key={KEY}&x", HELD),
        ("GET", f"/ledgers/{KEY[:-1]}%3d", HELD),
    ],
)
def test_what_no_request_line_can_hold_is_not_judged(method: str, raw: str, text: str) -> None:
    assert read_request(method, raw) == Unreadable(text)


@pytest.mark.parametrize("line", ["TRACE /x", "GET /a//b#c\\%zz", "GET /?x=1"])
def test_a_request_reads_as_its_request_line(line: str) -> None:
    assert str(asked(line)) == line


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (KEY, True),
        (f"x{KEY}x", True),
        (PREFIXED, True),
        (f"/ledgers/{PREFIXED}", True),
        (KEY[:-1], False),
        (KEY[1:], False),
        (PREFIXED[:-1], False),
        ("", False),
    ],
)
def test_a_key_is_known_by_its_shape(text: str, holds: bool) -> None:
    assert holds_key(text) is holds


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (
            "GET /ledgers",
            {
                "error": "Route not found",
                "error_detail": {"code": "GEN_NOT_FOUND", "message": "Route not found"},
            },
        ),
        ("HEAD /ledgers", None),
    ],
)
def test_the_body_is_the_one_that_is_sent(line: str, body: object) -> None:
    sent = body_of(asked(line), deny(Code.NOT_FOUND))
    assert (json.loads(sent) if sent else None) == body


def test_the_scopes_worth_holding_are_resources_and_actions_and_wildcards() -> None:
    assert len(HOLDABLE) == len(set(HOLDABLE)) == 13 * 4
    assert {"ledgers:read", "ledgers:*", "*:delete", "*:*"} < set(HOLDABLE)
