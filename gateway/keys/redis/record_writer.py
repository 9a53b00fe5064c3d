"""Changes to the records of keys in Redis or Valkey.

Rules kept here:
- A change is worked out from what is stored, and written only if that is still stored (`transactions`). So of
  two writers the second one sees what the first one wrote.
- A new key is refused if its id or its digest is taken, or if the key that creates it may not (`creator`).
- A record is changed only if it is that of the key: an id that leads elsewhere fails the change, and is never
  taken for that of an unknown key. `add_all` writes such an id again, and one that is missing, for a record
  that is found by its digest, or that comes with the digest of its key.
- A revocation that finds the key revoked writes the record once more if there are replicas: nobody may know
  yet whether they acknowledged it the first time. Replicas that have the latest write have those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Self

from gateway.audit.author import Author
from gateway.keys.command_times import CommandKind
from gateway.keys.creator import check_creator
from gateway.keys.minting import is_key_id
from gateway.keys.quota import NO_QUOTA, Quota
from gateway.keys.record import PENDING, KeyRecord, without_use
from gateway.keys.redis import names as names
from gateway.keys.redis.connection import RedisLink
from gateway.keys.redis.errors import misleading_index, redis_errors
from gateway.keys.redis.reading import read_all
from gateway.keys.redis.record_commands import RecordCommands
from gateway.keys.redis.script import Command, OwnerQuota
from gateway.keys.redis.transactions import Snapshot, Transactions
from gateway.keys.store import DuplicateKeyError, Revision


class RecordWriter:
    """Changes records over one link.

    Args:
        link: the connections.
        commands: makes what is written.
        replicas: the least number of Redis replicas that must acknowledge a write.
    """

    def __init__(self, link: RedisLink, commands: RecordCommands, replicas: int) -> None:
        self.link = link
        self.commands = commands
        self._transactions = Transactions(link, replicas)

    def acting_as(self, author: Author) -> Self:
        """Return the same writer, whose changes are those of this author in the audit stream."""
        writer = copy(self)
        writer.commands = self.commands.acting_as(author)
        return writer

    async def add(self, record: KeyRecord, quota: Quota = NO_QUOTA, *, terms_only: bool = False) -> None:
        """Store a new record; with `terms_only` the scopes of its creator are not compared.

        Raises:
            DuplicateKeyError: its digest or its id is taken.
            CreatorRevokedError: the key that created it is revoked or disabled.
            CreatorNarrowedError: that key, as it is stored, may not create it.
            QuotaError: its owner has as many keys as `quota` allows.
        """

        def plan(read: Snapshot) -> list[Command]:
            there, *creators = read.by_digest
            if there is not None or read.by_id != [None]:
                raise DuplicateKeyError(record.id)
            if read.misled:
                raise misleading_index(record.id)
            for creator in creators:
                if creator is not None and creator.id != record.created_by:
                    raise misleading_index(record.created_by)
                check_creator(creator, record, terms_only=terms_only)
            return self.commands.write([record], read.known)

        counted = OwnerQuota(record.owner, quota, record.created_at.unix) if quota.live else None
        async with self.link.command(CommandKind.CHANGE), self._transactions.adding():
            creator = await self._digest(record.created_by) if is_key_id(record.created_by) else None
            digests = [record.digest] if creator is None else [record.digest, creator]
            await self._transactions.run(plan, digests, [record.id], counted)

    async def revise(
        self, key_id: str, revision: Revision, *, successor: KeyRecord | None = None
    ) -> KeyRecord | None:
        """Change a record and return it; None for an unknown id. `successor` is added with it, or neither."""
        revising = _Revising(key_id, revision, successor)

        def plan(read: Snapshot) -> list[Command]:
            return self._write(read, revising.revise(read.by_digest[0]), rewrite_unacknowledged=True)

        async with self.link.command(CommandKind.CHANGE):
            asked, digest = None, await self._digest(key_id)
            while digest is not None and digest != asked:
                await self._transactions.run(plan, [digest])
                if revising.revised is not None:
                    break
                # A pending record moves once, to the digest of its key, and may have done so in between.
                asked, digest = digest, await self._digest(key_id)
        return revising.revised

    async def add_all(self, records: Sequence[KeyRecord], *, dry_run: bool = False) -> list[KeyRecord | None]:
        """Store what is new of a batch, all of it or nothing; return what was there in place of each."""
        there: list[KeyRecord | None] = []

        def plan(read: Snapshot) -> list[Command]:
            there[:] = [
                by_id or by_digest for by_digest, by_id in zip(read.by_digest, read.by_id, strict=True)
            ]
            new = [record for record, found in zip(records, there, strict=True) if found is None]
            for record in new:
                # The record that requests use may be under the digest of the key, which nobody knows here.
                if record.pending and record.id in read.misled:
                    raise misleading_index(record.id)
            if dry_run:
                return []
            unindexed = [
                found
                for record, found, by_id in zip(records, read.by_digest, read.by_id, strict=True)
                if found is not None and found.id == record.id and by_id is None
            ]
            return self._write(read, [*new, *unindexed], rewrite_unacknowledged=True)

        digests, ids = [record.digest for record in records], [record.id for record in records]
        async with self.link.command(CommandKind.CHANGE):
            await self._transactions.run(plan, digests, ids)
        return there

    async def remove_all(self, records: Sequence[KeyRecord]) -> list[KeyRecord]:
        """Remove the records of dead keys that are still as given, all or none, and return those."""
        given = {record.digest: without_use(record) for record in records}
        removed: list[KeyRecord] = []

        def plan(read: Snapshot) -> list[Command]:
            removed[:] = [
                record
                for record in read.by_id
                if record is not None and without_use(record) == given.get(record.digest)
            ]
            return self.commands.remove(removed)

        async with self.link.command(CommandKind.CHANGE):
            await self._transactions.run(plan, list(given), [record.id for record in records])
        return removed

    async def bind_digest(self, key_id: str, digest: str, *, moved: bool = False) -> KeyRecord | None:
        """Put a pending record under the digest of its key, unless that has a record."""

        def plan(read: Snapshot) -> list[Command]:
            pending, there = read.by_digest
            if pending is None or pending.id != key_id or there is not None:
                return []
            written = self.commands.write([pending.as_bound(digest)], read.known)
            return self.commands.replace(pending, written)

        async with self.link.command(CommandKind.CHANGE):
            before = await self._digest(key_id)
            if before is not None and before != digest and (moved or before.startswith(PENDING)):
                await self._transactions.run(plan, [before, digest])
            (stored,) = await read_all(self.link.changes, [digest])
        return stored

    async def take_lease(self, name: str, seconds: float) -> bool:
        """Take a name for so many seconds; it comes free by itself. Return False while somebody has it."""
        async with redis_errors():
            taken = await self.link.changes.set(
                names.lease_name(name), b"", nx=True, px=round(seconds * 1000)
            )
        return bool(taken)

    def _write(
        self, read: Snapshot, records: Sequence[KeyRecord], *, rewrite_unacknowledged: bool
    ) -> list[Command]:
        """Return what writes records; if there are none of them but replicas, the first one read again."""
        if not records and rewrite_unacknowledged and read.replicas:
            records = [record for record in read.by_digest if record is not None][:1]
        return self.commands.write(records, read.known) if records else []

    async def _digest(self, key_id: str) -> str | None:
        """Return the digest to which an id leads, None for an unknown one. Raises UnreadableRecordError."""
        found = await self.link.changes.get(names.id_name(key_id))
        if found is None:
            return None
        digest = names.read_text(found)
        if not names.is_digest(digest):
            raise misleading_index(key_id)
        return digest


@dataclass(slots=True)
class _Revising:
    """A revision under way, and the record that it came to when it was called last."""

    key_id: str
    revision: Revision
    successor: KeyRecord | None
    revised: KeyRecord | None = None

    def revise(self, stored: KeyRecord | None) -> list[KeyRecord]:
        """Return the records to write. Raises UnreadableRecordError for the record of another key."""
        if stored is not None and stored.id != self.key_id:
            raise misleading_index(self.key_id)
        self.revised = None if stored is None else self.revision(stored)
        if self.revised is None:
            return []
        return [
            record for record in (self.revised, self.successor) if record is not None and record != stored
        ]
