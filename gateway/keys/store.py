"""The protocols of a key store, one for each kind of user.

Rules kept here:
- The record is authoritative. Every change to it is also appended to one sequence of changes, which the
  caches of all replicas follow.
- A key that is revoked or disabled creates no further key: the store itself refuses the new record. So once
  a key is revoked, the set of keys that it created is complete. Nor does a key create one that has more than
  itself, as it is stored by then.
- An import never overwrites a record that is there, and no quota applies to it: it is an operator's act.
  The same is true of a rotation.
- A record is removed only once its key has ended, and only if it still is what the caller has read.
- A record that cannot be read, such as one of a newer version, fails what needs that record. A list of many
  keys leaves it out instead, if the store was given a `LeftOut` that takes note of it.
- The last use of a key is kept beside the records: it changes too often to count as a change.
- Every change to a record has an entry in the audit stream, which is written with it or not at all.
- Every failure of a store is `StoreUnavailableError`, with the reason as its cause. After an
  `UnacknowledgedError` the change stands; after an `UncertainError` it may stand.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from gateway.audit import AuditEntry, Author
from gateway.audit.shipping import Unshipped
from gateway.keys.command_times import StoreTimes
from gateway.keys.leases import TokenLeases
from gateway.keys.quota import NO_QUOTA, Quota
from gateway.keys.record import KeyRecord, RefusedRecordError


@dataclass(frozen=True, slots=True)
class UnreadableKey:
    """A key whose record cannot be read: its id, "" if not even that can be, and the reason for operators."""

    key_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class FoundKeys:
    """The records of keys by id, and the ids of those whose records are there and cannot be read.

    A key that is in neither is unknown.
    """

    records: Mapping[str, KeyRecord]
    unreadable: frozenset[str] = frozenset()


LeftOut = Callable[[UnreadableKey], None]
"""Takes note of a key that a list leaves out, because its record cannot be read."""
Revision = Callable[[KeyRecord], KeyRecord]
"""Returns a record as it is to be; the same record for no change. May be called more than once."""


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One change to the record of a key, and whether the key is revoked after it.

    `at` is when this very change revoked it, in Unix seconds by the clock of the store; None if it did not.
    `what`, `by` and `way` are as in its audit entry; "" if there is none.
    """

    digest: str
    key_id: str
    revoked: bool
    at: float | None = field(default=None, compare=False)
    what: str = field(default="", compare=False)
    by: str = field(default="", compare=False)
    way: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class KeyChangeBatch:
    """Every change after a position, up to and including `position`.

    Not `continuous`: some changes since are not known, because the sequence was cut short, or is not the one
    that the position was taken from. Not `whole`: there may be more behind the position.
    """

    position: str
    changes: tuple[KeyChange, ...] = ()
    continuous: bool = True
    whole: bool = True


class DuplicateKeyError(RefusedRecordError):
    """A record with this digest, or with this id, is already stored."""


class CreatorRevokedError(RefusedRecordError):
    """The key that `created_by` names is revoked or disabled."""


class CreatorNarrowedError(RefusedRecordError):
    """The key that `created_by` names was changed: it may not create this record any more."""


class ActingStore(Protocol):
    """Makes changes, each as the change of somebody."""

    def acting_as(self, author: Author) -> Self:
        """Return the same store, whose changes are those of this author in the audit stream."""


class KeysById(Protocol):
    """Returns the record of a key by its id."""

    async def get(self, key_id: str) -> KeyRecord | None:
        """Return the record of a key by its id; None if it is unknown. Raises GatewayError."""


class KeysByDigest(Protocol):
    """Returns the record of a key by its digest."""

    async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
        """Return the record of a key by its digest; None if it is unknown.

        With `client`, the address that sent a key which is not known here, this is one look-up of a possible
        flood: it is bounded, and the clients take turns. Without, it waits for none of those.

        Raises:
            LookupOverloadError: too many clients ask at once.
        """


