"""`/api-keys` through Core: the requests that Core gets, and which parts of its responses are used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.errors import Code, GatewayError
from gateway.gocompat.times import Instant, read_instant
from gateway.keys.api.resource import ApiResponse, read_owner
from gateway.keys.core.api import CoreApiKeys
from gateway.keys.core.quota import CoreQuota
from gateway.keys.core.records import CoreRow, pending_record
from gateway.keys.core.writer import NOT_IN_CORE, CoreKeyWrites
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.minting import digest
from gateway.keys.quota import NO_QUOTA, Quota
from gateway.keys.record import Change, Event, KeyRecord, Revocation
from gateway.keys.revocation import revoke_key
from gateway.policy.principals import MASTER, ApiKey
from gateway.policy.terms import KeyTerms, Rate
from gateway.policy.values import Deny
from gateway.proxy.errors import code_of
from gateway.wire.errors import UpstreamUnreachableError
from tests.keys.records import KEY_ID, RECORD, instant, revocation, revoker

KEY = "NY4VdwmYfa_u2ZhkpJ1UDT9XarI7sEGUniKKSIg411k="
ACME = ApiKey(f"{KEY_ID}9", "acme", ("api-keys:*", "ledgers:read"), 1e12)
WANTED = {"name": "n", "owner": "acme", "scopes": ["ledgers:read"], "expires_at": "2999-01-02T03:04:05Z"}
MADE = (
    b'{"api_key_id":"%b1","key":"%b","name":"n","owner_id":"acme","scopes":["ledgers:read"],'
    b'"expires_at":"2999-01-02T03:04:05Z","created_at":"2026-11-23T16:57:49.115568574Z",'
    b'"last_used_at":"0001-01-01T00:00:00Z","is_revoked":false}' % (KEY_ID.encode(), KEY.encode())
)
CREATED = ApiResponse(201, MADE)
DONE = ApiResponse(204)
# The responses with the ids for the log.
NEW = replace(CREATED, created=RECORD.id)
REVOKED = replace(DONE, revoked=RECORD.id)


def now() -> datetime:
    return datetime(2026, 1, 2, tzinfo=UTC)


@dataclass(slots=True)
class Core:
    """Returns the responses that a test sets, and records its requests; `rows` is its table, by id."""

    responses: list[ApiResponse | GatewayError]
    rows: dict[str, CoreRow]
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)

    async def ask(self, method: str, target: str, body: bytes) -> ApiResponse:
        self.asked.append((method, target, body))
        response = self.responses.pop(0)
        if isinstance(response, GatewayError):
            raise response
        return response

    async def by_ids(self, key_ids: Sequence[str]) -> Mapping[str, CoreRow]:
        return {key_id: self.rows[key_id] for key_id in key_ids if key_id in self.rows}

    async def live(self, owner: str) -> int:
        return sum(not row.revoked for row in self.rows.values() if row.owner == owner)


def row(number: str, owner: str = "acme", *, revoked: bool = False) -> CoreRow:
    return CoreRow(KEY_ID + number, "hash", "n", owner, (), 1e12, 0.0, revoked, "A" * 16)


@dataclass(slots=True)
class Resource:
    keys: CoreApiKeys
    core: Core
    store: MemoryKeyStore
    changed: list[KeyRecord]


def resource(
    *responses: ApiResponse | GatewayError,
    rows: Sequence[CoreRow] = (),
    store: MemoryKeyStore | None = None,
    quota: Quota = NO_QUOTA,
) -> Resource:
    core, store = Core(list(responses), {row.id: row for row in rows}), store or MemoryKeyStore()
    changed: list[KeyRecord] = []
    writes = CoreKeyWrites(core.ask, core, store, changed.append, now)
    limit = CoreQuota(core, store, lambda: quota)
    return Resource(CoreApiKeys(writes, store, changed.append, now, limit), core, store, changed)


def body(**changes: Any) -> bytes:
    return json.dumps(WANTED | changes).encode()


async def test_a_key_is_created_by_core_and_known_before_its_201() -> None:
    """The response is Core's, byte for byte, and the record has the digest and the creator."""
    made = resource(CREATED)
    assert await made.keys.create(ACME, body()) == NEW
    assert made.core.asked == [
        (
            "POST",
            "/api-keys",
            b'{"name":"n","owner":"acme","scopes":["ledgers:read"],"expires_at":"2999-01-02T03:04:05Z"}',
        )
    ]
    record = await made.store.get_by_digest(digest(KEY))
    assert made.changed == [record]
    assert record == KeyRecord(
        id=f"{KEY_ID}1",
        digest=digest(KEY),
        name="n",
        owner="acme",
        scopes=("ledgers:read",),
        expires_at=instant("2999-01-02T03:04:05Z"),
        created_at=instant("2026-11-23T16:57:49.115568574Z"),
        created_by=ACME.id,
    )


