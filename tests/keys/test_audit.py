"""Changes of keys in the audit stream: what an entry says, and that no change is without one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gateway.audit import THE_GATEWAY, Author, Way
from gateway.audit.entry import MAX_TEXT
from gateway.keys.audit import entry_of
from gateway.keys.key_update import MAX_UPDATES, KeyUpdate, updated
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.record import UPDATED, Event, KeyRecord
from gateway.keys.redis.names import AUDIT
from gateway.keys.redis.store import RedisKeyStore
from gateway.keys.revocation import revoke_key
from gateway.keys.store import KeyStore
from gateway.policy.terms import KeyTerms, read_network, read_rate
from tests.keys.records import OTHER, PENDING, RECORD, instant, revocation

AT = "2026-02-01T00:00:00Z"
ANN = Author("cli:ann", Way.CLI)
REVOKED = RECORD.as_revoked(revocation(AT, "cli:ann", "laptop stolen"))
WHOLE = {
    "name": "n",
    "owner": "acme",
    "scopes": ["ledgers:read"],
    "expires_at": "2999-01-02T03:04:05Z",
    "created_at": "2026-01-01T00:00:00Z",
    "created_by": "master",
}


def members(before: KeyRecord | None, after: KeyRecord | None) -> dict[str, Any]:
    """Return what an entry says beside who made the change and of which key."""
    entry = entry_of(before, after, ANN)
    assert entry is not None
    said: dict[str, Any] = msgspec.to_builtins(entry)
    everywhere = {"by": "cli:ann", "way": "cli", "key_id": RECORD.id, "owner": RECORD.owner}
    assert {name: said.pop(name) for name in everywhere} == everywhere
    return said


async def entries_of(store: KeyStore) -> list[dict[str, Any]]:
    """Return the entries of the stream without their times."""
    if isinstance(store, MemoryKeyStore):
        found: list[dict[str, Any]] = msgspec.to_builtins(store.audit_entries)
    else:
        assert isinstance(store, RedisKeyStore)
        found = [json.loads(fields[b"entry"]) for _, fields in await store.link.changes.xrange(AUDIT)]
    return [{name: value for name, value in entry.items() if name != "at"} for entry in found]


class TestEntry:
    def test_of_a_new_key_has_what_was_set(self) -> None:
        """Neither the digest, nor the prefix and the hash of a pending record, is in an entry."""
        secretive = replace(RECORD, prefix=PENDING.prefix, bcrypt=PENDING.bcrypt)
        assert members(None, secretive) == {"kind": "key_created", "after": WHOLE}

    def test_of_a_removed_one_has_what_it_was(self) -> None:
        assert members(RECORD, None) == {"kind": "key_removed", "before": WHOLE}

    def test_of_a_revocation_has_its_reason(self) -> None:
        after = {"revoked_at": AT, "revoked_by": "cli:ann", "revoked_reason": "laptop stolen"}
        assert members(RECORD, REVOKED) == {"kind": "key_revoked", "reason": "laptop stolen", "after": after}

    def test_of_a_disabled_key_and_of_an_enabled_one_differ_in_one_member(self) -> None:
        disabled = RECORD.as_disabled(instant(AT), "cli:ann", "unpaid")
        enabled = disabled.as_enabled(instant(AT), "cli:ann")
        assert members(RECORD, disabled) == {
            "kind": "key_disabled", "reason": "unpaid", "after": {"disabled": True},
        }  # fmt: skip
        assert members(disabled, enabled) == {"kind": "key_enabled", "before": {"disabled": True}}

    def test_of_a_rotation_has_both_ends(self) -> None:
        rotated = RECORD.as_rotated(instant("2998-01-01T00:00:00Z"), Event(instant(AT), "rotated", "cli:ann"))
        assert members(RECORD, rotated) == {
            "kind": "key_rotated",
            "before": {"expires_at": WHOLE["expires_at"]},
            "after": {"expires_at": "2998-01-01T00:00:00Z"},
        }

    def test_of_another_change_has_before_and_after(self) -> None:
        """A member that was not set is in neither."""
        updated = replace(RECORD, name="payments", terms=KeyTerms(rate=read_rate("10/s")))
        assert members(RECORD, updated) == {
            "kind": "key_updated",
            "before": {"name": "n"},
            "after": {"name": "payments", "terms": {"rate": "10/s"}},
        }

    def test_of_a_long_list_shows_first_what_differs(self) -> None:
        """The last of 40 scopes would be cut, and with it what was changed."""
        scopes = tuple(f"resource-{number:02}:read" for number in range(39))
        networks = tuple(read_network(f"192.0.2.{number}") for number in range(64))
        before = replace(RECORD, scopes=(*scopes, "api-keys:read"), terms=KeyTerms(allow_from=networks[:-1]))
        after = replace(RECORD, scopes=(*scopes, "api-keys:*"), terms=KeyTerms(allow_from=networks))
        said = members(before, after)
        was, is_now = said["before"], said["after"]
        assert (was["scopes"][:2], is_now["scopes"][:2]) == (
            ["api-keys:read", "resource-00:read"],
            ["api-keys:*", "resource-00:read"],
        )
        assert was["scopes"][-1].endswith(" more")
        assert is_now["terms"]["allow_from"][:2] == ["192.0.2.63/32", "192.0.2.0/32"]
        assert was["terms"]["allow_from"][0] == "192.0.2.0/32"

    def test_of_a_long_text_is_there_if_only_its_end_differs(self) -> None:
        before, after = replace(RECORD, name=f"{'n' * 300}1"), replace(RECORD, name=f"{'n' * 300}2")
        cut = {"name": f"{'n' * MAX_TEXT}..."}
        assert members(before, after) == {"kind": "key_updated", "before": cut, "after": cut}

    def test_of_an_update_has_its_reason_also_once_the_oldest_is_gone_from_the_history(self) -> None:
        """A record that has all the updates that it keeps loses one with each further update."""
        record, years = RECORD, iter(range(2026, 2100))
        for number in range(MAX_UPDATES + 1):
            event = Event(instant(f"{next(years)}-02-01T00:00:00Z"), UPDATED, "cli:ann", f"reason {number}")
            before, record = record, updated(record, KeyUpdate(name=f"name {number}"), event)
        assert len(record.history) == len(before.history) == MAX_UPDATES
        assert members(before, record) == {
            "kind": "key_updated",
            "reason": f"reason {MAX_UPDATES}",
            "before": {"name": f"name {MAX_UPDATES - 1}"},
            "after": {"name": f"name {MAX_UPDATES}"},
        }

    def test_of_a_digest_that_became_known_says_only_that(self) -> None:
        bound = replace(PENDING, id=RECORD.id, owner=RECORD.owner).as_bound(RECORD.digest)
        assert members(replace(bound, digest=f"pending:{RECORD.id}"), bound) == {"kind": "key_bound"}

    def test_is_none_where_only_the_last_use_differs(self) -> None:
        assert entry_of(RECORD, RECORD.with_last_use(1.0), ANN) is None


class TestStore:
    async def test_every_change_of_a_key_leaves_one_entry_of_its_author(self, store: KeyStore) -> None:
        """The store writes the entry itself, so no way of changing a key can leave it out."""
        ann = store.acting_as(ANN)
        await ann.add(RECORD)
        await store.acting_as(Author("cli:bob", Way.IMPORT)).add_all([OTHER, PENDING])
        await store.bind_digest(PENDING.id, "d" * 64)
        successor = replace(OTHER, id=f"{OTHER.id[:-1]}9", digest="e" * 64, replaces=RECORD.id)
        rotated = Event(instant(AT), "rotated", "cli:ann", "yearly")
        await ann.revise(
            RECORD.id, lambda record: record.as_rotated(instant(AT), rotated), successor=successor
        )
        request = Author("master", Way.HTTP, request_id="r-1", client="192.0.2.1")
        await revoke_key(store.acting_as(request), RECORD.id, revocation(AT, "master"))
        (there,) = await store.get_many([RECORD.id])
        await store.acting_as(Author("cli:bob", Way.PRUNE)).remove_all([there])
        said = [
            (entry["kind"], entry["by"], entry["way"], entry["key_id"]) for entry in await entries_of(store)
        ]
        assert said == [
            ("key_created", "cli:ann", "cli", RECORD.id),
            ("key_created", "cli:bob", "import", OTHER.id),
            ("key_created", "cli:bob", "import", PENDING.id),
            ("key_bound", "gateway", "gateway", PENDING.id),
            ("key_rotated", "cli:ann", "cli", RECORD.id),
            ("key_created", "cli:ann", "cli", successor.id),
            ("key_revoked", "master", "http", RECORD.id),
            ("key_removed", "cli:bob", "prune", RECORD.id),
        ]
        (revoked,) = [entry for entry in await entries_of(store) if entry["kind"] == "key_revoked"]
        assert (revoked["request_id"], revoked["client"]) == ("r-1", "192.0.2.1")
        assert store.audited == {
            "key_created": 4, "key_bound": 1, "key_rotated": 1, "key_revoked": 1, "key_removed": 1,
        }  # fmt: skip

    async def test_what_changes_nothing_leaves_no_entry(self, store: KeyStore) -> None:
        await store.add(RECORD)
        await store.revise(RECORD.id, lambda record: record)
        await store.record_uses({RECORD.id: 1.0})
        await store.add_all([RECORD])
        await store.add_all([OTHER], dry_run=True)
        assert [entry["kind"] for entry in await entries_of(store)] == ["key_created"]

    async def test_the_changes_that_replicas_follow_say_what_was_done_and_by_whom(
        self, store: KeyStore
    ) -> None:
        position = await store.last_position()
        await store.acting_as(ANN).add(RECORD)
        await revoke_key(store, RECORD.id, revocation(AT, "master"))
        batch = await store.changes(position, 0.1)
        assert [(change.what, change.by, change.way) for change in batch.changes] == [
            ("key_created", "cli:ann", "cli"),
            ("key_revoked", THE_GATEWAY.by, "gateway"),
        ]


@pytest.mark.redis
class TestRedis:
    async def test_a_change_whose_entry_cannot_be_written_is_not_made(
        self, redis_store: RedisKeyStore
    ) -> None:
        """The entry and the change are one step: Redis refuses both, or makes both."""
        await redis_store.link.changes.set(AUDIT, b"no stream")
        with pytest.raises(Exception, match="Key store unavailable"):
            await redis_store.add(RECORD)
        assert await redis_store.get(RECORD.id) is None
        assert await redis_store.count_owned(RECORD.owner) == 0
