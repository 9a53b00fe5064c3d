"""Revocation of a key with its descendants, in the cases that the tests of the API do not reach."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.minting import digest
from gateway.keys.record import Event, KeyRecord
from gateway.keys.revocation import RevocationHooks, revoke_with_descendants
from gateway.keys.store import CreatorRevokedError, KeyStore
from tests.keys.records import OTHER, RECORD, instant, revocation

AT = "2026-02-01T00:00:00Z"
REVOCATION = revocation(AT, "cli:ann", "stolen")
HOOKS = RevocationHooks()


async def test_descendants_get_the_reason(store: KeyStore) -> None:
    await store.add(RECORD)
    await store.add(replace(OTHER, created_by=RECORD.id))
    revoked = await revoke_with_descendants(store, RECORD.id, REVOCATION, HOOKS)
    assert [(record.id, record.revocation) for record in revoked] == [
        (RECORD.id, REVOCATION),
        (OTHER.id, revocation(AT, "cli:ann", f"descendant of {RECORD.id}: stolen")),
    ]


async def test_descendants_are_found_across_rotations(store: KeyStore) -> None:
    """Successors of a descendant, and what they minted, are revoked; the successor of the top key stays."""
    end = RECORD.expires_at
    top, child, grandchild, heir, heirs_child = (
        replace(RECORD, id=f"{RECORD.id[:-1]}{number}", digest=digest(str(number))) for number in range(5)
    )
    await store.add_all(
        [
            top.as_rotated(end, Event(instant(AT), "rotated", "cli:ann")),
            replace(OTHER, id=f"{RECORD.id[:-1]}9", created_by="cli:ann", replaces=top.id),
            replace(child, created_by=top.id).as_rotated(end, Event(instant(AT), "rotated", "cli:ann")),
            replace(grandchild, created_by=child.id),
            replace(heir, created_by="cli:ann", replaces=child.id),
            replace(heirs_child, created_by=heir.id),
        ]
    )
    revoked = await revoke_with_descendants(store, top.id, REVOCATION, HOOKS)
    assert {record.id for record in revoked} == {top.id, child.id, grandchild.id, heir.id, heirs_child.id}


async def test_a_circle_of_imported_keys_is_followed_once(store: KeyStore) -> None:
    await store.add_all([replace(RECORD, created_by=OTHER.id), replace(OTHER, created_by=RECORD.id)])
    revoked = await revoke_with_descendants(store, RECORD.id, REVOCATION, HOOKS)
    assert [record.id for record in revoked] == [RECORD.id, OTHER.id]


async def test_an_unknown_key_has_no_descendants(store: KeyStore) -> None:
    assert await revoke_with_descendants(store, RECORD.id, REVOCATION, HOOKS) == []


async def test_a_descendant_whose_record_vanishes_is_skipped() -> None:
    class Vanishing(MemoryKeyStore):
        async def children(self, key_id: str) -> list[KeyRecord]:
            return [OTHER]

    store = Vanishing()
    await store.add(RECORD)
    assert [record.id for record in await revoke_with_descendants(store, RECORD.id, REVOCATION, HOOKS)] == [
        RECORD.id
    ]


async def test_what_is_minted_during_the_revocation_is_not_missed(store: KeyStore) -> None:
    """Either the store refuses the new key, or the key is revoked with its creator."""
    for number in range(20):
        minter = replace(RECORD, id=f"{RECORD.id[:-2]}{number:02}", digest=f"{number:064}")
        child = replace(
            OTHER, id=f"{OTHER.id[:-2]}{number + 50}", digest=f"{number + 50:064}", created_by=minter.id
        )
        await store.add(minter)

        async def mint(child: KeyRecord = child) -> None:
            with contextlib.suppress(CreatorRevokedError):
                await store.add(child)

        await asyncio.gather(mint(), revoke_with_descendants(store, minter.id, REVOCATION, HOOKS))
        stored = await store.get(child.id)
        assert stored is None or stored.revoked
