"""Scopes: which requests a scope covers, which scope Core implies, and which scopes may be granted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.scopes import ACTIONS, RESOURCES, covering, covers, grantable, holds, implied_scope

CONTRACT = json.loads((Path(__file__).parents[1] / "contract" / "routes.json").read_text())
NO_RESOURCE = {"/balances-snapshots", "/backup-s3", "/{entity_id}/metadata"}

scopes = st.lists(
    st.sampled_from(["ledgers", "balances", "read", "write", "*", "", " ", "é"]), max_size=4
).map(":".join)


@pytest.mark.parametrize(
    ("granted", "required"),
    [
        ("ledgers:read", "ledgers:read"),
        ("ledgers:*", "ledgers:read"),
        ("*:read", "ledgers:read"),
        ("*:*", "ledgers:read"),
        ("ledgers:*", "ledgers:*"),
        ("*:*", "ledgers:*"),
        ("*:read", "*:read"),
        ("*:*", "*:*"),
    ],
)
def test_a_scope_covers_itself_and_what_its_wildcards_stand_for(granted: str, required: str) -> None:
    assert covers(granted, required)


@pytest.mark.parametrize(
    ("granted", "required"),
    [
        ("ledgers:write", "ledgers:read"),
        ("balances:read", "ledgers:read"),
        ("*:write", "ledgers:read"),
        ("ledgers:read", "ledgers:*"),
        ("ledgers:*", "*:*"),
        ("ledger*:read", "ledgers:read"),
        ("balances:read", "balance-monitors:read"),
        ("Ledgers:read", "ledgers:read"),
        (" ledgers:read", "ledgers:read"),
        ("balances:read,ledgers:read", "ledgers:read"),
    ],
)
def test_a_scope_covers_nothing_beyond_its_wildcards(granted: str, required: str) -> None:
    assert not covers(granted, required)


@pytest.mark.parametrize(
    "malformed", ["", "*", ":", "ledgers", "ledgers:", ":read", "ledgers:read:x", "*:*:*"]
)
def test_a_malformed_scope_neither_covers_nor_is_covered(malformed: str) -> None:
    covered_by = [scope for scope in ("*:*", "ledgers:*", "*:read", malformed) if covers(scope, malformed)]
    assert (covering(malformed), covered_by, covers(malformed, "ledgers:read")) == (frozenset(), [], False)


@settings(deadline=None)
@given(scopes, scopes)
def test_covering_is_equality_half_by_half_or_a_wildcard(granted: str, required: str) -> None:
    halves = granted.split(":"), required.split(":")
    well_formed = all(len(pair) == 2 and all(pair) for pair in halves)
    expected = well_formed and all(have in ("*", want) for have, want in zip(*halves, strict=True))
    assert covers(granted, required) is expected


def test_a_key_holds_a_scope_when_any_of_its_own_covers_it() -> None:
    assert holds(("balances:write", "foo", "ledgers:*"), "ledgers:read")


def test_a_key_without_a_covering_scope_does_not_hold_it() -> None:
    assert [holds(own, "ledgers:read") for own in ((), ("balances:*", "ledgers"))] == [False, False]


def test_the_implied_scope_is_that_of_the_contract_on_every_route_of_core() -> None:
    protected = [route for route in CONTRACT if route["scope"]]
    implied = {
        f"{route['method']} {route['path']}": implied_scope(route["method"], route["path"].split("/")[1])
        for route in protected
    }
    assert implied == {
        f"{route['method']} {route['path']}": None if route["path"] in NO_RESOURCE else route["scope"]
        for route in protected
    }


def test_core_knows_fifteen_first_segments_of_twelve_resources() -> None:
    assert (len(RESOURCES), len(set(RESOURCES.values())), set(ACTIONS.values())) == (
        15,
        12,
        {"read", "write", "delete"},
    )


@pytest.mark.parametrize("segment", ["", "foo", "Ledgers", "ledgersx", "balances-snapshots", "ledgers:"])
def test_an_unknown_first_segment_implies_no_scope(segment: str) -> None:
    assert implied_scope("GET", segment) is None


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PROPFIND", "FOO", "get", "CONNECT", ""])
def test_a_method_without_an_action_implies_a_scope_nobody_holds(method: str) -> None:
    implied = implied_scope(method, "ledgers")
    assert implied == "ledgers:"
    assert not holds(("*:*", "ledgers:*", "ledgers:"), implied)


def test_a_caller_grants_only_scopes_that_its_own_cover() -> None:
    caller = ("ledgers:*", "api-keys:write")
    asked = [(), ("ledgers:read", "ledgers:*"), ("ledgers:read", "balances:read"), ("*:*",), ("ledgers",)]
    assert [grantable(caller, scopes) for scopes in asked] == [True, True, False, False, False]
