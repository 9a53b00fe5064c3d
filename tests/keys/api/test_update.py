"""PATCH /api-keys/{id} over each store: who may, what a body may say, and the response."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.errors import Code
from gateway.keys.api.resource import ApiKeys, ApiResponse
from gateway.keys.api.update_bodies import read_update
from gateway.keys.record import Change, Event, KeyRecord
from gateway.keys.store import KeyStore
from gateway.policy.principals import MASTER, ApiKey
from gateway.policy.terms import KeyTerms, Rate, read_network
from gateway.policy.values import Deny
from tests.keys.records import RECORD, instant, revocation

COUNT = "write a whole number from 1 to 1000000, or null"
QUERY = "owner=acme"
KNOWN = "name, scopes, expires_at, rate, burst, concurrency, allow_from, certificate, reason"
NOT_FOUND = Deny(Code.KEY_NOT_FOUND, "API key not found")
BOUND = replace(RECORD, terms=KeyTerms(rate=Rate(100), burst=20, certificate="ab" * 32))


def malformed(text: str) -> Deny:
    return Deny(Code.MALFORMED_BODY, text)


@pytest.fixture
async def changed() -> list[KeyRecord]:
    return []


@pytest.fixture
async def api_keys(store: KeyStore, changed: list[KeyRecord]) -> ApiKeys:
    return ApiKeys(store, changed.append, lambda: datetime(2026, 2, 1, tzinfo=UTC), bytes)


async def test_the_response_is_the_key_as_in_a_list_and_the_record_says_who_and_why(
    api_keys: ApiKeys, store: KeyStore, changed: list[KeyRecord]
) -> None:
    await store.add(BOUND)
    await store.record_uses({BOUND.id: instant("2026-01-15T00:00:00Z").unix})
    body = (
        b'{"name":"payments","scopes":["balances:read"],"expires_at":"2026-03-01T00:00:00Z","rate":null,'
        b'"concurrency":5,"allow_from":["10.0.0.0/8"],"reason":"moved"}'
    )
    assert await api_keys.update(MASTER, BOUND.id, QUERY, body) == ApiResponse(
        200,
        b'{"api_key_id":"%b","key":"","name":"payments","owner_id":"acme","scopes":["balances:read"],'
        b'"expires_at":"2026-03-01T00:00:00Z","created_at":"2026-01-01T00:00:00Z",'
        b'"last_used_at":"2026-01-15T00:00:00Z","is_revoked":false,"terms":{"concurrency":5,'
        b'"allow_from":["10.0.0.0/8"],"certificate":"%b"}}' % (BOUND.id.encode(), b"ab" * 32),
        updated=BOUND.id,
    )
    event = Event(
        instant("2026-02-01T00:00:00Z"),
        "updated",
        "master",
        "moved",
        (
            Change("name", "n", "payments"),
            Change("scopes", "ledgers:read", "balances:read"),
            Change("expires_at", "2999-01-02T03:04:05Z", "2026-03-01T00:00:00Z"),
            Change("rate", "100/s", ""),
            Change("burst", "20", ""),
            Change("concurrency", "", "5"),
            Change("allow_from", "", "10.0.0.0/8"),
        ),
    )
    expected = replace(
        BOUND,
        name="payments",
        scopes=("balances:read",),
        expires_at=instant("2026-03-01T00:00:00Z"),
        terms=KeyTerms(concurrency=5, allow_from=(read_network("10.0.0.0/8"),), certificate="ab" * 32),
        history=(event,),
    )
    assert (await store.get_by_digest(BOUND.digest), changed) == (expected, [expected])


async def test_no_other_key_may_change_a_key(api_keys: ApiKeys, store: KeyStore) -> None:
    """Not even one with every scope, and also where a route table would let it."""
    await store.add(RECORD)
    caller = ApiKey("api_key_caller", "acme", ("*:*",), 4e9)
    refusal = Deny(Code.MASTER_REQUIRED, "changing a key requires the master key")
    for key_id in (RECORD.id, "unknown"):
        assert await api_keys.update(caller, key_id, QUERY, b'{"name":"x"}') == refusal
    assert await store.get(RECORD.id) == RECORD


async def test_the_owner_must_be_named_and_be_the_keys(api_keys: ApiKeys, store: KeyStore) -> None:
    """As for DELETE, so that a wrong id changes no other owner's key."""
    await store.add(RECORD)
    body = b'{"name":"x"}'
    assert await api_keys.update(MASTER, RECORD.id, "", body) == Deny(
        Code.OWNER_REQUIRED, "owner is required"
    )
    assert await api_keys.update(MASTER, RECORD.id, "owner=globex", body) == NOT_FOUND
    assert await api_keys.update(MASTER, "api_key_x", QUERY, body) == NOT_FOUND
    assert await store.get(RECORD.id) == RECORD


