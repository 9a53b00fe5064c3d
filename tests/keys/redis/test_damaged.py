"""Values in Redis that another writer has damaged.

A record, a last use or a member of an index affects its own key alone. A value of another type under a name
that keys share, or a stream without a further id, fails what needs it, and the reason says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from gateway.errors import GatewayError
from gateway.keys.errors import UnreadableKeyError
from gateway.keys.quota import Quota, QuotaError
from gateway.keys.record import KeyRecord
from gateway.keys.redis.audit_stream import LAST_NUMBER
from gateway.keys.redis.names import (
    AUDIT,
    AUDIT_COUNTS,
    CHANGES,
    LAST_USED,
    PREFIX,
    RETIRING,
    children_name,
    id_name,
    key_name,
    owner_name,
    prefix_name,
)
from gateway.keys.redis.store import RedisKeyStore
from gateway.keys.revocation import RevocationHooks, revoke_key, revoke_with_descendants
from gateway.keys.store import FoundKeys, UnreadableKey
from tests.keys.records import GLOBEX, OTHER, PENDING, RECORD, revocation
from tests.redis_server import RedisServer

pytestmark = pytest.mark.redis

Call = Callable[[RedisKeyStore], Awaitable[object]]

NO_UTF8 = b"\xff\xfe"
REVOCATION = revocation("2026-02-01T00:00:00Z", "master")
NOTED = f"{key_name(RECORD.digest).decode()} in Redis holds no record that can be read"


@pytest.fixture
def left_out() -> list[UnreadableKey]:
    """The keys that the store has left out."""
    return []


@pytest.fixture
async def noting_store(redis_url: str, left_out: list[UnreadableKey]) -> AsyncIterator[RedisKeyStore]:
    """A store whose lists leave out what cannot be read."""
    store = RedisKeyStore(redis_url, left_out=left_out.append)
    yield store
    await store.close()


def misled(key_id: str) -> str:
    """Return the reason of a failure because of the index of ids."""
    return (
        f"{PREFIX}id:{key_id} in Redis does not lead to the record of this key: "
        "'blnk-gateway keys export --digests' and 'blnk-gateway keys import' write it again; see "
        "'Changing a key' in deploy/keys.md"
    )


async def scanned(store: RedisKeyStore) -> set[KeyRecord]:
    return {record async for batch in store.scan() for record in batch}


@pytest.mark.parametrize("score", ["inf", "-inf", "1e30", "-1e30", "-1", "253402300800000000"])
async def test_a_last_use_that_is_no_time_counts_as_never(
    redis_store: RedisKeyStore, redis_server: RedisServer, score: str
) -> None:
    await redis_store.add_all([RECORD, OTHER])
    await redis_store.record_uses({OTHER.id: 1e9})
    redis_server.command("ZADD", LAST_USED, score, RECORD.id)
    assert await redis_store.get(RECORD.id) == RECORD
    assert await redis_store.owned("acme") == [OTHER.with_last_use(1e9), RECORD]


async def test_where_last_uses_are_of_another_type_no_key_was_ever_used(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(RECORD)
    redis_server.command("SET", LAST_USED, "x")
    assert (await redis_store.get(RECORD.id), await redis_store.owned("acme")) == (RECORD, [RECORD])


async def test_a_name_of_a_record_that_is_no_utf_8_is_named_as_one_that_cannot_be_read(
    noting_store: RedisKeyStore, redis_server: RedisServer, left_out: list[UnreadableKey]
) -> None:
    await noting_store.add(RECORD)
    redis_server.command("SET", f"{PREFIX}key:".encode() + NO_UTF8, "x")
    assert await scanned(noting_store) == {RECORD}
    reason = f"{PREFIX}key:\\xff\\xfe in Redis holds no record that can be read"
    assert left_out == [UnreadableKey("", reason)]


async def test_members_of_indexes_that_are_no_utf_8_lead_to_no_key(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    child = replace(OTHER, created_by=RECORD.id)
    retiring = child.as_revoked(REVOCATION, awaiting_core=True)
    await redis_store.add_all([RECORD, retiring, PENDING])
    for name in (RETIRING, f"{PREFIX}owner:acme".encode()):
        redis_server.command("ZADD", name, "1", NO_UTF8)
    for name in (children_name(RECORD.id), prefix_name(PENDING.prefix)):
        redis_server.command("SADD", name, NO_UTF8)
    assert await redis_store.owned("acme") == [retiring, RECORD]
    assert await redis_store.children(RECORD.id) == [retiring]
    assert await redis_store.awaiting_core_revocation() == [retiring]
    assert await redis_store.get_by_prefix(PENDING.prefix) == [PENDING]


MISLED = pytest.mark.parametrize("led_to", [NO_UTF8, OTHER.digest], ids=["no digest", "another key"])
"""To what the id of a key leads instead of its digest."""


@MISLED
async def test_an_id_that_leads_elsewhere_fails_what_is_done_with_the_key(
    redis_store: RedisKeyStore, redis_server: RedisServer, led_to: str | bytes
) -> None:
    """It is not taken for unknown: the key still works."""
    await redis_store.add_all([RECORD, OTHER])
    redis_server.command("SET", id_name(RECORD.id), led_to)
    failures = await asyncio.gather(
        redis_store.get(RECORD.id),
        revoke_key(redis_store, RECORD.id, REVOCATION),
        return_exceptions=True,
    )
    assert [failure.reason for failure in failures if isinstance(failure, UnreadableKeyError)] == [
        misled(RECORD.id)
    ] * 2
    assert await scanned(redis_store) == {RECORD, OTHER}


@MISLED
async def test_no_descendant_is_missed_whose_id_leads_elsewhere(
    redis_store: RedisKeyStore, redis_server: RedisServer, led_to: str | bytes
) -> None:
    child = replace(RECORD, id=GLOBEX.id, digest=GLOBEX.digest, created_by=RECORD.id)
    await redis_store.add_all([RECORD, OTHER, child])
    redis_server.command("SET", id_name(child.id), led_to)
    with pytest.raises(UnreadableKeyError) as failure:
        await revoke_with_descendants(redis_store, RECORD.id, REVOCATION, RevocationHooks())
    assert failure.value.reason == misled(child.id)


@MISLED
async def test_lists_by_id_leave_out_a_key_whose_id_leads_elsewhere(
    noting_store: RedisKeyStore, redis_server: RedisServer, left_out: list[UnreadableKey], led_to: str | bytes
) -> None:
    await noting_store.add_all([RECORD, OTHER])
    redis_server.command("SET", id_name(RECORD.id), led_to)
    assert await noting_store.get_many([RECORD.id, OTHER.id]) == [OTHER]
    assert left_out == [UnreadableKey(RECORD.id, misled(RECORD.id))]


@pytest.mark.parametrize("text", ["{", '{"x":' + "[" * 100_000, NO_UTF8])
async def test_a_key_that_cannot_be_read_is_told_from_one_that_is_unknown(
    noting_store: RedisKeyStore, redis_server: RedisServer, left_out: list[UnreadableKey], text: str | bytes
) -> None:
    """Its id is known though the record does not say it."""
    await noting_store.add_all([RECORD, OTHER])
    redis_server.command("SET", key_name(RECORD.digest), text)
    found = await noting_store.find_many([RECORD.id, OTHER.id, GLOBEX.id])
    assert found == FoundKeys({OTHER.id: OTHER}, frozenset({RECORD.id}))
    assert left_out == [UnreadableKey(RECORD.id, NOTED)]


async def test_a_key_that_core_is_still_to_revoke_holds_up_no_other_one(
    noting_store: RedisKeyStore, redis_server: RedisServer, left_out: list[UnreadableKey]
) -> None:
    due = [record.as_revoked(REVOCATION, awaiting_core=True) for record in (RECORD, OTHER)]
    await noting_store.add_all(due)
    redis_server.command("SET", key_name(RECORD.digest), "{")
    assert await noting_store.awaiting_core_revocation() == [due[1]]
    assert left_out == [UnreadableKey(RECORD.id, NOTED)]


async def test_a_pending_record_that_cannot_be_read_fails_the_look_ups_of_its_prefix_alone(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    lost = replace(PENDING, id=RECORD.id, digest=f"pending:{RECORD.id}", prefix="B" * 16)
    await redis_store.add_all([PENDING, lost])
    redis_server.command("SET", key_name(lost.digest), "{")
    redis_server.command("SET", prefix_name("C" * 16), "of another type")
    # The first one is read alone, the others in one batch.
    asked = (redis_store.get_by_prefix(prefix * 16, "192.0.2.1") for prefix in "DABC")
    _, found, failed, of_another_type = await asyncio.gather(*asked, return_exceptions=True)
    assert (found, of_another_type) == ([PENDING], [])
    assert isinstance(failed, UnreadableKeyError)


async def test_a_key_that_cannot_be_read_counts_as_live_where_an_owners_keys_are_counted(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(RECORD)
    redis_server.command("SET", key_name(RECORD.digest), "{")
    redis_server.command("ZADD", f"{PREFIX}owner:acme", "1", NO_UTF8)
    redis_server.command("DEL", f"{PREFIX}ends:acme")
    await redis_store.add(OTHER, Quota(2))
    third = replace(OTHER, id=GLOBEX.id, digest=GLOBEX.digest)
    with pytest.raises(QuotaError):
        await redis_store.add(third, Quota(2))


async def test_ends_of_another_type_are_counted_for_no_key(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add_all([RECORD, GLOBEX])
    redis_server.command("SET", f"{PREFIX}ends:acme", "x")
    counted = [step async for step in redis_store.count_ends(0.0, float("inf"))]
    assert sum(counted) == 1


async def reason_of(call: Awaitable[object]) -> str:
    with pytest.raises(GatewayError) as failure:
        await call
    return failure.value.reason


@pytest.mark.parametrize(
    ("name", "call"),
    [
        (AUDIT, lambda store: revoke_key(store, RECORD.id, REVOCATION)),
        (AUDIT_COUNTS, lambda store: revoke_key(store, RECORD.id, REVOCATION)),
        (CHANGES, lambda store: revoke_key(store, RECORD.id, REVOCATION)),
        (RETIRING, lambda store: revoke_key(store, RECORD.id, REVOCATION)),
        (owner_name("acme"), lambda store: revoke_key(store, RECORD.id, REVOCATION)),
        (owner_name("acme"), lambda store: store.owned("acme")),
        (LAST_USED, lambda store: store.record_uses({RECORD.id: 1e9})),
    ],
)
async def test_what_needs_a_name_of_another_type_fails_with_a_reason_that_says_so(
    redis_store: RedisKeyStore, redis_server: RedisServer, name: bytes, call: Call
) -> None:
    await redis_store.add(RECORD)
    redis_server.command("DEL", name)
    redis_server.command("LPUSH", name, "x")
    assert await reason_of(call(redis_store)) == (
        "Redis holds a value of another type under one of the gateway's names, {blnk-gateway}:*"
    )


@pytest.mark.parametrize("stream", [AUDIT, CHANGES])
async def test_a_change_fails_where_a_stream_has_no_further_id_and_is_made_once_the_stream_is_renamed(
    redis_store: RedisKeyStore, redis_server: RedisServer, stream: bytes
) -> None:
    """The reason says so."""
    await redis_store.add(RECORD)
    redis_server.command("XADD", stream, f"{LAST_NUMBER}-{LAST_NUMBER}", "entry", "{}")
    assert await reason_of(revoke_key(redis_store, RECORD.id, REVOCATION)) == (
        "Redis takes no further entry in {blnk-gateway}:audit or {blnk-gateway}:changes, because another "
        "program has used the last id of that stream: see 'An id that is no time' in deploy/reference.md"
    )
    redis_server.command("RENAME", stream, stream + b"-old")
    revoked = await revoke_key(redis_store, RECORD.id, REVOCATION)
    assert revoked is not None
    assert revoked.revoked


async def test_no_record_moves_to_the_digest_of_another_key(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(PENDING)
    redis_server.command("SET", id_name(GLOBEX.id), PENDING.digest)
    assert await redis_store.bind_digest(GLOBEX.id, GLOBEX.digest) is None
    assert await redis_store.get(PENDING.id) == PENDING


@MISLED
async def test_a_record_that_is_stored_again_is_found_by_its_id_again(
    redis_store: RedisKeyStore, redis_server: RedisServer, led_to: str | bytes
) -> None:
    """So does an import, and a key of Core can be revoked: its row is stored before."""
    await redis_store.add_all([PENDING, OTHER])
    redis_server.command("SET", id_name(PENDING.id), led_to)
    assert await redis_store.add_all([PENDING]) == [PENDING]
    assert await redis_store.get_many([PENDING.id, OTHER.id]) == [PENDING, OTHER]


async def test_a_damaged_key_that_is_removed_as_the_guide_says_counts_no_more(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    await redis_store.add(RECORD, Quota(1))
    redis_server.command("SET", key_name(RECORD.digest), "{")
    redis_server.command("DEL", key_name(RECORD.digest))
    for index in ("ends", "owner"):
        redis_server.command("ZREM", f"{PREFIX}{index}:acme", RECORD.digest)
    await redis_store.add(OTHER, Quota(1))
    assert await redis_store.owned("acme") == [OTHER]


async def test_a_record_of_another_type_is_not_replaced(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    """It may have been that of a key that is disabled."""
    redis_server.command("RPUSH", key_name(RECORD.digest), "x")
    with pytest.raises(GatewayError) as failure:
        await redis_store.add(RECORD)
    assert failure.value.reason == (
        "Redis holds a value of another type under one of the gateway's names, {blnk-gateway}:*"
    )


@MISLED
async def test_no_second_record_is_stored_of_a_key_whose_id_leads_elsewhere(
    redis_store: RedisKeyStore, redis_server: RedisServer, led_to: str | bytes
) -> None:
    """The first one may be disabled, or be the one that requests use."""
    bound = PENDING.as_bound("c" * 64)
    await redis_store.add_all([bound, OTHER])
    redis_server.command("SET", id_name(PENDING.id), led_to)
    failures = await asyncio.gather(
        redis_store.add_all([PENDING]),
        redis_store.add(replace(bound, digest="d" * 64)),
        return_exceptions=True,
    )
    reasons = [failure.reason for failure in failures if isinstance(failure, UnreadableKeyError)]
    assert reasons == [misled(PENDING.id)] * 2
    assert await scanned(redis_store) == {bound, OTHER}


@MISLED
async def test_a_creator_whose_id_leads_elsewhere_creates_no_key(
    redis_store: RedisKeyStore, redis_server: RedisServer, led_to: str | bytes
) -> None:
    """It may be revoked."""
    await redis_store.add_all([RECORD, OTHER])
    redis_server.command("SET", id_name(RECORD.id), led_to)
    with pytest.raises(UnreadableKeyError) as failure:
        await redis_store.add(replace(GLOBEX, created_by=RECORD.id))
    assert failure.value.reason == misled(RECORD.id)


async def test_a_change_that_is_refused_takes_nothing_out_of_the_indexes(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    """A key that Core is still to revoke, and that another key created, is found as before."""
    child = replace(PENDING, created_by=RECORD.id).as_bound("c" * 64)
    retiring = child.as_revoked(REVOCATION, awaiting_core=True)
    await redis_store.add_all([RECORD, retiring])
    kept = redis_server.command("DUMP", RETIRING), redis_server.command("DUMP", children_name(RECORD.id))
    redis_server.command("DEL", id_name(child.id))
    redis_server.command("RPUSH", id_name(child.id), "x")
    with pytest.raises(GatewayError):
        await redis_store.add_all([PENDING])
    found = redis_server.command("DUMP", RETIRING), redis_server.command("DUMP", children_name(RECORD.id))
    assert found == kept
