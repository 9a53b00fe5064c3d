"""Behaviour that all key stores share, in memory and in Redis."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.gocompat.times import read_instant
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.minting import digest
from gateway.keys.record import Event, KeyRecord, RefusedRecordError
from gateway.keys.revocation import revoke_key
from gateway.keys.store import CreatorRevokedError, DuplicateKeyError, KeyChange, KeyChangeBatch, KeyStore
from tests.keys.records import GLOBEX, OTHER, PENDING, RECORD, instant, revocation

AT = "2026-02-01T00:00:00Z"
REVOKED = replace(RECORD, revocation=revocation(AT, "master"))


async def test_a_new_store_is_empty_and_responds(store: KeyStore) -> None:
    await store.ping()
    assert await store.is_empty()


async def test_a_record_is_found_by_digest_and_by_id(store: KeyStore) -> None:
    await store.add(RECORD)
    assert (await store.get_by_digest(RECORD.digest), await store.get(RECORD.id)) == (RECORD, RECORD)
    assert not await store.is_empty()


async def test_what_was_never_stored_is_not_found(store: KeyStore) -> None:
    await store.add(RECORD)
    assert (await store.get_by_digest(OTHER.digest), await store.get(OTHER.id)) == (None, None)
    assert await revoke_key(store, OTHER.id, revocation(AT, "master")) is None


async def test_a_digest_is_stored_once(store: KeyStore) -> None:
    await store.add(REVOKED)
    with pytest.raises(DuplicateKeyError):
        await store.add(RECORD)
    assert await store.get_by_digest(RECORD.digest) == REVOKED


async def test_a_revoked_record_stays_and_keeps_its_first_revocation(store: KeyStore) -> None:
    await store.add(RECORD)
    assert await revoke_key(store, RECORD.id, revocation(AT, "master")) == REVOKED
    assert await revoke_key(store, RECORD.id, revocation("2026-03-01T00:00:00Z", "other")) == REVOKED
    assert await store.get_by_digest(RECORD.digest) == REVOKED


async def test_of_many_revocations_at_once_one_counts(store: KeyStore) -> None:
    await store.add(RECORD)
    by = [f"caller {number}" for number in range(8)]
    revoked = await asyncio.gather(*(revoke_key(store, RECORD.id, revocation(AT, name)) for name in by))
    assert set(revoked) == {await store.get_by_digest(RECORD.digest)}


async def test_an_owners_records_come_newest_first(store: KeyStore) -> None:
    for record in (RECORD, OTHER, GLOBEX):
        await store.add(record)
    await revoke_key(store, RECORD.id, revocation(AT, "master"))
    assert await store.owned("acme") == [OTHER, REVOKED]
    assert await store.owned("globex") == [GLOBEX]


async def test_records_come_by_their_ids_in_order(store: KeyStore) -> None:
    """Records are returned in the order of the ids, without those that are unknown."""
    await store.add_all([RECORD, OTHER])
    await store.record_uses({OTHER.id: 1_800_000_000.0})
    found = await store.get_many([OTHER.id, GLOBEX.id, RECORD.id])
    assert found == [OTHER.with_last_use(1_800_000_000.0), RECORD]
    assert await store.get_many([]) == []


@pytest.mark.parametrize("owner", ["", "nobody", "acme ", "\udcff", "a\x00b"])
async def test_an_owner_without_records_has_none(store: KeyStore, owner: str) -> None:
    await store.add(RECORD)
    assert await store.owned(owner) == []


@pytest.mark.parametrize("text", ["", " ", "<é&>", "a\x00b", "\U0001f600" * 100])
async def test_any_text_is_read_back_equal(store: KeyStore, text: str) -> None:
    record = replace(RECORD, name=text, owner=text, scopes=(text,))
    await store.add(record)
    assert await store.get_by_digest(record.digest) == record
    assert await store.owned(text) == [record]


async def test_changes_are_read_in_order_from_a_position(store: KeyStore) -> None:
    await store.add(OTHER)
    start = await store.last_position()
    await store.add(RECORD)
    await revoke_key(store, RECORD.id, revocation(AT, "master"))
    news = await store.changes(start, 1)
    first, second = (
        KeyChange(RECORD.digest, RECORD.id, revoked=False),
        KeyChange(RECORD.digest, RECORD.id, revoked=True),
    )
    assert news == KeyChangeBatch(await store.last_position(), (first, second))
    assert await store.changes(news.position, 0.01) == KeyChangeBatch(news.position)


async def test_revoking_again_is_no_change(store: KeyStore) -> None:
    await store.add(REVOKED)
    before = await store.last_position()
    await revoke_key(store, RECORD.id, revocation(AT, "master"))
    assert await store.last_position() == before


async def test_a_waiting_reader_gets_a_change_at_once(store: KeyStore) -> None:
    await store.add(OTHER)
    start = await store.last_position()
    reader = asyncio.create_task(store.changes(start, 30))
    # The reader may still be connecting; it gets the change either way.
    await asyncio.sleep(0)
    await store.add(RECORD)
    async with asyncio.timeout(5):
        news = await reader
    assert news.changes == (KeyChange(RECORD.digest, RECORD.id, revoked=False),)


async def test_a_new_store_has_a_position_to_read_from(store: KeyStore) -> None:
    start = await store.last_position()
    assert await store.changes(start, 0.01) == KeyChangeBatch(start)


async def test_changes_that_memory_no_longer_keeps_are_a_gap() -> None:
    store = MemoryKeyStore(changes_kept=1)
    await store.add(RECORD)
    await store.add(OTHER)
    assert await store.changes("0", 0) == KeyChangeBatch(
        "2", (KeyChange(OTHER.digest, OTHER.id, revoked=False),), continuous=False
    )


async def test_a_position_that_memory_never_reached_is_a_gap() -> None:
    store = MemoryKeyStore()
    assert await store.changes("7", 0) == KeyChangeBatch("0", continuous=False)


# Changes of a record by its id.


async def test_a_revocation_keeps_its_reason(store: KeyStore) -> None:
    await store.add(RECORD)
    revoked = replace(REVOKED, revocation=revocation(AT, "master", "stolen"))
    assert await revoke_key(store, RECORD.id, revocation(AT, "master", "stolen")) == revoked
    assert await store.get(RECORD.id) == revoked


async def test_a_disabled_key_is_a_change_and_no_revocation(store: KeyStore) -> None:
    """The change of a disabled key lets caches forget the key, and not remember it as revoked."""
    await store.add(RECORD)
    start = await store.last_position()
    disabled = await store.revise(RECORD.id, lambda record: record.as_disabled(instant(AT), "cli:ann"))
    enabled = await store.revise(RECORD.id, lambda record: record.as_enabled(instant(AT), "cli:ann"))
    assert disabled is not None
    assert enabled is not None
    assert (disabled.disabled, enabled.disabled) == (True, False)
    assert await store.get_by_digest(RECORD.digest) == enabled
    news = await store.changes(start, 1)
    assert [(change.key_id, change.revoked) for change in news.changes] == [(RECORD.id, False)] * 2


async def test_a_revision_of_an_unknown_key_is_none(store: KeyStore) -> None:
    assert await store.revise(RECORD.id, lambda record: record, successor=OTHER) is None
    assert await store.get_by_digest(OTHER.digest) is None


async def test_a_successor_is_stored_with_the_revision(store: KeyStore) -> None:
    await store.add(RECORD)
    retired = replace(RECORD, expires_at=instant("2026-02-02T00:00:00Z"))
    assert await store.revise(RECORD.id, lambda _: retired, successor=OTHER) == retired
    assert await store.owned("acme") == [OTHER, retired]


async def test_a_revision_that_refuses_changes_nothing(store: KeyStore) -> None:
    await store.add(REVOKED)

    def retire(record: KeyRecord) -> KeyRecord:
        return record.as_rotated(record.expires_at, Event(instant(AT), "rotated", "cli:ann"))

    with pytest.raises(RefusedRecordError, match="is revoked"):
        await store.revise(RECORD.id, retire, successor=OTHER)
    assert await store.owned("acme") == [REVOKED]


# Keys that keys created.


async def test_the_children_and_the_successor_of_a_key_are_known(store: KeyStore) -> None:
    minted, successor = replace(OTHER, created_by=RECORD.id), replace(PENDING, replaces=OTHER.id)
    for record in (RECORD, minted, successor, GLOBEX):
        await store.add(record)
    assert await store.children(RECORD.id) == [minted]
    assert await store.children(minted.id) == [successor]
    assert await store.children(successor.id) == []


@pytest.mark.parametrize("dead", [REVOKED, replace(RECORD, disabled=True)], ids=["revoked", "disabled"])
async def test_a_dead_key_mints_nothing(store: KeyStore, dead: KeyRecord) -> None:
    await store.add(dead)
    with pytest.raises(CreatorRevokedError):
        await store.add(replace(OTHER, created_by=RECORD.id))
    assert await store.get_by_digest(OTHER.digest) is None


# Batches.


async def test_a_scan_returns_every_record_once(store: KeyStore) -> None:
    assert [batch async for batch in store.scan() if batch] == []
    for record in (RECORD, OTHER, GLOBEX):
        await store.add(record)
    found = [record async for batch in store.scan() for record in batch]
    assert sorted(found, key=lambda record: record.id) == [RECORD, OTHER, GLOBEX]


async def test_a_batch_is_added_and_existing_records_stay(store: KeyStore) -> None:
    await store.add(REVOKED)
    same_digest = replace(RECORD, id=PENDING.id)
    assert await store.add_all([RECORD, OTHER, GLOBEX]) == [REVOKED, None, None]
    assert await store.add_all([same_digest]) == [REVOKED]
    assert await store.add_all([replace(RECORD, digest="0" * 64)]) == [REVOKED]
    assert await store.owned("acme") == [OTHER, REVOKED]
    assert await store.owned("globex") == [GLOBEX]


async def test_a_dry_run_adds_nothing(store: KeyStore) -> None:
    await store.add(RECORD)
    assert await store.add_all([RECORD, OTHER], dry_run=True) == [RECORD, None]
    assert await store.get_by_digest(OTHER.digest) is None


async def test_every_record_of_a_batch_is_a_change(store: KeyStore) -> None:
    await store.add(GLOBEX)
    start = await store.last_position()
    await store.add_all([RECORD, OTHER])
    news = await store.changes(start, 1)
    assert [change.key_id for change in news.changes] == [RECORD.id, OTHER.id]


# Pending records.


async def test_a_pending_record_is_listed_and_found_by_its_prefix(store: KeyStore) -> None:
    await store.add_all([PENDING, RECORD])
    assert await store.get_by_prefix(PENDING.prefix) == [PENDING]
    assert await store.get_by_prefix("0123456789abcdef") == []
    assert await store.owned(PENDING.owner) == [PENDING]


async def test_a_pending_record_is_bound_to_a_digest_once(store: KeyStore) -> None:
    await store.add_all([PENDING])
    settled = replace(PENDING, digest="d" * 64, bcrypt="")
    assert await store.bind_digest(PENDING.id, "d" * 64) == settled
    assert await store.bind_digest(PENDING.id, "e" * 64) is None
    assert await store.get_by_digest("d" * 64) == settled
    assert await store.get_by_digest(PENDING.digest) is None
    assert await store.get(PENDING.id) == settled
    assert await store.owned(PENDING.owner) == [settled]
    assert await store.get_by_prefix(PENDING.prefix) == [settled]


async def test_binding_a_digest_never_undoes_a_revocation(store: KeyStore) -> None:
    await store.add_all([PENDING])
    await revoke_key(store, PENDING.id, revocation(AT, "master"))
    settled = await store.bind_digest(PENDING.id, "d" * 64)
    assert settled is not None
    assert settled.revocation == revocation(AT, "master")


async def test_binding_a_digest_never_replaces_a_record(store: KeyStore) -> None:
    await store.add_all([PENDING, REVOKED])
    assert await store.bind_digest(PENDING.id, RECORD.digest) == REVOKED
    assert await store.get(PENDING.id) == PENDING


async def test_a_key_that_is_revoked_while_it_is_bound_ends_revoked(store: KeyStore) -> None:
    """A key that is revoked while its digest is bound ends revoked, whichever comes first."""
    for number in range(20):
        record = replace(
            PENDING, id=f"{PENDING.id[:-2]}{number:02}", digest=f"pending:{PENDING.id[:-2]}{number:02}"
        )
        await store.add_all([record])
        _, revoked = await asyncio.gather(
            store.bind_digest(record.id, f"{number:064}"),
            revoke_key(store, record.id, revocation(AT, "master")),
        )
        stored = await store.get(record.id)
        assert revoked is not None
        assert stored is not None
        assert (stored.digest, stored.revocation) == (f"{number:064}", revocation(AT, "master"))


# Last uses.


async def test_a_key_that_was_never_used_has_no_last_use(store: KeyStore) -> None:
    await store.add(RECORD)
    await store.record_uses({})
    assert await store.get_many([]) == []
    assert await store.get_many([RECORD.id]) == [RECORD]


async def test_a_last_use_is_in_lists_and_never_moves_back(store: KeyStore) -> None:
    await store.add(RECORD)
    await store.record_uses({RECORD.id: 1_800_000_000.25, OTHER.id: 5.0})
    await store.record_uses({RECORD.id: 1_700_000_000.0})
    used = replace(RECORD, last_used_at=instant("2027-01-15T08:00:00.25Z"))
    assert await store.owned("acme") == [used]
    assert await store.get(RECORD.id) == used


async def test_a_last_use_is_no_change(store: KeyStore) -> None:
    await store.add(RECORD)
    before = await store.last_position()
    await store.record_uses({RECORD.id: 1_800_000_000.0})
    assert await store.last_position() == before


async def test_an_id_stands_for_one_key(store: KeyStore) -> None:
    """A second record with a known id is refused, because it would hide the first one's revocation."""
    await store.add(RECORD)
    with pytest.raises(DuplicateKeyError):
        await store.add(replace(RECORD, digest=digest("another")))
    assert await store.get(RECORD.id) == RECORD


