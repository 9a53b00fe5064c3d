"""The quota of keys for an owner, with Core as the authority."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.errors import Code
from gateway.keys.core.quota import TURNS, CoreQuota
from gateway.keys.core.rows import CoreRows
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.minting import digest
from gateway.keys.quota import Quota, QuotaError
from gateway.policy.values import Deny
from tests.keys.core.conftest import Postgres, Table
from tests.keys.core.test_api import ACME, CREATED, NEW, body, resource, row
from tests.keys.records import KEY_ID, RECORD, revocation
from tests.running import eventually


class Counted:
    """A stand-in for Core's table that counts live keys."""

    def __init__(self) -> None:
        self.count = 0

    async def live(self, owner: str) -> int:
        return self.count


async def test_beyond_the_quota_core_is_not_asked() -> None:
    """The live keys in Core's table count, because the store has only those that were used here."""
    made = resource(rows=[row("2"), row("3"), row("4", "globex"), row("5", revoked=True)], quota=Quota(2))
    text = "Too many API keys: live keys of this owner: 2, at most 2 (keys.per_owner); revoke one first"
    assert await made.keys.create(ACME, body()) == Deny(Code.KEY_QUOTA, text)
    assert made.core.asked == []


async def test_below_the_quota_core_creates_the_key() -> None:
    made = resource(CREATED, rows=[row("2")], quota=Quota(2))
    assert await made.keys.create(ACME, body()) == NEW


async def test_records_are_counted_in_the_store() -> None:
    """Records in the store are limited too, because creating and revoking in a loop would fill it."""
    store = MemoryKeyStore()
    dead = replace(RECORD, revocation=revocation("2026-01-01T00:00:00Z", "master"))
    ids = [f"{KEY_ID}{number}" for number in range(4)]
    await store.add_all([replace(dead, id=key_id, digest=digest(key_id)) for key_id in ids])
    text = (
        "Too many API keys: records of this owner: 4, at most 4, with those of revoked and expired keys; "
        "an operator has to remove old ones (blnk-gateway keys prune)"
    )
    made = resource(store=store, quota=Quota(1))
    assert await made.keys.create(ACME, body()) == Deny(Code.KEY_QUOTA, text)
    assert made.core.asked == []


async def test_simultaneous_creations_of_one_owner_take_turns() -> None:
    """Simultaneous creations may exceed the quota by fewer than the turns; other owners do not wait."""
    rows, release, inside = Counted(), asyncio.Event(), list[str]()
    quota = CoreQuota(rows, MemoryKeyStore(), lambda: Quota(2))

    async def create(owner: str) -> bool:
        try:
            async with quota.turn(owner):
                inside.append(owner)
                await release.wait()
                rows.count += 1
        except QuotaError:
            return False
        return True

    wanted = [asyncio.ensure_future(create(owner)) for owner in ["acme"] * 20 + ["globex"]]
    await eventually(lambda: len(inside) == TURNS + 1, "every turn taken")
    assert sorted(inside) == ["acme"] * TURNS + ["globex"]
    release.set()
    assert (await asyncio.gather(*wanted)).count(True) == TURNS + 1


@pytest.mark.postgres
async def test_live_keys_in_the_table_are_counted(postgres: Postgres, table: Table) -> None:
    """Dead keys and keys of other owners do not count; an owner that PostgreSQL cannot store has none."""
    rows = CoreRows(postgres.url())
    await table.mint("ledgers:read", owner="acme")
    await table.change(await table.mint("ledgers:read", owner="acme"), "is_revoked = true")
    await table.change(await table.mint("ledgers:read", owner="acme"), "expires_at = now()")
    owners: Sequence[str] = ("acme", "globex", "a\x00b")
    assert [await rows.live(owner) for owner in owners] == [1, 0, 0]
    rows.close()
