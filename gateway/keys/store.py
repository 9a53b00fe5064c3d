"""The protocol of a key store, and the store in memory.

Rules kept here:
- The record is authoritative; every change to it is also appended to one sequence of changes,
  which the caches of all replicas follow.
- A key that is revoked or disabled mints no further key: the store itself refuses the new record, so
  that once a key is revoked the set of keys that it minted is complete.
- An import never writes over a record that is there, and no quota holds for it: it is an operator's act. So
  is a rotation.
- A record is removed only once its key has ended, and only if it is what the caller has read.
- When a key was last used stands beside the records: it changes too often to be a change.
- Every failure of a store is `StoreUnavailableError`, with the reason as its cause; after an
  `UnacknowledgedError` the change stands, after an `UncertainError` it may.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, Protocol

from gateway.keys.errors import UnacknowledgedError, UncertainError
from gateway.keys.quota import NO_QUOTA, Quota
from gateway.keys.record import KeyRecord, RefusedRecordError

__all__ = [
    "CreatorRevokedError",
    "DuplicateKeyError",
    "KeyChange",
    "KeyChangeBatch",
    "KeyRecord",
    "KeyStore",
    "MemoryKeyStore",
    "RefusedRecordError",
    "Revision",
    "UnacknowledgedError",
    "UncertainError",
    "newest_first",
]

# Of an owner's list in memory: some 10 ms of work.
_SLICE: Final = 250

Revision = Callable[[KeyRecord], KeyRecord]
"""How a record is to change; the record itself for no change. May be called more than once."""


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One change to the record of a key, and whether the key is revoked after it.

    `at` is when this very change revoked it, in Unix seconds by the clock of the store; None if it did not.
    """

    digest: str
    key_id: str
    revoked: bool
    at: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class KeyChangeBatch:
    """Every change after a position, up to and including `position`.

    Not `continuous`: what happened since is not wholly known, because the sequence was cut short
    or is not the one that the position was taken from. Not `whole`: there may be more behind the position.
    """

    position: str
    changes: tuple[KeyChange, ...] = ()
    continuous: bool = True
    whole: bool = True


class DuplicateKeyError(RefusedRecordError):
    """A record with this digest, or with this id, is already stored."""


class CreatorRevokedError(RefusedRecordError):
    """The key that `created_by` names is revoked or disabled."""


class KeyStore(Protocol):
    """Where keys live. Any failure is `StoreUnavailableError`."""

    async def find(self, digest: str, client: str = "") -> KeyRecord | None:
        """The record of a key by its digest.

        With `client`, the address of whoever sent a key that is not known here, it is one look-up of a
        possible flood: bounded, and served by turns of the clients. Without, it waits for none of those.

        Raises:
            LookupOverloadError: too many clients ask at once.
        """

    async def get(self, key_id: str) -> KeyRecord | None:
        """The record of a key by its id."""

    async def get_all(self, key_ids: Sequence[str]) -> list[KeyRecord]:
        """The records of keys by their ids; those that are unknown are left out."""

    async def add(self, record: KeyRecord, quota: Quota = NO_QUOTA) -> None:
        """Store a new record.

        Raises:
            DuplicateKeyError: its digest or its id is known.
            DeadMinterError: it is minted by a key that is revoked or disabled.
            QuotaError: its owner has as many keys as `quota` allows, at the time when it was created.
        """

    async def revoke(
        self, key_id: str, at: str, by: str, reason: str = "", *, retiring: bool = False
    ) -> KeyRecord | None:
        """Revoke a key and return its record; None for an unknown id. Done when this returns.

        With `retiring`, it is among those of `retiring()` from then on.
        """

    async def children(self, key_id: str) -> list[KeyRecord]:
        """The records that a key created, and what it was rotated into, revoked ones included."""

    async def owned(self, owner: str) -> list[KeyRecord]:
        """The records of an owner, newest first, revoked ones included."""

    async def revise(
        self, key_id: str, revision: Revision, *, successor: KeyRecord | None = None
    ) -> KeyRecord | None:
        """Change a record and return it; None for an unknown id. `successor` is added with it, or neither.

        Raises:
            RefusedRecordError: `revision` did.
        """

    def every(self) -> AsyncIterator[list[KeyRecord]]:
        """All records, in batches and in no order."""

    async def add_all(self, records: Sequence[KeyRecord], *, dry_run: bool = False) -> list[KeyRecord | None]:
        """Store what is new of a batch, all of it or nothing; nothing with `dry_run`.

        Returns for each record the one that is already there under its id or its digest, untouched;
        None if it is new.
        """

    async def kept(self, owner: str) -> int:
        """How many records of an owner there are, dead keys included."""

    async def remove_all(self, records: Sequence[KeyRecord]) -> list[KeyRecord]:
        """Remove the records of dead keys that are still as given, and return those.

        Their keys are unknown from then on. A last use is no difference.
        """

    async def prefixed(self, prefix: str, client: str = "") -> list[KeyRecord]:
        """The records that were pending at first, of keys that begin with `prefix`; `client` as in `find`."""

    async def settle(self, key_id: str, digest: str, *, moved: bool = False) -> KeyRecord | None:
        """Put a pending record under the digest of its key, as it stands then: a revocation stays.

        With `moved`, also a record that stands under the digest of a key which it is no longer of.
        Returns what is stored under the digest afterwards: a record that was there before wins.
        """

    async def retiring(self, until: float = float("inf")) -> list[KeyRecord]:
        """The records of keys that Core is still to revoke, revoked or ended by `until` (Unix seconds)."""

    async def lease(self, name: str, seconds: float) -> bool:
        """Take a name for so many seconds, for the one who is told True; False while somebody has it."""

    async def used(self, times: Mapping[str, float]) -> None:
        """Note when keys, by id, were last used (Unix seconds); an earlier time than is known is ignored."""

    async def last_used(self, key_ids: Sequence[str]) -> list[float]:
        """When each key was last used, in Unix seconds; 0 for never."""

    async def empty(self) -> bool:
        """Whether no key was ever stored."""

    async def ping(self) -> None:
        """Return if the store answers."""

    async def last_position(self) -> str:
        """Where the sequence of changes ends now."""

    async def changes(self, after: str, wait: float) -> KeyChangeBatch:
        """The changes after a position; waits up to `wait` seconds for the first one."""

    async def close(self) -> None:
        """Let go of every connection."""