class KeysByPrefix(Protocol):
    """Finds the records of keys that came from Core's table."""

    async def get_by_prefix(self, prefix: str, client: str = "") -> list[KeyRecord]:
        """Return the records that were pending at first, of keys that begin with `prefix`.

        `client` is as in `KeysByDigest.get_by_digest`.
        """


class ManyKeysById(Protocol):
    """Returns the records of many keys by their ids."""

    async def get_many(self, key_ids: Sequence[str]) -> list[KeyRecord]:
        """Return the records of keys by their ids, in this order; those that are unknown are left out."""


class FoundById(Protocol):
    """Tells unknown keys from those whose records cannot be read."""

    async def find_many(self, key_ids: Sequence[str]) -> FoundKeys:
        """Return the records of keys by their ids, and which of them cannot be read."""


class KeysOfOwner(Protocol):
    """Lists and counts the keys of an owner."""

    async def owned(self, owner: str) -> list[KeyRecord]:
        """Return the records of an owner, newest first, revoked ones included."""

    async def count_owned(self, owner: str) -> int:
        """Return how many records of an owner there are, those of dead keys included."""


class KeyChildren(Protocol):
    """Finds the keys that descend from a key."""

    async def children(self, key_id: str) -> list[KeyRecord]:
        """Return the records that a key created, and its successors, revoked ones included."""


class RecordReader(
    KeysById, KeysByDigest, KeysByPrefix, ManyKeysById, FoundById, KeysOfOwner, KeyChildren, Protocol
):
    """Everything that can be read of records."""

    def scan(self, left_out: LeftOut | None = None) -> AsyncIterator[list[KeyRecord]]:
        """Return all records, in batches and in no order.

        `left_out` takes note of what cannot be read, beside the one that the store was given.
        """


class RecordReviser(Protocol):
    """Changes a record."""

    async def revise(
        self, key_id: str, revision: Revision, *, successor: KeyRecord | None = None
    ) -> KeyRecord | None:
        """Change a record and return it; None for an unknown id. Done when this returns.

        `successor` is added in the same step: both are stored, or neither.

        Raises:
            RefusedRecordError: `revision` did.
        """


class RecordAdder(Protocol):
    """Stores new records."""

    async def add(self, record: KeyRecord, quota: Quota = NO_QUOTA, *, terms_only: bool = False) -> None:
        """Store a new record.

        With `terms_only` the scopes of the key that created it are not compared: Core's table has them.

        Raises:
            DuplicateKeyError: its digest or its id is known.
            CreatorRevokedError: the key that created it is revoked or disabled.
            CreatorNarrowedError: that key, as it is stored, may not create it.
            QuotaError: its owner has as many keys as `quota` allows, at the time when it was created.
        """


class BatchAdder(Protocol):
    """Stores many new records."""

    async def add_all(self, records: Sequence[KeyRecord], *, dry_run: bool = False) -> list[KeyRecord | None]:
        """Store what is new of a batch, all of it or nothing; nothing with `dry_run`.

        Returns for each record the one that is already stored under its id or its digest, which stays
        untouched; None if it is new.
        """


class RecordRemover(ManyKeysById, Protocol):
    """Removes records of keys that ended long ago."""

    async def remove_all(self, records: Sequence[KeyRecord]) -> list[KeyRecord]:
        """Remove the records of dead keys that still are as given, and return those.

        Their keys are unknown from then on. Another last use is no difference.
        """


class DigestBinder(Protocol):
    """Puts pending records under the digests of their keys."""

    async def bind_digest(self, key_id: str, digest: str, *, moved: bool = False) -> KeyRecord | None:
        """Put a pending record under the digest of its key, as the record is then: a revocation stays.

        With `moved`, do so with a record under the digest of a key that it no longer belongs to, too.
        Returns what is stored under the digest afterwards: a record that was there before stays.
        """