async def test_the_key_that_core_creates_has_the_terms_of_its_creator() -> None:
    """Also where a command stored its row before its digest was known."""
    terms = KeyTerms(certificate="ab" * 32)
    for known in ([], [pending_record(row("1"), Instant.of(now()))]):
        store = MemoryKeyStore()
        await store.add_all(known)
        made = resource(CREATED, rows=[row("1")], store=store)
        assert await made.keys.create(replace(ACME, terms=terms), body()) == NEW
        record = await store.get_by_digest(digest(KEY))
        assert record is not None
        assert record.terms == terms


async def test_a_key_of_core_gets_terms_and_nothing_that_its_row_has() -> None:
    """Core has no way to change a key, and is asked for nothing."""
    made = resource(rows=[row("1")])
    sent = b'{"rate":"100/s","reason":"noisy"}'
    response = await made.keys.update(MASTER, RECORD.id, "owner=acme", sent)
    assert isinstance(response, ApiResponse)
    assert (response.status, response.updated) == (200, RECORD.id)
    assert json.loads(response.body)["terms"] == {"rate": "100/s"}
    record = await made.store.get(RECORD.id)
    assert record is not None
    assert record.terms == KeyTerms(rate=Rate(100))
    assert record.history == (
        Event(Instant.of(now()), "updated", "master", "noisy", (Change("rate", "", "100/s"),)),
    )
    for member in (b'"name":"x"', b'"scopes":[]', b'"expires_at":"2999-01-01T00:00:00Z"'):
        sent = b'{"rate":"200/s",%b}' % member
        refused = await made.keys.update(MASTER, RECORD.id, "owner=acme", sent)
        assert refused == Deny(Code.KEY_UPDATE, NOT_IN_CORE)
    assert (await made.store.get(RECORD.id), made.core.asked) == (record, [])


async def test_what_was_changed_in_core_is_not_attributed_to_who_sees_it_first() -> None:
    """An update brings the row to the store as Core, and makes its own change then."""
    made = resource(rows=[row("1")])
    for rate in ("100/s", "200/s"):
        body = b'{"rate":"%b"}' % rate.encode()
        await made.keys.update(MASTER, RECORD.id, "owner=acme", body)
        made.core.rows[RECORD.id] = replace(row("1"), name="changed by SQL")
    told = [(entry.kind, entry.by, list(entry.after)) for entry in made.store.audit_entries]
    assert told[0][:2] == ("key_created", "core")
    assert told[1:] == [
        ("key_updated", "gateway", ["terms"]),
        ("key_updated", "core", ["name"]),
        ("key_updated", "gateway", ["terms"]),
    ]


async def test_a_key_that_has_ended_in_core_is_not_changed() -> None:
    for dead, state in ((row("1", revoked=True), "revoked"), (replace(row("1"), expires_at=1.0), "expired")):
        made = resource(rows=[dead])
        refused = await made.keys.update(MASTER, RECORD.id, "owner=acme", b'{"rate":"100/s"}')
        text = f"{RECORD.id} is {state}, and stays so: create a new key"
        assert refused == Deny(Code.KEY_UPDATE, text)


