"""Pruning of records whose keys ended long ago: which are removed, and what stays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.gocompat.times import read_instant
from gateway.keys.cache import KeyCache
from gateway.keys.pruning import BATCH, Link, Removable, removable, remove
from gateway.keys.record import Event, KeyRecord, Revocation
from gateway.keys.redis.names import PREFIX
from gateway.keys.redis.store import RedisKeyStore
from gateway.keys.revocation import revoke_key
from gateway.keys.store import KeyChange, KeyStore
from gateway.policy.principals import KeyState
from tests.keys.records import GLOBEX, OTHER, PENDING, RECORD, instant, revocation
from tests.redis_server import RedisServer, commands_of_clients, commands_of_scripts

AT = "2026-02-01T00:00:00Z"
DEAD = RECORD.as_revoked(revocation(AT, "master", "left"))
BEFORE = read_instant("2026-03-01T00:00:00Z").unix


def link(number: int, *, by: int = 0, replaces: int = 0, ended: bool = True) -> Link:
    return Link(f"k{number}", f"k{by}" if by else "master", f"k{replaces}" if replaces else "", ended)


@pytest.mark.parametrize(
    ("links", "going", "needed"),
    [
        ([], [], 0),
        ([link(1, ended=False)], [], 0),
        ([link(1), link(2)], [1, 2], 0),
        # 1 created 2, which created 3.
        ([link(1), link(2, by=1), link(3, by=2)], [1, 2, 3], 0),
        ([link(1), link(2, by=1), link(3, by=2, ended=False)], [], 2),
        ([link(1), link(2, by=1, ended=False), link(3, by=2)], [3], 1),
        # 2 is the successor of 1, and 3 of 2; no key created 1.
        ([link(1), link(2, replaces=1), link(3, replaces=2, ended=False)], [1, 2], 0),
        # The same, but 9 created 1.
        ([link(9, ended=False), link(1, by=9), link(2, replaces=1), link(3, replaces=2, ended=False)], [], 2),
        ([link(9), link(1, by=9), link(2, replaces=1), link(3, replaces=2, ended=False)], [], 3),
        # The record of 9 was removed before.
        ([link(1, by=9), link(2, replaces=1), link(3, replaces=2, ended=False)], [1, 2], 0),
        # A circle, which only an import can write.
        ([link(1, by=2), link(2, by=1)], [1, 2], 0),
        ([link(1, by=2), link(2, by=1), link(3, by=1, ended=False)], [], 2),
    ],
)
def test_a_record_stays_while_a_live_descendant_is_found_by_it(
    links: list[Link], going: list[int], needed: int
) -> None:
    assert removable(links) == Removable(tuple(f"k{number}" for number in going), needed)


@pytest.mark.parametrize(
    ("record", "ended_at"),
    [
        (RECORD, "2999-01-02T03:04:05Z"),
        (DEAD, AT),
        (replace(DEAD, expires_at=instant("2026-01-15T00:00:00Z")), "2026-01-15T00:00:00Z"),
        (replace(DEAD, revocation=Revocation(None, "")), "2999-01-02T03:04:05Z"),
    ],
    ids=["live", "revoked", "expired before", "revoked at an unknown time"],
)
def test_the_end_of_a_key_is_when_it_was_first_refused(record: KeyRecord, ended_at: str) -> None:
    assert record.ended_at == read_instant(ended_at).unix


async def test_a_removed_record_leaves_nothing_behind(store: KeyStore) -> None:
    """Its id and digest can be stored again, as an import does."""
    await store.add_all([DEAD, OTHER])
    await store.record_uses({DEAD.id: 1_700_000_000.0})
    (given,) = await store.get_many([DEAD.id])
    assert await store.remove_all([given]) == [DEAD]
    assert (await store.get_by_digest(DEAD.digest), await store.get(DEAD.id)) == (None, None)
    assert await store.owned("acme") == [OTHER]
    assert await store.add_all([DEAD]) == [None]
    # The last use is forgotten too.
    assert await store.get(DEAD.id) == DEAD


async def test_a_record_that_was_changed_meanwhile_stays(store: KeyStore) -> None:
    """A record that was changed or is not there is skipped, and the others are removed."""
    expired = replace(RECORD, expires_at=instant(AT))
    await store.add_all([expired, GLOBEX.as_revoked(revocation(AT, "master"))])
    revoked = await revoke_key(store, expired.id, revocation(AT, "master"))
    given = [expired, OTHER, GLOBEX.as_revoked(revocation(AT, "master"))]
    assert await store.remove_all(given) == [GLOBEX.as_revoked(revocation(AT, "master"))]
    assert await store.get(expired.id) == revoked


async def test_a_removal_is_in_the_change_feed(store: KeyStore) -> None:
    await store.add_all([DEAD, replace(OTHER, expires_at=instant(AT))])
    start = await store.last_position()
    await store.remove_all([DEAD, replace(OTHER, expires_at=instant(AT))])
    assert (await store.changes(start, 1)).changes == (
        KeyChange(DEAD.digest, DEAD.id, revoked=True),
        KeyChange(OTHER.digest, OTHER.id, revoked=False),
    )


async def test_a_gateway_never_takes_a_revocation_back(store: KeyStore) -> None:
    """A gateway refuses a key id that it has seen revoked, even if an import stores that id as live."""
    cache = KeyCache(store, lambda: 0.0)
    await store.add(DEAD)
    assert (await cache.lookup(DEAD.digest)) is not None
    await store.remove_all([DEAD])
    cache.apply_record(DEAD)
    assert await cache.lookup(DEAD.digest) is None
    await store.add(RECORD)
    found = await cache.lookup(RECORD.digest)
    assert found is not None
    assert found.state(0.0) is KeyState.REVOKED


@pytest.mark.redis
async def test_no_other_redis_key_is_left_of_a_removed_record(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    """Only the streams are left once a record, what it created and its successor are removed."""
    minted = replace(OTHER, created_by=RECORD.id).as_revoked(revocation(AT, "master"))
    pending = replace(PENDING.as_revoked(revocation(AT, "core")), owner="acme", replaces=RECORD.id)
    await redis_store.add_all([DEAD, minted, pending])
    await redis_store.record_uses({record.id: 1.0 for record in (DEAD, minted, pending)})
    for record in (minted, pending, DEAD):
        assert await redis_store.remove_all([record]) == [record]
    names = re.findall(rb"\r\n(\{[^\r\n]*)", redis_server.command("KEYS", "*"))
    left = ("audit", "audit-counts", "changes")
    assert sorted(names) == [f"{PREFIX}{name}".encode() for name in left]


@pytest.mark.redis
async def test_a_batch_is_removed_by_one_script(
    redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    dead = [replace(DEAD, id=f"{RECORD.id[:-4]}{n:04}", digest=f"{n:064x}") for n in range(BATCH)]
    await redis_store.add_all(dead)
    with redis_server.monitored() as seen:
        assert len(await redis_store.remove_all(dead)) == BATCH
        lines = seen()
    assert commands_of_clients(lines).count("EVAL") == 1
    # Each record has two names: its id and its digest.
    assert commands_of_scripts(lines).count("DEL") == 2 * BATCH


async def test_nothing_is_removed_before_it_was_exported(store: KeyStore) -> None:
    """A record that is live again since it was chosen stays too, and so does one whose export failed."""
    await store.add_all([DEAD, OTHER, GLOBEX.as_revoked(revocation(AT, "master"))])
    exported: list[KeyRecord] = []

    async def ended(records: Sequence[KeyRecord]) -> set[str]:
        return {record.id for record in records if record.ended_at < BEFORE}

    def export(records: Sequence[KeyRecord]) -> None:
        exported.extend(records)

    progress: list[int] = []
    ids = [DEAD.id, OTHER.id, GLOBEX.id]
    assert await remove(store, ids, ended, export, progress.append) == 2
    assert exported == [DEAD, GLOBEX.as_revoked(revocation(AT, "master"))]
    assert (await store.get_many(ids), progress) == ([OTHER], [3])

    def full(records: Sequence[KeyRecord]) -> None:
        raise OSError

    await revoke_key(store, OTHER.id, revocation(AT, "master"))
    with pytest.raises(OSError):  # noqa: PT011  # any error of the file
        await remove(store, ids, ended, full)
    assert len(await store.get_many(ids)) == 1


async def test_a_record_with_another_history_is_not_removed(store: KeyStore) -> None:
    changed = replace(DEAD, history=(Event(instant(AT), "disabled", "cli:ann"),))
    await store.add(changed)
    assert await store.remove_all([DEAD]) == []
