"""What every key store does, memory and Redis alike."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.keys.store import Change, Changes, DuplicateKeyError, KeyStore, MemoryKeyStore
from gateway.policy.principals import ApiKey
from tests.keys.records import GLOBEX, OTHER, RECORD

AT = "2026-02-01T00:00:00Z"
REVOKED = replace(RECORD, revoked_at=AT, revoked_by="master")


async def test_a_new_store_is_empty_and_answers(store: KeyStore) -> None:
    await store.ping()
    assert await store.empty()


async def test_a_record_is_found_by_digest_and_by_id(store: KeyStore) -> None:
    await store.add(RECORD)
    assert (await store.find(RECORD.digest), await store.get(RECORD.id)) == (RECORD, RECORD)
    assert not await store.empty()


async def test_what_was_never_stored_is_not_found(store: KeyStore) -> None:
    await store.add(RECORD)
    assert (await store.find(OTHER.digest), await store.get(OTHER.id)) == (None, None)
    assert await store.revoke(OTHER.id, AT, "master") is None


async def test_a_digest_is_stored_once(store: KeyStore) -> None:
    await store.add(REVOKED)
    with pytest.raises(DuplicateKeyError):
        await store.add(RECORD)
    assert await store.find(RECORD.digest) == REVOKED


async def test_a_revoked_record_stays_and_keeps_its_first_revocation(store: KeyStore) -> None:
    await store.add(RECORD)
    assert await store.revoke(RECORD.id, AT, "master") == REVOKED
    assert await store.revoke(RECORD.id, "2026-03-01T00:00:00Z", "other") == REVOKED
    assert await store.find(RECORD.digest) == REVOKED


async def test_of_many_revocations_at_once_one_counts(store: KeyStore) -> None:
    await store.add(RECORD)
    by = [f"caller {number}" for number in range(8)]
    revoked = await asyncio.gather(*(store.revoke(RECORD.id, AT, name) for name in by))
    assert set(revoked) == {await store.find(RECORD.digest)}


async def test_an_owners_records_come_newest_first(store: KeyStore) -> None:
    for record in (RECORD, OTHER, GLOBEX):
        await store.add(record)
    await store.revoke(RECORD.id, AT, "master")
    assert await store.owned("acme") == [OTHER, REVOKED]
    assert await store.owned("globex") == [GLOBEX]


@pytest.mark.parametrize("owner", ["", "nobody", "acme ", "\udcff", "a\x00b"])
async def test_an_owner_without_records_has_none(store: KeyStore, owner: str) -> None:
    await store.add(RECORD)
    assert await store.owned(owner) == []


@pytest.mark.parametrize("text", ["", " ", "<é&>", "a\x00b", "\U0001f600" * 100])
async def test_any_text_survives_being_stored(store: KeyStore, text: str) -> None:
    record = replace(RECORD, name=text, owner=text, scopes=(text,))
    await store.add(record)
    assert await store.find(record.digest) == record
    assert await store.owned(text) == [record]


async def test_changes_are_read_in_order_from_a_position(store: KeyStore) -> None:
    await store.add(OTHER)
    start = await store.last_position()
    await store.add(RECORD)
    await store.revoke(RECORD.id, AT, "master")
    news = await store.changes(start, 1)
    first, second = (
        Change(RECORD.digest, RECORD.id, revoked=False),
        Change(RECORD.digest, RECORD.id, revoked=True),
    )
    assert news == Changes(await store.last_position(), (first, second))
    assert await store.changes(news.position, 0.01) == Changes(news.position)


async def test_revoking_again_is_no_change(store: KeyStore) -> None:
    await store.add(REVOKED)
    before = await store.last_position()
    await store.revoke(RECORD.id, AT, "master")
    assert await store.last_position() == before


async def test_a_reader_that_waits_is_told_of_a_change_at_once(store: KeyStore) -> None:
    await store.add(OTHER)
    start = await store.last_position()
    reader = asyncio.create_task(store.changes(start, 30))
    # The reader's connection may still be opening; a change is told either way.
    await asyncio.sleep(0)
    await store.add(RECORD)
    async with asyncio.timeout(5):
        news = await reader
    assert news.changes == (Change(RECORD.digest, RECORD.id, revoked=False),)


async def test_a_new_store_has_a_position_to_read_from(store: KeyStore) -> None:
    start = await store.last_position()
    assert await store.changes(start, 0.01) == Changes(start)


async def test_changes_that_memory_no_longer_keeps_are_a_gap() -> None:
    store = MemoryKeyStore(changes_kept=1)
    await store.add(RECORD)
    await store.add(OTHER)
    assert await store.changes("0", 0) == Changes(
        "2", (Change(OTHER.digest, OTHER.id, revoked=False),), continuous=False
    )


async def test_a_position_that_memory_never_reached_is_a_gap() -> None:
    store = MemoryKeyStore()
    assert await store.changes("7", 0) == Changes("0", continuous=False)


def test_the_principal_of_a_record() -> None:
    record = replace(RECORD, expires_at="1970-01-01T00:00:01.5Z")
    live = ApiKey(RECORD.id, "acme", ("ledgers:read",), 1.5)
    assert record.principal() == live
    assert replace(record, revoked_at=AT).principal() == replace(live, revoked=True)


def test_a_record_without_a_readable_time_is_none() -> None:
    with pytest.raises(ValueError, match="parsing time"):
        replace(RECORD, expires_at="tomorrow")
    with pytest.raises(ValueError, match="parsing time"):
        replace(RECORD, created_at="")
