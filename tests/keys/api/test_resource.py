"""/api-keys over each store: owners, scope escalation, revocation, and the bytes of the responses."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from gateway.errors import Code, GatewayError
from gateway.keys.api.resource import ApiKeys, ApiResponse, read_owner
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.minting import digest
from gateway.keys.quota import NO_QUOTA, Quota
from gateway.keys.record import KeyRecord
from gateway.keys.revocation import revoke_key
from gateway.keys.store import KeyStore
from gateway.policy.principals import MASTER, ApiKey
from gateway.policy.terms import KeyTerms, Rate, read_network
from gateway.policy.values import Deny
from tests.keys.records import GLOBEX, OTHER, RECORD, instant, revocation

CALLER = ApiKey("api_key_caller", "acme", ("api-keys:*", "ledgers:read"), 4e9)
NEW_KEY = "A" * 43 + "="
NEW_ID = "api_key_00000000-0000-4000-8000-000000000000"
NOT_FOUND = Deny(Code.KEY_NOT_FOUND, "API key not found")
CROSS_OWNER = Deny(Code.CROSS_OWNER, "cannot manage API keys for another owner")
OWNER_REQUIRED = Deny(Code.OWNER_REQUIRED, "owner is required")
ESCALATION = Deny(Code.SCOPE_ESCALATION, "cannot grant scopes broader than caller")


def body(owner: str = "acme", scopes: str = '["ledgers:read"]') -> bytes:
    return f'{{"name":"n","owner":"{owner}","scopes":{scopes},"expires_at":"2999-01-02T03:04:05Z"}}'.encode()


def seconds_of_2026() -> Callable[[], datetime]:
    """Return a clock that advances one second each time it is read."""
    ticks = itertools.count()
    return lambda: datetime(2026, 2, 1, tzinfo=UTC) + timedelta(seconds=next(ticks))


@pytest.fixture
async def changed() -> list[KeyRecord]:
    return []


@pytest.fixture
async def api_keys(store: KeyStore, changed: list[KeyRecord]) -> ApiKeys:
    return ApiKeys(store, changed.append, seconds_of_2026(), lambda size: bytes(size))


async def test_a_new_key_is_in_the_response_and_stored_by_its_digest(
    api_keys: ApiKeys, store: KeyStore, changed: list[KeyRecord]
) -> None:
    record = replace(
        RECORD,
        id=NEW_ID,
        digest=digest(NEW_KEY),
        created_at=instant("2026-02-01T00:00:00Z"),
        created_by="api_key_caller",
    )
    assert await api_keys.create(CALLER, body()) == ApiResponse(
        201,
        f'{{"api_key_id":"{NEW_ID}","key":"{NEW_KEY}","name":"n","owner_id":"acme","scopes":["ledgers:read"],'
        '"expires_at":"2999-01-02T03:04:05Z","created_at":"2026-02-01T00:00:00Z",'
        '"last_used_at":"0001-01-01T00:00:00Z","is_revoked":false}'.encode(),
        created=NEW_ID,
    )
    assert (await store.get_by_digest(digest(NEW_KEY)), changed) == (record, [record])


async def test_the_master_key_mints_for_any_owner_and_any_scopes(api_keys: ApiKeys, store: KeyStore) -> None:
    response = await api_keys.create(MASTER, body(owner="globex", scopes='["*:*","nonsense",""]'))
    stored = await store.get_by_digest(digest(NEW_KEY))
    assert isinstance(response, ApiResponse)
    assert stored is not None
    assert (response.status, stored.owner, stored.created_by) == (201, "globex", "master")
    assert stored.scopes == ("*:*", "nonsense", "")


async def test_a_key_that_a_key_creates_has_the_terms_of_its_creator(
    api_keys: ApiKeys, store: KeyStore
) -> None:
    """So no key escapes its own terms, not even its rate, which both share; a body cannot name others."""
    terms = KeyTerms(rate=Rate(10), allow_from=(read_network("10.0.0.0/8"),), certificate="ab" * 32)
    sent = body().replace(b'"name"', b'"terms":{},"allow_from":["0.0.0.0/0"],"rate":"100/s","name"')
    await api_keys.create(replace(CALLER, terms=terms), sent)
    stored = await store.get_by_digest(digest(NEW_KEY))
    assert stored is not None
    assert stored.terms == replace(terms, shared_with=CALLER.id)


@pytest.mark.parametrize(
    ("sent", "refusal"),
    [
        (b"", Deny(Code.MALFORMED_BODY, "EOF")),
        (body(owner="globex", scopes='["*:*"]'), CROSS_OWNER),
        (body(owner=" "), CROSS_OWNER),
        (body(scopes='["ledgers:read","ledgers:write"]'), ESCALATION),
        (body(scopes='[""]'), ESCALATION),
    ],
)
async def test_a_creation_that_core_refuses_is_refused_and_nothing_is_stored(
    api_keys: ApiKeys, store: KeyStore, changed: list[KeyRecord], sent: bytes, refusal: Deny
) -> None:
    assert await api_keys.create(CALLER, sent) == refusal
    assert (await store.is_empty(), changed) == (True, [])


async def test_a_bad_body_is_named_before_another_owner(api_keys: ApiKeys) -> None:
    text = "Key: 'CreateAPIKeyRequest.Name' Error:Field validation for 'Name' failed on the 'required' tag"
    sent = body(owner="globex").replace(b'"n"', b'""')
    assert await api_keys.create(CALLER, sent) == Deny(Code.MALFORMED_BODY, text)


async def listed(api_keys: ApiKeys, principal: ApiKey, query: str) -> list[str]:
    """Return the ids in a list."""
    response = await api_keys.list(principal, query)
    assert isinstance(response, ApiResponse)
    return [member["api_key_id"] for member in msgspec.json.decode(response.body)]


async def test_a_caller_lists_its_own_keys_newest_first(api_keys: ApiKeys, store: KeyStore) -> None:
    for record in (RECORD, OTHER, GLOBEX):
        await store.add(record)
    assert await listed(api_keys, CALLER, "") == [OTHER.id, RECORD.id]
    assert await listed(api_keys, CALLER, "owner=acme&owner=globex") == [OTHER.id, RECORD.id]
    assert await api_keys.list(CALLER, "owner=globex&owner=acme") == CROSS_OWNER


async def test_the_master_key_lists_the_owner_that_it_names(api_keys: ApiKeys, store: KeyStore) -> None:
    await store.add(RECORD)
    assert await api_keys.list(MASTER, "owner=nobody") == ApiResponse(200, b"null")
    assert await api_keys.list(MASTER, "Owner=acme") == OWNER_REQUIRED
    assert await api_keys.list(MASTER, "owner=%ff") == ApiResponse(200, b"null")


async def test_a_second_revocation_gets_204_and_the_first_time_is_kept(
    api_keys: ApiKeys, store: KeyStore, changed: list[KeyRecord]
) -> None:
    await store.add(RECORD)
    revoked = replace(RECORD, revocation=revocation("2026-02-01T00:00:00Z", "api_key_caller"))
    assert await api_keys.delete(CALLER, RECORD.id, "owner=acme") == ApiResponse(204, revoked=RECORD.id)
    assert await api_keys.delete(CALLER, RECORD.id, "") == ApiResponse(204, revoked=RECORD.id)
    assert (await store.get_by_digest(RECORD.digest), changed) == (revoked, [revoked, revoked])


async def test_a_revoked_key_stays_listed(api_keys: ApiKeys, store: KeyStore) -> None:
    await store.add(RECORD)
    await api_keys.delete(CALLER, RECORD.id, "")
    assert await listed(api_keys, CALLER, "") == [RECORD.id]


@pytest.mark.parametrize(
    ("principal", "key_id", "query", "refusal"),
    [
        (CALLER, OTHER.id, "", NOT_FOUND),
        (CALLER, GLOBEX.id, "", NOT_FOUND),
        (CALLER, GLOBEX.id, "owner=globex", CROSS_OWNER),
        (CALLER, RECORD.id, "owner=globex", CROSS_OWNER),
        (CALLER, RECORD.id.upper(), "", NOT_FOUND),
        (CALLER, RECORD.id + " ", "", NOT_FOUND),
        (CALLER, "\udcff", "", NOT_FOUND),
        (MASTER, RECORD.id, "", OWNER_REQUIRED),
        (MASTER, "x", "owner=;", OWNER_REQUIRED),
        (MASTER, RECORD.id, "owner=globex", NOT_FOUND),
    ],
)
async def test_a_key_that_is_not_the_callers_looks_unknown(
    api_keys: ApiKeys, store: KeyStore, principal: ApiKey, key_id: str, query: str, refusal: Deny
) -> None:
    await store.add(RECORD)
    await store.add(GLOBEX)
    before = await store.last_position()
    assert await api_keys.delete(principal, key_id, query) == refusal
    assert await store.last_position() == before


async def test_a_record_that_vanishes_while_it_is_revoked_is_unknown(changed: list[KeyRecord]) -> None:
    class Vanishing(MemoryKeyStore):
        async def revise(self, *_: object, **__: object) -> KeyRecord | None:
            return None

    store = Vanishing()
    await store.add(RECORD)
    api_keys = ApiKeys(store, changed.append, seconds_of_2026(), bytes)
    assert await api_keys.delete(CALLER, RECORD.id, "") == NOT_FOUND
    assert await api_keys.delete(MASTER, RECORD.id, "owner=acme&descendants=true") == NOT_FOUND


async def test_a_caller_that_was_revoked_meanwhile_creates_nothing(
    api_keys: ApiKeys, store: KeyStore, changed: list[KeyRecord]
) -> None:
    await store.add(replace(RECORD, revocation=revocation("2026-01-02T00:00:00Z", "")))
    caller = replace(CALLER, id=RECORD.id)
    refusal = Deny(Code.EXPIRED_KEY, "API key is expired or revoked")
    assert await api_keys.create(caller, body()) == refusal
    assert (await store.get_by_digest(digest(NEW_KEY)), changed) == (None, [])


@pytest.mark.parametrize(
    "narrowed",
    [
        replace(RECORD, scopes=("api-keys:*",)),
        replace(RECORD, scopes=CALLER.scopes, terms=KeyTerms(rate=Rate(1))),
        replace(RECORD, scopes=CALLER.scopes, terms=KeyTerms(allow_from=(read_network("10.0.0.0/8"),))),
    ],
    ids=["scopes", "rate", "networks"],
)
async def test_a_caller_that_was_narrowed_meanwhile_creates_nothing(
    api_keys: ApiKeys, store: KeyStore, changed: list[KeyRecord], narrowed: KeyRecord
) -> None:
    """The caller was accepted by what it was; what it is in the store counts."""
    await store.add(narrowed)
    refusal = Deny(Code.SCOPE_ESCALATION, "the calling API key was changed meanwhile: send the request again")
    assert await api_keys.create(replace(CALLER, id=RECORD.id), body()) == refusal
    assert (await store.get_by_digest(digest(NEW_KEY)), changed) == (None, [])
    again = await api_keys.create(narrowed.principal(), body())
    granted = narrowed.scopes == CALLER.scopes
    assert isinstance(again, ApiResponse) if granted else again == ESCALATION


async def store_a_family(store: KeyStore) -> tuple[KeyRecord, ...]:
    """Store a key, its revoked child, the live child of that one, and an unrelated key; return all four."""
    child = replace(OTHER, created_by=RECORD.id)
    grandchild = replace(GLOBEX, owner="acme", created_by=OTHER.id)
    stranger = replace(RECORD, id=f"{RECORD.id[:-1]}9", digest="9" * 64)
    for record in (RECORD, child, grandchild, stranger):
        await store.add(record)
    await revoke_key(store, child.id, revocation("2026-01-03T00:00:00Z", "cli:ann"))
    return RECORD, child, grandchild, stranger


async def test_a_key_is_revoked_with_its_descendants(
    api_keys: ApiKeys, store: KeyStore, changed: list[KeyRecord]
) -> None:
    key, child, grandchild, stranger = await store_a_family(store)
    assert await api_keys.delete(MASTER, key.id, "owner=acme&descendants=true") == ApiResponse(
        204, revoked=key.id, descendants=1
    )
    at = "2026-02-01T00:00:00Z"
    revoked = [
        replace(key, revocation=revocation(at, "master")),
        replace(child, revocation=revocation("2026-01-03T00:00:00Z", "cli:ann")),
        replace(grandchild, revocation=revocation(at, "master", f"descendant of {key.id}")),
    ]
    assert [await store.get_by_digest(record.digest) for record in revoked] == revoked
    assert changed == revoked
    assert await store.get_by_digest(stranger.digest) == stranger


@pytest.mark.parametrize(
    "query", ["owner=acme", "owner=acme&descendants=false", "owner=acme&descendant=true"]
)
async def test_descendants_stay_live_unless_the_query_names_them(
    api_keys: ApiKeys, store: KeyStore, query: str
) -> None:
    key, _, grandchild, _ = await store_a_family(store)
    assert await api_keys.delete(MASTER, key.id, query) == ApiResponse(204, revoked=key.id)
    assert await store.get_by_digest(grandchild.digest) == grandchild


UNCLEAR = Deny(Code.MALFORMED_BODY, "descendants must be true or false, and be said once")
UNCLEARLY = (
    "descendants=1",
    "descendants=",
    "descendants",
    "descendants=true;x",
    "x;descendants=true",
    "descendants=%zz",
    "descendants=false&descendants=true",
    "d%65scendants=true&descendants=true",
)


@pytest.mark.parametrize(
    ("principal", "query", "refusal"),
    [
        (
            CALLER,
            "descendants=true",
            Deny(Code.MASTER_REQUIRED, "revoking descendants requires the master key"),
        ),
        (CALLER, "descendants=true&owner=globex", CROSS_OWNER),
        *((MASTER, f"owner=acme&{unclear}", UNCLEAR) for unclear in UNCLEARLY),
        (MASTER, "descendants=true", OWNER_REQUIRED),
        (MASTER, "owner=globex&descendants=true", NOT_FOUND),
    ],
)
async def test_only_the_master_key_revokes_descendants(
    api_keys: ApiKeys, store: KeyStore, principal: ApiKey, query: str, refusal: Deny
) -> None:
    key, *_ = await store_a_family(store)
    before = await store.last_position()
    assert await api_keys.delete(principal, key.id, query) == refusal
    assert await store.last_position() == before


async def test_no_change_is_reported_when_the_store_fails(changed: list[KeyRecord]) -> None:
    class Failing(MemoryKeyStore):
        async def add(self, record: KeyRecord, quota: Quota = NO_QUOTA, *, terms_only: bool = False) -> None:
            raise StoreUnavailableError

    api_keys = ApiKeys(Failing(), changed.append, seconds_of_2026(), bytes)
    with pytest.raises(GatewayError):
        await api_keys.create(CALLER, body())
    assert changed == []


@pytest.mark.parametrize(
    ("query", "owner"),
    [
        ("", ""),
        ("owner", ""),
        ("owner=", ""),
        ("owner=a", "a"),
        ("owner=a&owner=b", "a"),
        ("owner=&owner=b", ""),
        ("owner&owner=b", ""),
        ("Owner=a", ""),
        ("%6fwner=a", "a"),
        ("owner=%61", "a"),
        ("owner=a;x=1", ""),
        ("owner=a;x=1&owner=b", "b"),
        ("x=1;y=2&owner=a", "a"),
        ("owner=a%3b", "a;"),
        ("owner=a+b", "a b"),
        ("owner=a%20b", "a b"),
        ("owner=a%2Bb", "a+b"),
        ("owner=%zz&owner=a", "a"),
        ("x=%zz&owner=a", "a"),
        ("owner=a%", ""),
        ("owner=a?", "a?"),
        ("?owner=a", ""),
        ("&&owner=a", "a"),
        ("owner=a=1", "a=1"),
        ("owner=%c3%a9", "\u00e9"),
        ("owner=%ff", "\udcff"),
        ("owner=a%00", "a\x00"),
    ],
)
def test_the_owner_of_a_query_is_read_as_go_reads_it(query: str, owner: str) -> None:
    assert read_owner(query) == owner