@pytest.mark.parametrize(
    "sent",
    [
        b'{"name":"n","owner":"acme","Owner":"victim","OWNER":"victim","scopes":["ledgers:read"],'
        b'"SCOPES":["*:*"],"\\u017fcopes":["*:*"],"expires_at":"2999-01-02T03:04:05Z",'
        b'"EXPIRE\\u017f_AT":"9999-01-01T00:00:00Z","is_revoked":true,"key":"mine"}',
        b' {"owner":"victim","owner":"acme","scopes":["*:*"],"scopes":["ledgers:read"],"name":"n",\n'
        b'"expires_at":"2999-01-02T03:04:05.000Z"} ',
    ],
)
async def test_core_gets_a_new_body(sent: bytes) -> None:
    """Core ignores case and takes the last of repeated members, so it gets four members, each once."""
    made = resource(CREATED)
    assert await made.keys.create(ACME, sent) == NEW
    assert made.core.asked[0][2] == (
        b'{"name":"n","owner":"acme","scopes":["ledgers:read"],"expires_at":"2999-01-02T03:04:05Z"}'
    )


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"{}", Code.MALFORMED_BODY),
        (body() + b"{}", Code.MALFORMED_BODY),
        (body(owner="globex"), Code.CROSS_OWNER),
        (body(owner="globex", scopes=["*:*"]), Code.CROSS_OWNER),
        (body(scopes=["*:*"]), Code.SCOPE_ESCALATION),
        (body(scopes=["ledgers:write"]), Code.SCOPE_ESCALATION),
        (body(expires_at="9999-12-31T23:59:59-01:00"), Code.MALFORMED_BODY),
        (body(expires_at="9999-12-31T23:59:59.9999999Z"), Code.MALFORMED_BODY),
    ],
)
async def test_a_refused_creation_never_reaches_core(sent: bytes, code: Code) -> None:
    """Core would accept these from the master key, and fail to list a key whose expiry is too late."""
    made = resource()
    refused = await made.keys.create(ACME, sent)
    assert isinstance(refused, Deny)
    assert refused.code is code