async def test_a_key_that_has_ended_is_not_changed(
    api_keys: ApiKeys, store: KeyStore, changed: list[KeyRecord]
) -> None:
    dead = RECORD.as_revoked(revocation("2026-01-15T00:00:00Z", "master"))
    await store.add(dead)
    assert await api_keys.update(MASTER, dead.id, QUERY, b'{"name":"x"}') == Deny(
        Code.KEY_UPDATE, f"{dead.id} is revoked, and stays so: create a new key"
    )
    assert (await store.get(dead.id), changed) == (dead, [])


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "EOF"),
        (b"{}", "name a member to change"),
        (b'{"reason":"x"}', "name a member to change"),
        (b"[]", "Request body must be one JSON object"),
        (b'{"name":"x"} x', "Request body must be one JSON object"),
        (b'{"Name":"x"}', f"a member is not one of {KNOWN}"),
        (b'{"name":"x","owner":"globex"}', f"a member is not one of {KNOWN}"),
        (b'{"name":"x","is_revoked":false}', f"a member is not one of {KNOWN}"),
        (b'{"name":null}', "name: write a string of at most 256 characters"),
        (b'{"name":""}', "name: write at least one character"),
        (b'{"name":"%b"}' % (b"x" * 257), "name: write a string of at most 256 characters"),
        (b'{"scopes":"ledgers:read"}', "scopes: write a list of strings"),
        (b'{"scopes":[null]}', "scopes: write a list of strings"),
        (b'{"scopes":null}', "scopes: write a list of strings"),
        (b'{"expires_at":"90d"}', "expires_at: write a time in RFC 3339, as 2027-01-31T00:00:00Z"),
        (b'{"expires_at":4e9}', "expires_at: write a time in RFC 3339, as 2027-01-31T00:00:00Z"),
        (
            b'{"expires_at":"9999-12-31T23:59:59-01:00"}',
            "expires_at: write a time before the year 10000 in UTC",
        ),
        (
            b'{"rate":100,"burst":0}',
            f"rate: write a string of at most 256 characters\nburst: {COUNT}",
        ),
        (b'{"burst":true}', "burst: write a whole number from 1 to 1000000, or null"),
        (b'{"concurrency":1000001}', "concurrency: write a whole number from 1 to 1000000, or null"),
        (b'{"concurrency":1.5}', "concurrency: write a whole number from 1 to 1000000, or null"),
        (b'{"allow_from":[]}', "allow_from: write from 1 to 32 networks"),
        (
            b'{"allow_from":["10.0.0.1/8"]}',
            "allow_from: write an IP address or a network whose host bits are 0, as 10.0.0.0/8",
        ),
        (
            b'{"certificate":"x"}',
            "certificate: write the certificate's SHA-256 fingerprint, 64 hexadecimal digits",
        ),
    ],
)
def test_a_body_that_cannot_be_meant_is_refused(body: bytes, text: str) -> None:
    assert read_update(body) == malformed(text)
