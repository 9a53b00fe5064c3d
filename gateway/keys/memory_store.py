"""The key store in the memory of this process, for trials, the demo and tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from operator import itemgetter
from typing import Final, Self

import msgspec

from gateway.audit import THE_GATEWAY, AuditEntry, Author
from gateway.audit.shipping import AUDIT_KEPT, Unshipped
from gateway.gocompat.times import Instant
from gateway.keys.audit import entry_of
from gateway.keys.command_times import StoreTimes
from gateway.keys.creator import check_creator
from gateway.keys.leases import TokenLeases
from gateway.keys.quota import NO_QUOTA, Quota
from gateway.keys.record import KeyRecord, without_use
from gateway.keys.store import (
    DuplicateKeyError,
    FoundKeys,
    KeyChange,
    KeyChangeBatch,
    LeftOut,
    Revision,
    newest_first,
)

# Of an owner's list: some 10 ms of work.
_SLICE: Final = 250


class _RecordTable:
    """Records by digest, with an index by id and one by owner."""

    def __init__(self) -> None:
        self._records: dict[str, KeyRecord] = {}
        self._digests: dict[str, str] = {}
        # Of each owner: when its keys end, by digest.
        self._ends: defaultdict[str, dict[str, float]] = defaultdict(dict)

    def __iter__(self) -> Iterator[KeyRecord]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def by_digest(self, digest: str) -> KeyRecord | None:
        return self._records.get(digest)

    def by_id(self, key_id: str) -> KeyRecord | None:
        return self._records.get(self._digests.get(key_id, ""))

    def of_owner(self, owner: str) -> list[KeyRecord]:
        return [self._records[digest] for digest in self._ends.get(owner, {})]

    def ends_of_owner(self, owner: str) -> Collection[float]:
        """Return when the keys of an owner end, in Unix seconds."""
        return self._ends.get(owner, {}).values()

    def put(self, record: KeyRecord) -> None:
        before = self._records.get(record.digest)
        if before is not None:
            self._ends[before.owner].pop(before.digest, None)
        self._records[record.digest] = record
        self._digests[record.id] = record.digest
        self._ends[record.owner][record.digest] = record.ends

    def take_out(self, record: KeyRecord) -> None:
        """Remove a record; its id may be put again under another digest."""
        del self._records[record.digest]
        del self._digests[record.id]
        self._ends[record.owner].pop(record.digest, None)


class _Changes:
    """The last changes, and how many there were."""

    def __init__(self, kept: int) -> None:
        self._changes: deque[KeyChange] = deque(maxlen=kept)
        self._position = 0
        self._changed = asyncio.Event()

    def append(self, record: KeyRecord, audited: AuditEntry | None) -> None:
        change = KeyChange(record.digest, record.id, record.revoked)
        if audited is not None:
            change = replace(change, what=audited.kind, by=audited.by, way=audited.way)
        self._changes.append(change)
        self._position += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def last_position(self) -> str:
        """Return the number of changes so far."""
        return str(self._position)

    async def after(self, position: str, wait: float) -> KeyChangeBatch:
        """Return the changes after a position; wait up to `wait` seconds for the first one."""
        if int(position) == self._position:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()
        missed = self._position - int(position)
        kept = tuple(self._changes)
        continuous = 0 <= missed <= len(kept)
        return KeyChangeBatch(str(self._position), kept[-missed:] if missed > 0 else (), continuous)


class _AuditRing:
    """The last entries of the audit stream, with the time at which each was appended."""

    def __init__(self, kept: Callable[[], int], now: Callable[[], datetime]) -> None:
        self._kept = kept
        self._now = now
        self._entries: deque[AuditEntry] = deque()
        self.counts: Counter[str] = Counter()

    def append(self, entry: AuditEntry) -> None:
        at = entry.at or str(Instant.of(self._now()))
        self._entries.append(msgspec.structs.replace(entry, at=at))
        self.counts[entry.kind] += 1
        while len(self._entries) > self._kept():
            self._entries.popleft()

    def entries(self) -> tuple[AuditEntry, ...]:
        return tuple(self._entries)

    def latest(self, most: int) -> list[AuditEntry]:
        return list(islice(reversed(self._entries), most))


class _LastUses:
    """The last use of each key, by its id (Unix seconds)."""

    def __init__(self) -> None:
        self._times: dict[str, float] = {}

    def add(self, times: Mapping[str, float]) -> None:
        for key_id, at in times.items():
            self._times[key_id] = max(at, self._times.get(key_id, 0.0))

    def forget(self, key_id: str) -> None:
        self._times.pop(key_id, None)

    def with_last_use(self, record: KeyRecord) -> KeyRecord:
        return record.with_last_use(self._times.get(record.id, 0.0))


class _MemoryReader:
    """Reads the records."""

    _table: _RecordTable
    _uses: _LastUses

    async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
        """Return the record of a key by its digest."""
        return self._table.by_digest(digest)

    async def get(self, key_id: str) -> KeyRecord | None:
        """Return the record of a key by its id."""
        record = self._table.by_id(key_id)
        return None if record is None else self._uses.with_last_use(record)

    async def get_many(self, key_ids: Sequence[str]) -> list[KeyRecord]:
        """Return the records of keys by their ids; those that are unknown are left out."""
        stored = map(self._table.by_id, key_ids)
        return [self._uses.with_last_use(record) for record in stored if record is not None]

    async def find_many(self, key_ids: Sequence[str]) -> FoundKeys:
        """Return the same by id; every record can be read."""
        return FoundKeys({record.id: record for record in await self.get_many(key_ids)})

    async def get_by_prefix(self, prefix: str, client: str = "") -> list[KeyRecord]:
        """Return the records that were pending at first, of keys that begin with `prefix`."""
        return [record for record in self._table if record.prefix == prefix]

    async def children(self, key_id: str) -> list[KeyRecord]:
        """Return the records that a key created, and its successors, revoked ones included."""
        return [record for record in self._table if key_id in (record.created_by, record.replaces)]

    async def owned(self, owner: str) -> list[KeyRecord]:
        """Return the records of an owner, newest first, revoked ones included."""
        owned = []
        for record in self._table.of_owner(owner):
            owned.append((newest_first(record), self._uses.with_last_use(record)))
            if len(owned) % _SLICE == 0:
                await asyncio.sleep(0)
        return [record for _, record in sorted(owned, key=itemgetter(0), reverse=True)]

    async def count_owned(self, owner: str) -> int:
        """Return how many records of an owner there are."""
        return len(self._table.ends_of_owner(owner))

    async def count_ends(self, after: float, until: float) -> AsyncIterator[int]:
        """Yield how many keys end in this time (Unix seconds), in one step."""
        yield sum(after <= record.ends <= until for record in self._table)

    async def scan(self, left_out: LeftOut | None = None) -> AsyncIterator[list[KeyRecord]]:
        """Return all records, in one batch; every one can be read."""
        yield [self._uses.with_last_use(record) for record in self._table]

    async def awaiting_core_revocation(self, until: float = float("inf")) -> list[KeyRecord]:
        """Return the records of keys whose rows in Core are still to be revoked."""
        return [record for record in self._table if record.awaiting_core_revocation and record.ends <= until]


class _MemoryWriter:
    """Changes the records."""

    _table: _RecordTable
    _changes: _Changes
    _uses: _LastUses
    _audit: _AuditRing
    author: Author

    async def add(self, record: KeyRecord, quota: Quota = NO_QUOTA, *, terms_only: bool = False) -> None:
        """Store a new record; raises `DuplicateKeyError`, `QuotaError`, or what `check_creator` does."""
        if self._table.by_digest(record.digest) or self._table.by_id(record.id):
            raise DuplicateKeyError(record.id)
        check_creator(self._table.by_id(record.created_by), record, terms_only=terms_only)
        if quota is not NO_QUOTA:
            ends, now = self._table.ends_of_owner(record.owner), record.created_at.unix
            quota.check_records(len(ends))
            quota.check_live(sum(end > now for end in ends))
        self._write(record)

    async def revise(
        self, key_id: str, revision: Revision, *, successor: KeyRecord | None = None
    ) -> KeyRecord | None:
        """Change a record and return it; None for an unknown id."""
        record = self._table.by_id(key_id)
        if record is None:
            return None
        revised = revision(record)
        if revised != record:
            self._write(revised, record)
        if successor is not None:
            self._write(successor)
        return revised

    async def add_all(self, records: Sequence[KeyRecord], *, dry_run: bool = False) -> list[KeyRecord | None]:
        """Store what is new of a batch; return what was there instead of each."""
        found = [self._table.by_id(record.id) or self._table.by_digest(record.digest) for record in records]
        for record, there in zip(records, found, strict=True):
            if there is None and not dry_run:
                self._write(record)
        return found

    async def remove_all(self, records: Sequence[KeyRecord]) -> list[KeyRecord]:
        """Remove the records that still are as given, and return those."""
        found = [(record, self._table.by_id(record.id)) for record in records]
        removed = [
            there for given, there in found if there is not None and without_use(there) == without_use(given)
        ]
        for record in removed:
            self._table.take_out(record)
            self._uses.forget(record.id)
            self._note(record, record, None)
        return removed

    async def bind_digest(self, key_id: str, digest: str, *, moved: bool = False) -> KeyRecord | None:
        """Put a pending record under the digest of its key, unless that has a record."""
        record = self._table.by_id(key_id)
        if record is not None and (record.pending or moved) and self._table.by_digest(digest) is None:
            self._table.take_out(record)
            self._write(record.as_bound(digest), record)
        return self._table.by_digest(digest)

    def _write(self, record: KeyRecord, before: KeyRecord | None = None) -> None:
        self._table.put(record)
        self._note(record, before, record)

    def _note(self, record: KeyRecord, before: KeyRecord | None, after: KeyRecord | None) -> None:
        """Append the change of a record to both streams."""
        audited = entry_of(before, after, self.author)
        self._changes.append(record, audited)
        if audited is not None:
            self._audit.append(audited)


class MemoryKeyStore(_MemoryReader, _MemoryWriter):
    """Keys of this process alone, lost when it ends; no time of a command is counted.

    Args:
        changes_kept: how many changes are kept.
        audit_kept: returns how many entries of the audit stream are kept.
        now: the time, aware and in UTC, of these entries.
        author: makes the changes, unless `acting_as` names another.
    """

    shared: Final = False

    def __init__(
        self,
        *,
        changes_kept: int = 10_000,
        audit_kept: Callable[[], int] = lambda: AUDIT_KEPT,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        author: Author = THE_GATEWAY,
    ) -> None:
        self._table = _RecordTable()
        self._changes = _Changes(changes_kept)
        self._uses = _LastUses()
        self._leases: dict[str, float] = {}
        self.times = StoreTimes()
        self._audit = _AuditRing(audit_kept, now)
        self.author = author
        self.token_leases: TokenLeases | None = None

    def acting_as(self, author: Author) -> Self:
        """Return the same store, whose changes are those of this author."""
        store = copy(self)
        store.author = author
        return store

    @property
    def audited(self) -> Mapping[str, int]:
        """The number of entries of the audit stream by kind."""
        return self._audit.counts

    @property
    def audit_entries(self) -> tuple[AuditEntry, ...]:
        """The entries of the audit stream that are kept, oldest first."""
        return self._audit.entries()

    async def latest_entries(self, most: int) -> Sequence[AuditEntry]:
        """Return the last entries, the newest first."""
        return self._audit.latest(most)

    async def append_entries(self, entries: Sequence[AuditEntry]) -> None:
        """Append entries to the audit stream."""
        for entry in entries:
            self._audit.append(entry)

    async def append_once(self, entries: Mapping[str, AuditEntry], seconds: float) -> None:
        """Append the entries whose names nobody has taken, and take each name."""
        for name, entry in entries.items():
            if await self.take_lease(name, seconds):
                self._audit.append(entry)

    async def unshipped(self) -> Unshipped:
        """Return that nothing is to be shipped: no other process can read these entries."""
        return Unshipped("", 0, None)

    async def take_lease(self, name: str, seconds: float) -> bool:
        """Take a name for so many seconds."""
        now = asyncio.get_running_loop().time()
        if now < self._leases.get(name, now):
            return False
        self._leases[name] = now + seconds
        return True

    async def record_uses(self, times: Mapping[str, float]) -> None:
        """Store when keys were last used."""
        self._uses.add(times)

    async def last_position(self) -> str:
        """Return the number of changes so far."""
        return await self._changes.last_position()

    async def changes(self, after: str, wait: float) -> KeyChangeBatch:
        """Return the changes after a position; wait up to `wait` seconds for the first one."""
        return await self._changes.after(after, wait)

    async def is_empty(self) -> bool:
        """Return whether no key was ever stored."""
        return not len(self._table)

    async def ping(self) -> None:
        """Return: memory always responds."""

    async def warnings(self) -> tuple[str, ...]:
        """Return no warnings."""
        return ()

    async def memory_ratio(self) -> float | None:
        """Return None: there is no bound."""
        return None

    async def close(self) -> None:
        """Close nothing."""
