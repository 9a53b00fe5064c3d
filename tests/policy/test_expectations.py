"""Policy tests compare what they expect with what a request gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.policy.decisions import Policy
from gateway.policy.expectations import (
    ALLOW,
    INGRESS,
    REFUSALS,
    Mismatch,
    PolicyTest,
    PolicyTestResult,
    run_test,
)
from gateway.policy.principals import MASTER
from gateway.policy.routes import Access, Route, RouteTable, Stamp, compile_routes
from gateway.policy.verdicts import NO_KEY, PolicyCaller, PolicyRequest, key_with, read_request

CREATE = Route("POST", "/ledgers", Access.SCOPES, ("ledgers:write",), Stamp.CREATE)
HOOKS = Route("GET", "/hooks", Access.MASTER)
WRITER, READER = key_with(["ledgers:write"]), key_with(["ledgers:read"])
UNDECIDED = "403 GATEWAY_NOT_DECIDED"
LACKING = "403 AUTH_INSUFFICIENT_PERMISSIONS"


def policy(*, accepts_master: bool = True) -> Policy:
    table = compile_routes((CREATE, HOOKS))
    assert isinstance(table, RouteTable)
    return Policy(table, accepts_master=accepts_master)


def asked(line: str) -> PolicyRequest:
    request = read_request(*line.split(" ", 1))
    assert isinstance(request, PolicyRequest)
    return request


WRITES = PolicyTest("writes", WRITER, asked("POST /ledgers"), ALLOW, "POST /ledgers", Stamp.CREATE, 7)


@pytest.mark.parametrize(
    ("test", "route"),
    [
        (WRITES, CREATE),
        (replace(WRITES, route=None, stamp=None), CREATE),
        (PolicyTest("", READER, asked("POST /ledgers"), LACKING, "POST /ledgers"), CREATE),
        (PolicyTest("", NO_KEY, asked("POST /ledgers"), "401 AUTH_MISSING_API_KEY"), CREATE),
        (PolicyTest("", MASTER, asked("POST /ledgers"), ALLOW, stamp=Stamp.NONE), CREATE),
        (PolicyTest("", MASTER, asked("GET /nothing"), "404 GEN_NOT_FOUND", "none"), None),
        (PolicyTest("", WRITER, asked("GET //"), "400 GEN_BAD_REQUEST", "none"), None),
    ],
)
def test_what_comes_as_expected_holds(test: PolicyTest, route: Route | None) -> None:
    outcome = run_test(test, policy())
    assert outcome == PolicyTestResult(test, route, ())
    assert outcome.holds


@pytest.mark.parametrize(
    ("unstamped", "caller", "line", "expect"),
    [
        (False, WRITER, "POST /ledgers", UNDECIDED),
        (True, WRITER, "POST /ledgers", ALLOW),
        (True, READER, "POST /ledgers", LACKING),
        (True, MASTER, "GET /hooks", UNDECIDED),
        (True, NO_KEY, "GET /hooks", "401 AUTH_MISSING_API_KEY"),
    ],
)
def test_an_ingress_may_not_do_what_only_the_gateway_does(
    unstamped: bool, caller: PolicyCaller, line: str, expect: str
) -> None:
    """At the listener for decisions nothing is stamped, even where the policy lets that pass."""
    test = PolicyTest("", caller, asked(line), expect, stamp=Stamp.NONE, at=INGRESS)
    assert run_test(test, replace(policy(), delegates_unstamped=unstamped)).mismatches == ()


def test_every_difference_is_reported() -> None:
    test = replace(WRITES, caller=READER, route="GET /ledgers", stamp=Stamp.BULK)
    outcome = run_test(test, policy())
    assert outcome.mismatches == (
        Mismatch("decision", "allow", f"{LACKING} Insufficient permissions for ledgers:write"),
        Mismatch("route", "GET /ledgers", "POST /ledgers"),
        Mismatch("stamp", "bulk", "none"),
    )
    assert not outcome.holds


def test_an_open_door_is_a_failure() -> None:
    test = replace(WRITES, expect=LACKING, stamp=None)
    assert run_test(test, policy()).mismatches == (Mismatch("decision", LACKING, "allow"),)


def test_the_master_key_is_refused_where_it_is_not_accepted() -> None:
    test = PolicyTest("", MASTER, asked("GET /hooks"), "401 AUTH_INVALID_API_KEY")
    assert run_test(test, policy(accepts_master=False)).holds


def test_a_test_can_expect_what_a_decision_can_say() -> None:
    assert REFUSALS == (
        "401 AUTH_MISSING_API_KEY",
        "401 AUTH_INVALID_API_KEY",
        "400 GEN_BAD_REQUEST",
        "403 AUTH_INSUFFICIENT_PERMISSIONS",
        "403 AUTH_UNKNOWN_RESOURCE",
        "403 AUTH_MASTER_KEY_REQUIRED",
        "404 GEN_NOT_FOUND",
        "403 GATEWAY_NOT_DECIDED",
    )