async def test_keys_await_their_revocation_in_core_until_it_is_done(store: KeyStore) -> None:
    """A key stays in the list whatever else happens to it, also while it is pending."""
    end = read_instant("2026-03-01T00:00:00Z")

    def retire(record: KeyRecord) -> KeyRecord:
        return record.as_rotated(end, Event(instant(AT), "rotated", "cli:ann"), awaiting_core=True)

    async def ids() -> list[str]:
        return sorted(record.id for record in await store.awaiting_core_revocation())

    await store.add_all([RECORD, PENDING, OTHER, GLOBEX])
    assert await store.awaiting_core_revocation() == []
    for record in (RECORD, PENDING):
        await store.revise(record.id, retire)
    await store.revise(
        GLOBEX.id, lambda record: record.as_rotated(end, Event(instant(AT), "rotated", "cli:ann"))
    )
    await revoke_key(store, OTHER.id, revocation(AT, "master"), awaiting_core=True)
    assert await ids() == [RECORD.id, OTHER.id, PENDING.id]
    await store.bind_digest(PENDING.id, digest("fourth"))
    await revoke_key(store, RECORD.id, revocation(AT, "master"))
    assert await ids() == [RECORD.id, OTHER.id, PENDING.id]
    for key_id in (RECORD.id, OTHER.id):
        await store.revise(key_id, lambda record: record.as_overlap_ended(instant(AT)).as_revoked_in_core())
    assert await store.awaiting_core_revocation() == [retire(PENDING).as_bound(digest("fourth"))]


async def test_a_lease_has_one_holder_until_it_ends(store: KeyStore) -> None:
    assert await store.take_lease("one", 0.2)
    assert not await store.take_lease("one", 0.2)
    assert await store.take_lease("two", 0.2)
    async with asyncio.timeout(5):
        while not await store.take_lease("one", 0.2):
            await asyncio.sleep(0.01)