class PendingRecords(KeysByPrefix, DigestBinder, Protocol):
    """Finds pending records by prefix, and puts them under the digests of their keys."""


class CoreRevocationQueue(Protocol):
    """Lists the keys whose rows in Core are still to be revoked."""

    async def awaiting_core_revocation(self, until: float = float("inf")) -> list[KeyRecord]:
        """Return the records of keys that await it, and were revoked or ended by `until` (Unix seconds)."""

    async def take_lease(self, name: str, seconds: float) -> bool:
        """Take a name for so many seconds; False while somebody else has it."""


class UsageStore(Protocol):
    """Keeps when keys were last used; a failure is a GatewayError."""

    async def record_uses(self, times: Mapping[str, float]) -> None:
        """Store when keys, by id, were last used (Unix seconds); a time before the stored one is ignored."""


class ChangeFeed(Protocol):
    """The sequence of changes."""

    async def last_position(self) -> str:
        """Return the position at which the sequence of changes ends now."""

    async def changes(self, after: str, wait: float) -> KeyChangeBatch:
        """Return the changes after a position; wait up to `wait` seconds for the first one."""


class CachedStore(KeysByDigest, ChangeFeed, Protocol):
    """The part of a store that a cache asks and follows."""


class KeyEnds(Protocol):
    """Counts keys by when they end."""

    def count_ends(self, after: float, until: float) -> AsyncIterator[int]:
        """Yield in small steps how many keys end in this time (Unix seconds): each step counts others."""


class StoreHealth(Protocol):
    """Tells operators about the store itself."""

    @property
    def times(self) -> StoreTimes:
        """The times and failures of its commands."""

    @property
    def shared(self) -> bool:
        """True if other replicas can use the store, and a restart keeps it."""

    async def ping(self) -> None:
        """Return if the store responds."""

    async def is_empty(self) -> bool:
        """Return True if no key was ever stored."""

    async def warnings(self) -> tuple[str, ...]:
        """Return why keys may be lost in this store, a sentence for each reason; empty if there is none."""

    async def memory_ratio(self) -> float | None:
        """Return the part of its bound on memory that the store uses; None without a bound."""


class AuditStream(Protocol):
    """The audit stream, beside the entries that changes of keys write."""

    @property
    def audited(self) -> Mapping[str, int]:
        """The number of entries that this process has written, by kind."""

    async def append_entries(self, entries: Sequence[AuditEntry]) -> None:
        """Append entries in this order. After a failure they may have been appended."""

    async def unshipped(self) -> Unshipped:
        """Return what the slowest shipper has not printed yet."""


class SharedAuditStream(Protocol):
    """The audit stream, for what several replicas see."""

    async def append_once(self, entries: Mapping[str, AuditEntry], seconds: float) -> None:
        """Append those whose names nobody took in the last so many seconds, and take the names."""


class LatestEntries(Protocol):
    """Reads the end of the audit stream."""

    async def latest_entries(self, most: int) -> Sequence[AuditEntry]:
        """Return the last entries, the newest first. Raises GatewayError."""


class KeyStore(
    ActingStore,
    AuditStream,
    SharedAuditStream,
    LatestEntries,
    RecordReader,
    RecordReviser,
    RecordAdder,
    BatchAdder,
    RecordRemover,
    PendingRecords,
    CoreRevocationQueue,
    UsageStore,
    CachedStore,
    KeyEnds,
    StoreHealth,
    Protocol,
):
    """A whole store, for whoever opens one and closes it.

    Attributes:
        token_leases: shares the limits of keys; None if no other replica can use the store.
    """

    token_leases: TokenLeases | None

    async def close(self) -> None:
        """Close every connection."""


def newest_first(record: KeyRecord) -> tuple[float, str]:
    """Return the sort key, for `reverse=True`, of an owner's list: creation, then digest."""
    return record.created_at.unix, record.digest
