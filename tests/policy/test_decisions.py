"""Decisions give every refusal in its order, and match the recorded contract."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import Code
from gateway.policy.decisions import Policy, authenticate, decide, may_grant, may_manage
from gateway.policy.principals import MASTER, ApiKey, Principal
from gateway.policy.routes import Access, Route, RouteTable, compile_routes
from gateway.policy.targets import parse_target
from gateway.policy.values import Allow, Deny

NOW = 1_000.0
HEALTH = Route("GET", "/health", Access.PUBLIC)
LEDGERS = Route("GET", "/ledgers", Access.SCOPES, ("ledgers:read",))
FILTER = Route("POST", "/ledgers/filter", Access.SCOPES, ("ledgers:read", "ledgers:write"))
HOOKS = Route("GET", "/hooks", Access.MASTER)
RECOVER = Route("POST", "/transactions/recover", Access.MASTER)
SNAPSHOTS = Route("POST", "/balances-snapshots", Access.MASTER)
BACKUP = Route("GET", "/backup", Access.DENY)


def key(*scopes: str, expires_at: float = NOW + 1, revoked: bool = False) -> ApiKey:
    return ApiKey("api_key_1", "acme", scopes, expires_at, revoked)


def table_of(*routes: Route) -> RouteTable:
    table = compile_routes(routes)
    assert isinstance(table, RouteTable)
    return table


TABLE = table_of(HEALTH, LEDGERS, FILTER, HOOKS, RECOVER, SNAPSHOTS, BACKUP)


def deny(code: Code, message: str | None = None, route: Route | None = None) -> Deny:
    return Deny(code, code.message if message is None else message, route)


def decided(principal: Principal, request: str) -> Allow | Deny:
    method, raw = request.split(" ")
    return decide(principal, method, parse_target(raw), Policy(TABLE), NOW)


@pytest.mark.parametrize(
    ("presented", "expected"),
    [
        (None, deny(Code.INVALID_KEY)),
        (key(), None),
        (key("*:*", expires_at=NOW), deny(Code.EXPIRED_KEY)),
        (key("*:*", revoked=True), deny(Code.EXPIRED_KEY)),
    ],
)
def test_only_a_known_and_live_key_is_authenticated(presented: ApiKey | None, expected: Deny | None) -> None:
    assert authenticate(presented, NOW) == expected


@pytest.mark.parametrize(
    ("principal", "request_line", "route"),
    [
        (key("ledgers:read"), "GET /ledgers?limit=1", LEDGERS),
        (key("foo", "*:read"), "GET /ledgers", LEDGERS),
        (key("ledgers:read"), "POST /ledgers/filter", FILTER),
        (key("ledgers:write"), "POST /ledgers/filter", FILTER),
        (key(), "GET /health", HEALTH),
        (key(revoked=True), "GET /health", HEALTH),
        (MASTER, "GET /health", HEALTH),
        (MASTER, "GET /ledgers", LEDGERS),
        (MASTER, "GET /hooks", HOOKS),
        (MASTER, "POST /balances-snapshots", SNAPSHOTS),
    ],
)
def test_a_listed_route_is_open_to_whom_it_names(
    principal: Principal, request_line: str, route: Route
) -> None:
    assert decided(principal, request_line) == Allow(route)


@pytest.mark.parametrize(
    ("principal", "request_line", "expected"),
    [
        (
            key(),
            "GET /ledgers",
            deny(Code.INSUFFICIENT, "Insufficient permissions for ledgers:read", LEDGERS),
        ),
        (
            key(),
            "POST /ledgers/filter",
            deny(Code.INSUFFICIENT, "Insufficient permissions for ledgers:read", FILTER),
        ),
        (key("*:*"), "GET /backup", deny(Code.UNKNOWN_RESOURCE, route=BACKUP)),
        (MASTER, "GET /backup", deny(Code.UNKNOWN_RESOURCE, route=BACKUP)),
        (key(), "GET /hooks", deny(Code.INSUFFICIENT, "Insufficient permissions for hooks:read", HOOKS)),
        (key("hooks:read"), "GET /hooks", deny(Code.MASTER_REQUIRED, route=HOOKS)),
        (
            key("*:*"),
            "POST /transactions/recover",
            deny(Code.MASTER_REQUIRED, "this route requires the master key", RECOVER),
        ),
        (key("*:*"), "POST /balances-snapshots", deny(Code.UNKNOWN_RESOURCE, route=SNAPSHOTS)),
        (key("*:*"), "GET /foo", deny(Code.UNKNOWN_RESOURCE)),
        (key("*:*"), "GET /", deny(Code.UNKNOWN_RESOURCE)),
        (
            key("balances:*"),
            "GET /ledgers/",
            deny(Code.INSUFFICIENT, "Insufficient permissions for ledgers:read"),
        ),
        (key("*:*"), "OPTIONS /ledgers", deny(Code.INSUFFICIENT, "Insufficient permissions for ledgers:")),
        (key("*:*"), "GET /ledgers/", deny(Code.NOT_FOUND)),
        (key("*:*"), "HEAD /ledgers", deny(Code.NOT_FOUND)),
        (MASTER, "GET /foo", deny(Code.NOT_FOUND)),
        (MASTER, "OPTIONS /ledgers", deny(Code.NOT_FOUND)),
        (key("*:*"), "GET //ledgers", deny(Code.AMBIGUOUS_TARGET)),
        (MASTER, "GET //ledgers", deny(Code.AMBIGUOUS_TARGET)),
        (key("*:*", revoked=True), "GET //ledgers", deny(Code.EXPIRED_KEY)),
        (key("*:*", revoked=True), "GET /foo", deny(Code.EXPIRED_KEY)),
        (key("*:*", expires_at=NOW), "GET /ledgers", deny(Code.EXPIRED_KEY)),
        (key("*:*", expires_at=NOW), "GET /backup", deny(Code.EXPIRED_KEY)),
    ],
)
def test_everything_else_is_refused_for_its_first_reason(
    principal: Principal, request_line: str, expected: Deny
) -> None:
    assert decided(principal, request_line) == expected


@pytest.mark.parametrize(
    ("principal", "owner", "required", "expected"),
    [
        (MASTER, "globex", True, "globex"),
        (MASTER, "globex", False, "globex"),
        (MASTER, "", False, ""),
        (MASTER, "", True, deny(Code.OWNER_REQUIRED)),
        (key(), "", True, "acme"),
        (key(), "", False, "acme"),
        (key(), "acme", True, "acme"),
        (key("*:*"), "globex", False, deny(Code.CROSS_OWNER)),
        (key("*:*"), "Acme", True, deny(Code.CROSS_OWNER)),
    ],
)
def test_a_scoped_key_manages_the_keys_of_its_own_owner_only(
    principal: Principal, owner: str, required: bool, expected: str | Deny
) -> None:
    assert may_manage(principal, owner, required=required) == expected


@pytest.mark.parametrize(
    ("principal", "scopes", "expected"),
    [
        (MASTER, ("*:*", "anything"), None),
        (key("ledgers:*"), ("ledgers:read", "ledgers:*"), None),
        (key(), (), None),
        (key("ledgers:*"), ("ledgers:read", "balances:read"), deny(Code.SCOPE_ESCALATION)),
        (key("ledgers:read"), ("ledgers:*",), deny(Code.SCOPE_ESCALATION)),
        (key("*:*"), ("ledgers",), deny(Code.SCOPE_ESCALATION)),
    ],
)
def test_a_scoped_key_grants_no_scope_that_it_does_not_hold(
    principal: Principal, scopes: tuple[str, ...], expected: Deny | None
) -> None:
    assert may_grant(principal, scopes) == expected


CONTRACT = Path(__file__).parents[1] / "contract"
JUDGED_HERE = {
    code.code: code
    for code in (
        Code.EXPIRED_KEY,
        Code.INSUFFICIENT,
        Code.UNKNOWN_RESOURCE,
        Code.MASTER_REQUIRED,
        Code.NOT_FOUND,
    )
} | {"GEN_BAD_REQUEST": Code.AMBIGUOUS_TARGET}


def contract_route(row: dict[str, Any]) -> Route:
    if row.get("exempt"):
        return Route(row["method"], row["path"], Access.PUBLIC)
    if row.get("master_only") or row.get("closed"):
        return Route(row["method"], row["path"], Access.MASTER)
    return Route(row["method"], row["path"], Access.SCOPES, (row["scope"],))


def contract_principals() -> dict[str, Principal]:
    rows = json.loads((CONTRACT / "principals.json").read_text())
    return {
        name: MASTER
        if row["state"] == "master"
        else ApiKey(
            name,
            row["owner"],
            tuple(row["scopes"]),
            NOW if row["state"] == "expired" else NOW + 1,
            row["state"] == "revoked",
        )
        for name, row in rows.items()
    }


def contract_cases() -> list[dict[str, Any]]:
    cases = map(json.loads, (CONTRACT / "cases.jsonl").read_text().splitlines())
    return [
        case
        for case in cases
        if case["id"].split("/")[0] in ("matrix", "scope", "path", "method", "master")
        and case["principal"]
        and not any(name.lower() == "x-blnk-key" for name, _ in case["request"].get("headers", ()))
    ]


CORE_TABLE = table_of(
    *(
        contract_route(row)
        for row in json.loads((CONTRACT / "routes.json").read_text())
        if not row.get("hidden")
    )
)
PRINCIPALS = contract_principals()


@pytest.mark.parametrize("case", contract_cases(), ids=lambda case: case["id"])
def test_the_contract_is_decided_as_recorded(case: dict[str, Any]) -> None:
    request, response = case["request"], case["gateway"].get("answers", {})
    target = parse_target(re.sub(r"\{\{\w+(:\w+)?\}\}", "x", request["target"]))
    decision = decide(PRINCIPALS[case["principal"]], request["method"], target, Policy(CORE_TABLE), NOW)
    if response.get("status") in (400, 404) and response["code"] is None:
        assert isinstance(decision, Deny)
        assert decision.code.status == response["status"]
    elif response.get("code") in JUDGED_HERE:
        assert isinstance(decision, Deny)
        assert (decision.code, decision.message) == (JUDGED_HERE[response["code"]], response["message"])
    else:
        assert isinstance(decision, Allow)