@pytest.mark.parametrize("expires_at", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00+02:00"])
async def test_the_first_and_the_last_time_that_core_can_list_are_accepted(expires_at: str) -> None:
    made = resource(CREATED)
    assert await made.keys.create(MASTER, body(expires_at=expires_at)) == NEW


@pytest.mark.parametrize(
    "response",
    [ApiResponse(500, b'{"error":"internal server error"}'), ApiResponse(429, b"{}"), ApiResponse(500)],
)
async def test_other_responses_of_core_are_passed_on_unchanged(response: ApiResponse) -> None:
    made = resource(response, response, response, rows=[row("1")])
    assert await made.keys.create(MASTER, body()) == response
    assert await made.keys.list(MASTER, "owner=acme") == response
    assert (await made.store.is_empty(), made.changed) == (True, [])
    refused = await made.keys.delete(MASTER, f"{KEY_ID}1", "owner=acme")
    assert refused == replace(response, revoked=f"{KEY_ID}1")


@pytest.mark.parametrize(
    "sent",
    [
        b"{}",
        b"nothing",
        MADE.replace(KEY.encode(), b"short"),
        MADE.replace(b"api_key_0", b"key_0"),
        MADE.replace(b"2999", b"x"),
        MADE.replace(b'"n"', b'"\xff"'),
        MADE[:-1] + b',"x":' + b"[" * 100_000,
    ],
    ids=["empty", "no JSON", "a short key", "another id", "no time", "no UTF-8", "nested"],
)
async def test_a_201_that_cannot_be_read_is_passed_on_and_not_stored(sent: bytes) -> None:
    made = resource(ApiResponse(201, sent))
    assert await made.keys.create(MASTER, body()) == ApiResponse(201, sent)
    assert await made.store.is_empty()


async def test_a_store_that_fails_after_the_201_leaves_no_live_key() -> None:
    """Core's new key is revoked before anybody has it, and the caller gets 503."""

    class Failing(MemoryKeyStore):
        async def add(self, record: KeyRecord, quota: Quota = NO_QUOTA, *, terms_only: bool = False) -> None:
            raise StoreUnavailableError

    made = resource(CREATED, DONE, store=Failing())
    with pytest.raises(GatewayError) as failure:
        await made.keys.create(MASTER, body())
    assert code_of(failure.value) is Code.KEY_STORE_UNAVAILABLE
    assert made.core.asked[1] == ("DELETE", f"/api-keys/{RECORD.id}?owner=acme", b"")


async def test_a_caller_that_was_revoked_meanwhile_creates_no_live_key() -> None:
    """The key that Core created is revoked before anybody has it."""
    made = resource(CREATED, DONE)
    await made.store.add(RECORD)
    await revoke_key(made.store, RECORD.id, revocation("2026-01-01T00:00:00Z", "master"))
    caller = ApiKey(RECORD.id, "acme", ("api-keys:*", "ledgers:read"), 1e12)
    made.core.responses[0] = ApiResponse(201, MADE.replace(RECORD.id.encode(), f"{KEY_ID}7".encode()))
    assert await made.keys.create(caller, body()) == Deny(Code.EXPIRED_KEY, Code.EXPIRED_KEY.message)
    assert made.core.asked[1] == ("DELETE", f"/api-keys/{KEY_ID}7?owner=acme", b"")


@pytest.mark.parametrize(
    ("owner", "sent"),
    [
        ("a%20b", "a%20b"),
        ("a+b", "a%20b"),
        ("x%26owner%3Dy%23%2F%3F%3B", "x%26owner%3Dy%23%2F%3F%3B"),
        ("%C3%A9", "%C3%A9"),
        ("%ff", "%FF"),
        ("%0d%0aX:%20y", "%0D%0AX%3A%20y"),
    ],
)
async def test_an_owner_is_escaped_anew(owner: str, sent: str) -> None:
    """Core reads one value, whatever characters the owner contains."""
    of = read_owner(f"owner={owner}")
    made = resource(ApiResponse(200, b"null"), DONE, rows=[row("1", of)])
    await made.keys.list(MASTER, f"owner={owner}&owner=second")
    await made.keys.delete(MASTER, f"{KEY_ID}1", f"owner={owner}")
    assert [target for _, target, _ in made.core.asked] == [
        f"/api-keys?owner={sent}",
        f"/api-keys/{KEY_ID}1?owner={sent}",
    ]


@pytest.mark.parametrize(
    ("principal", "query", "code"),
    [(MASTER, "", Code.OWNER_REQUIRED), (ACME, "owner=globex", Code.CROSS_OWNER)],
)
async def test_the_owner_is_checked_before_core_is_asked(principal: ApiKey, query: str, code: Code) -> None:
    made = resource()
    for refused in (
        await made.keys.list(principal, query),
        await made.keys.delete(principal, f"{KEY_ID}1", query),
    ):
        assert isinstance(refused, Deny)
        assert refused.code is code


async def test_a_key_whose_row_is_already_stored_as_pending_gets_its_creator() -> None:
    """The creator is stored even if a command stored the row as pending before Core responded."""
    made = resource(CREATED)
    await made.store.add_all([pending_record(row("1"), Instant.of(now()))])
    assert await made.keys.create(ACME, body()) == NEW
    (record,) = await made.store.owned("acme")
    assert (record.digest, record.created_by, record.pending) == (digest(KEY), ACME.id, False)
    assert [child.id for child in await made.store.children(ACME.id)] == [record.id]


@pytest.mark.parametrize("pending", [False, True], ids=["new", "pending"])
async def test_a_caller_that_was_narrowed_meanwhile_creates_no_live_key(pending: bool) -> None:
    """Its terms in the store count, and its scopes in Core's table, whatever the store has of these."""
    bound = KeyTerms(certificate="ab" * 32)
    minter = replace(RECORD, id=ACME.id, digest=digest("minter"), scopes=(), terms=bound)
    known = [pending_record(row("1"), Instant.of(now()))] if pending else []
    made = resource(CREATED, DONE, CREATED)
    await made.store.add_all([minter, *known])
    refusal = Deny(Code.SCOPE_ESCALATION, "the calling API key was changed meanwhile: send the request again")
    assert await made.keys.create(ACME, body()) == refusal
    assert made.core.asked[1] == ("DELETE", f"/api-keys/{RECORD.id}?owner=acme", b"")
    assert await made.keys.create(replace(ACME, terms=bound), body()) == NEW


async def test_a_dead_creator_gets_no_key_whose_row_is_already_stored_as_pending() -> None:
    made = resource(CREATED, DONE)
    minter = replace(RECORD, id=ACME.id, digest=digest("minter"))
    await made.store.add_all(
        [pending_record(row("1"), Instant.of(now())), minter.as_revoked(Revocation(None, "master"))]
    )
    assert await made.keys.create(ACME, body()) == Deny(Code.EXPIRED_KEY, Code.EXPIRED_KEY.message)
    assert made.core.asked[1] == ("DELETE", f"/api-keys/{RECORD.id}?owner=acme", b"")


async def test_a_list_has_no_hashes_and_the_later_of_two_last_uses() -> None:
    """Everything else is as Core wrote it, also unknown members and the escapes of Go."""
    first = (
        b'{"api_key_id":"%b1","key":"$2a$10$h","name":"\\u003c",'
        b'"last_used_at":"2026-01-01T00:00:00Z","x":[1.5]}'
    )
    second = b'{"api_key_id":"%b2","key":"$2a$10$h","name":"n","last_used_at":"2026-03-01T00:00:00.5Z"}'
    third = b'{"api_key_id":"%b3","key":"$2a$10$h","name":"n","last_used_at":"0000-12-31T00:00:00Z"}'
    lines = [line % KEY_ID.encode() for line in (first, second, third)]
    made = resource(ApiResponse(200, b"[" + b",".join(lines) + b"]"))
    for number in "12":
        record = KeyRecord(
            id=KEY_ID + number,
            digest=digest(number),
            name="n",
            owner="acme",
            scopes=(),
            expires_at=instant("2999-01-02T03:04:05Z"),
            created_at=instant("2026-01-01T00:00:00Z"),
            created_by="master",
        )
        await made.store.add(record)
        await made.store.record_uses({record.id: datetime(2026, 2, 1, tzinfo=UTC).timestamp()})
    shown = await made.keys.list(ACME, "")
    assert isinstance(shown, ApiResponse)
    expected = b"[" + b",".join(lines).replace(b"$2a$10$h", b"") + b"]"
    assert shown.body == expected.replace(b"2026-01-01T", b"2026-02-01T")


async def test_a_list_has_what_only_the_store_knows() -> None:
    """A list adds what only the store knows, by the id of each key, whatever owner the store has for it."""
    item = {"key": "$2a$10$h", "expires_at": "2999-01-02T03:04:05Z", "is_revoked": False}
    listed = [{"api_key_id": KEY_ID + number, **item} for number in "1234"]
    made = resource(ApiResponse(200, json.dumps(listed).encode()))
    records = [replace(RECORD, id=KEY_ID + number, digest=number, owner="before") for number in "123"]
    end = read_instant("2026-02-01T00:00:00Z")
    await made.store.add_all(
        [
            records[0].as_disabled(instant("2026-01-01T00:00:00Z"), "cli:ann"),
            records[1].as_rotated(end, Event(instant("2026-01-01T00:00:00Z"), "rotated", "cli:ann")),
            records[2].as_revoked(revocation("2026-01-01T00:00:00Z", "cli:ann"), awaiting_core=True),
        ]
    )
    shown = await made.keys.list(ACME, "")
    assert isinstance(shown, ApiResponse)
    used = {"key": "", "last_used_at": ""}
    assert json.loads(shown.body) == [
        listed[0] | used | {"is_disabled": True},
        listed[1] | used | {"expires_at": "2026-02-01T00:00:00Z"},
        listed[2] | used | {"is_revoked": True, "revoked_at": "2026-01-01T00:00:00Z"},
        listed[3] | {"key": ""},
    ]


async def test_the_hash_of_a_new_key_is_stored_if_the_row_can_be_read() -> None:
    """The hash of the row is stored, so that no replica compares the key with it."""
    made = resource(CREATED, rows=[row("1")])
    await made.keys.create(ACME, body())
    record = await made.store.get_by_digest(digest(KEY))
    assert record is not None
    assert record.bcrypt == "hash"


async def test_a_list_that_cannot_be_read_is_a_failure() -> None:
    """Core responds with 200 and no body if a time is outside the years that it can write."""
    unreadable = [b"", b'[{"name":"\xff"}]', b'[{"name":' + b"[" * 100_000]
    made = resource(*(ApiResponse(200, text) for text in unreadable), ApiResponse(200, b"null"))
    for _ in unreadable:
        with pytest.raises(GatewayError) as failure:
            await made.keys.list(ACME, "")
        assert code_of(failure.value) is Code.UPSTREAM_UNREACHABLE
    assert await made.keys.list(ACME, "") == ApiResponse(200, b"null")


@pytest.mark.parametrize("known", [True, False])
async def test_a_revocation_is_in_the_store_before_core_is_asked(known: bool) -> None:
    """Otherwise a replica could read the revoked row first, and store Core as who revoked it."""
    made = resource(rows=[row("1")])
    if known:
        await made.store.add(RECORD)
    stored: list[KeyRecord | None] = []

    async def ask(method: str, target: str, body: bytes) -> ApiResponse:
        stored.append(await made.store.get(RECORD.id))
        return DONE

    writes = CoreKeyWrites(ask, made.core, made.store, made.changed.append, now)
    limit = CoreQuota(made.core, made.store, lambda: NO_QUOTA)
    keys = CoreApiKeys(writes, made.store, made.changed.append, now, limit)
    assert await keys.delete(ACME, RECORD.id, "") == REVOKED
    (before,), after = stored, await made.store.get(RECORD.id)
    assert before is not None
    assert after is not None
    assert before.revocation == revocation("2026-01-02T00:00:00Z", ACME.id)
    assert (before.awaiting_core_revocation, after) == (True, replace(before, awaiting_core_revocation=False))
    assert made.changed == [before, after]


@pytest.mark.parametrize("response", [ApiResponse(500, b"{}"), UpstreamUnreachableError()])
async def test_a_revocation_that_core_fails_to_apply_stands_and_is_pending(
    response: ApiResponse | GatewayError,
) -> None:
    """The caller gets the failure, and the gateways refuse the key and keep asking Core to revoke it."""
    made = resource(response, DONE, rows=[row("1")])
    await made.store.add(RECORD)
    if isinstance(response, GatewayError):
        with pytest.raises(GatewayError):
            await made.keys.delete(ACME, RECORD.id, "")
    else:
        assert await made.keys.delete(ACME, RECORD.id, "") == replace(response, revoked=RECORD.id)
    assert [revoker(record) for record in await made.store.awaiting_core_revocation()] == [ACME.id]
    assert await made.keys.delete(MASTER, RECORD.id, "owner=acme") == REVOKED
    (record,) = await made.store.owned("acme")
    assert (revoker(record), await made.store.awaiting_core_revocation()) == (ACME.id, [])


async def test_core_is_not_asked_when_the_store_fails() -> None:
    class Failing(MemoryKeyStore):
        async def revise(self, *_: object, **__: object) -> KeyRecord | None:
            raise StoreUnavailableError

    made = resource(rows=[row("1")], store=Failing())
    with pytest.raises(GatewayError) as failure:
        await made.keys.delete(ACME, RECORD.id, "")
    assert code_of(failure.value) is Code.KEY_STORE_UNAVAILABLE
    assert made.core.asked == []


@pytest.mark.parametrize("known", [True, False])
async def test_a_key_that_was_revoked_in_core_was_revoked_by_core(known: bool) -> None:
    """A second revocation gets 204 and changes nothing, neither here nor in Core."""
    made = resource(rows=[replace(row("1", revoked=True), revoked_at=86400.0)])
    if known:
        await made.store.add(RECORD)
    assert await made.keys.delete(ACME, RECORD.id, "") == REVOKED
    revoked = await made.store.get(RECORD.id)
    assert revoked is not None
    assert revoked.revocation == revocation("1970-01-02T00:00:00Z", "core")
    assert made.core.asked == []


@pytest.mark.parametrize("rows", [[], [row("1", "globex")]])
async def test_a_key_without_a_row_or_of_another_owner_looks_unknown(rows: list[CoreRow]) -> None:
    """The owner in Core's row counts, whatever owner the store has."""
    made = resource(rows=rows)
    await made.store.add(RECORD)
    unknown = Deny(Code.KEY_NOT_FOUND, Code.KEY_NOT_FOUND.message)
    assert await made.keys.delete(ACME, RECORD.id, "") == unknown
    assert (await made.store.get(RECORD.id), made.core.asked) == (RECORD, [])


@pytest.mark.parametrize("key_id", ["x", f"{KEY_ID}1/x", KEY_ID.upper() + "1", "%00", ""])
async def test_a_text_that_is_no_id_is_not_looked_up(key_id: str) -> None:
    made = resource()
    assert await made.keys.delete(ACME, key_id, "") == Deny(Code.KEY_NOT_FOUND, Code.KEY_NOT_FOUND.message)


async def test_descendants_are_revoked_in_the_store_and_in_core() -> None:
    """Each is revoked in Core under the owner in its row; one without a row is revoked in the store alone."""
    rows = [row("1"), row("4", "owner-of-today"), row("6", revoked=True)]
    made = resource(DONE, DONE, rows=rows)
    for number, minter in (("1", "master"), ("4", f"{KEY_ID}1"), ("5", f"{KEY_ID}4"), ("6", f"{KEY_ID}1")):
        await made.store.add(child(number, minter))
    assert await made.keys.delete(MASTER, RECORD.id, "owner=acme&descendants=true") == replace(
        REVOKED, descendants=3
    )
    assert [target for _, target, _ in made.core.asked] == [
        f"/api-keys/{RECORD.id}?owner=acme",
        f"/api-keys/{KEY_ID}4?owner=owner-of-today",
    ]
    ids = {KEY_ID + number for number in "1456"}
    assert {record.id for record in made.changed if record.revoked} == ids
    assert await made.store.awaiting_core_revocation() == []
    by = {record.id[-1]: revoker(record) for record in await made.store.get_many(sorted(ids))}
    assert by == {"1": "master", "4": "master", "5": "master", "6": "core"}
    refused = await made.keys.delete(ACME, RECORD.id, "descendants=true")
    assert isinstance(refused, Deny)


async def test_a_descendant_that_core_does_not_revoke_is_reported_and_the_others_are_revoked() -> None:
    made = resource(DONE, ApiResponse(500, b"{}"), DONE, rows=[row("1"), row("4"), row("5")])
    for number, minter in (("1", "master"), ("4", f"{KEY_ID}1"), ("5", f"{KEY_ID}1")):
        await made.store.add(child(number, minter))
    response = await made.keys.delete(MASTER, RECORD.id, "owner=acme&descendants=true")
    assert response == ApiResponse(500, b"{}", revoked=RECORD.id, descendants=2)
    (left,) = await made.store.awaiting_core_revocation()
    assert left.revoked
    assert made.core.asked[1][1] == f"/api-keys/{left.id}?owner=acme"


def child(number: str, minter: str) -> KeyRecord:
    """Return the record of a key that the key `minter` created."""
    return replace(RECORD, id=KEY_ID + number, digest=digest(number), created_by=minter)