def newest_first(record: KeyRecord) -> tuple[float, str]:
    """The sort key, for `reverse=True`, of an owner's list: creation, then digest."""
    return record.created.unix, record.digest


class MemoryKeyStore:
    """Keys of this process alone, gone with it: for trials, the demo and tests."""

    def __init__(self, *, changes_kept: int = 10_000) -> None:
        self._records: dict[str, KeyRecord] = {}
        self._digests: dict[str, str] = {}
        # Of each owner: when its keys end, by digest.
        self._ends: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._used: dict[str, float] = {}
        self._leases: dict[str, float] = {}
        self._changes: deque[KeyChange] = deque(maxlen=changes_kept)
        self._position = 0
        self._changed = asyncio.Event()

    async def find(self, digest: str, client: str = "") -> KeyRecord | None:
        """The record of a key by its digest."""
        return self._records.get(digest)

    async def get(self, key_id: str) -> KeyRecord | None:
        """The record of a key by its id."""
        record = self._stored(key_id)
        return None if record is None else self._with_use(record)

    async def get_all(self, key_ids: Sequence[str]) -> list[KeyRecord]:
        """The records of keys by their ids; those that are unknown are left out."""
        stored = map(self._stored, key_ids)
        return [self._with_use(record) for record in stored if record is not None]

    async def add(self, record: KeyRecord, quota: Quota = NO_QUOTA) -> None:
        """Store a new record; raises `DuplicateKeyError`, `CreatorRevokedError` or `QuotaError`."""
        if record.digest in self._records or record.id in self._digests:
            raise DuplicateKeyError(record.id)
        minter = self._stored(record.created_by)
        if minter is not None and (minter.revoked or minter.disabled):
            raise CreatorRevokedError(record.id)
        if quota is not NO_QUOTA:
            ends, now = self._ends.get(record.owner, {}).values(), record.created.unix
            quota.check_records(len(ends))
            quota.check_live(sum(end > now for end in ends))
        self._write(record)

    async def revoke(
        self, key_id: str, at: str, by: str, reason: str = "", *, retiring: bool = False
    ) -> KeyRecord | None:
        """Revoke a key and return its record; None for an unknown id."""
        return await self.revise(key_id, lambda record: record.revoke(at, by, reason, retiring=retiring))

    async def revise(
        self, key_id: str, revision: Revision, *, successor: KeyRecord | None = None
    ) -> KeyRecord | None:
        """Change a record and return it; None for an unknown id."""
        record = self._stored(key_id)
        if record is None:
            return None
        revised = revision(record)
        if revised != record:
            self._write(revised)
        if successor is not None:
            self._write(successor)
        return revised

    async def children(self, key_id: str) -> list[KeyRecord]:
        """The records that a key created, and what it was rotated into, revoked ones included."""
        return [record for record in self._records.values() if key_id in (record.created_by, record.replaces)]

    async def owned(self, owner: str) -> list[KeyRecord]:
        """The records of an owner, newest first, revoked ones included."""
        owned = []
        for record in [self._records[digest] for digest in self._ends.get(owner, {})]:
            owned.append((newest_first(record), self._with_use(record)))
            if len(owned) % _SLICE == 0:
                await asyncio.sleep(0)
        return [record for _, record in sorted(owned, key=itemgetter(0), reverse=True)]

    async def every(self) -> AsyncIterator[list[KeyRecord]]:
        """All records, in one batch."""
        yield [self._with_use(record) for record in self._records.values()]

    async def add_all(self, records: Sequence[KeyRecord], *, dry_run: bool = False) -> list[KeyRecord | None]:
        """Store what is new of a batch; returns what was there instead of each."""
        found = [self._stored(record.id) or self._records.get(record.digest) for record in records]
        for record, there in zip(records, found, strict=True):
            if there is None and not dry_run:
                self._write(record)
        return found

    async def kept(self, owner: str) -> int:
        """How many records of an owner there are."""
        return len(self._ends.get(owner, {}))

    async def remove_all(self, records: Sequence[KeyRecord]) -> list[KeyRecord]:
        """Remove the records that are still as given, and return those."""
        found = [(record, self._stored(record.id)) for record in records]
        removed = [there for given, there in found if there is not None and there.unused == given.unused]
        for record in removed:
            self._erase(record)
            del self._digests[record.id]
            self._used.pop(record.id, None)
            self._tell(record)
        return removed

    async def prefixed(self, prefix: str, client: str = "") -> list[KeyRecord]:
        """The records that were pending at first, of keys that begin with `prefix`."""
        return [record for record in self._records.values() if record.prefix == prefix]

    async def settle(self, key_id: str, digest: str, *, moved: bool = False) -> KeyRecord | None:
        """Put a pending record under the digest of its key, unless that has a record."""
        record = self._stored(key_id)
        if record is not None and (record.pending or moved) and digest not in self._records:
            self._erase(record)
            self._write(record.settle(digest))
        return self._records.get(digest)

    async def retiring(self, until: float = float("inf")) -> list[KeyRecord]:
        """The records of keys that Core is still to revoke."""
        return [record for record in self._records.values() if record.retiring and record.ends <= until]

    async def lease(self, name: str, seconds: float) -> bool:
        """Take a name for so many seconds."""
        now = asyncio.get_running_loop().time()
        if now < self._leases.get(name, now):
            return False
        self._leases[name] = now + seconds
        return True

    async def used(self, times: Mapping[str, float]) -> None:
        """Note when keys were last used."""
        for key_id, at in times.items():
            self._used[key_id] = max(at, self._used.get(key_id, 0.0))

    async def last_used(self, key_ids: Sequence[str]) -> list[float]:
        """When each key was last used, in Unix seconds; 0 for never."""
        return [self._used.get(key_id, 0.0) for key_id in key_ids]

    async def empty(self) -> bool:
        """Whether no key was ever stored."""
        return not self._records

    async def ping(self) -> None:
        """Memory always answers."""

    async def last_position(self) -> str:
        """The number of changes so far."""
        return str(self._position)

    async def changes(self, after: str, wait: float) -> KeyChangeBatch:
        """The changes after a position; waits up to `wait` seconds for the first one."""
        if int(after) == self._position:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()
        missed = self._position - int(after)
        kept = tuple(self._changes)
        continuous = 0 <= missed <= len(kept)
        return KeyChangeBatch(str(self._position), kept[-missed:] if missed > 0 else (), continuous)

    async def close(self) -> None:
        """Nothing to let go of."""

    def _stored(self, key_id: str) -> KeyRecord | None:
        return self._records.get(self._digests.get(key_id, ""))

    def _with_use(self, record: KeyRecord) -> KeyRecord:
        return record.used(self._used.get(record.id, 0.0))

    def _erase(self, record: KeyRecord) -> None:
        del self._records[record.digest]
        self._ends[record.owner].pop(record.digest, None)

    def _write(self, record: KeyRecord) -> None:
        before = self._records.get(record.digest)
        if before is not None:
            self._ends[before.owner].pop(before.digest, None)
        self._records[record.digest] = record
        self._digests[record.id] = record.digest
        self._ends[record.owner][record.digest] = record.ends
        self._tell(record)

    def _tell(self, record: KeyRecord) -> None:
        self._changes.append(KeyChange(record.digest, record.id, record.revoked))
        self._position += 1
        self._changed.set()
        self._changed = asyncio.Event()
