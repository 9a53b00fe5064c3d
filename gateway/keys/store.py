"""What the gateway keeps of a key, the protocol of a key store, and the store in memory.

Rules kept here:
- The record is authoritative; every change to it is also appended to one sequence of changes,
  which the caches of all replicas follow.
- A revocation is final: revoking again changes nothing, not even its time.
- Every failure of a store is `GatewayError(KEY_STORE_UNAVAILABLE)`, with the reason as its cause.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, replace
from typing import Protocol

from gateway.keys.instants import ZERO, Instant, read_instant
from gateway.policy.principals import ApiKey


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A key as it is stored, for ever; times are RFC 3339 as Core would write them.

    `created_by` and `revoked_by` name who did it: a key id, or `master`.

    Raises:
        ValueError: `expires_at` or `created_at` is not RFC 3339.
    """

    id: str
    digest: str
    name: str
    owner: str
    scopes: tuple[str, ...]
    expires_at: str
    created_at: str
    created_by: str
    last_used_at: str = ZERO
    revoked_at: str | None = None
    revoked_by: str = ""

    def __post_init__(self) -> None:
        for text in (self.expires_at, self.created_at):
            read_instant(text.encode())

    @property
    def created(self) -> Instant:
        """When it was created."""
        return read_instant(self.created_at.encode())

    def principal(self) -> ApiKey:
        """Whom a request with this key comes from."""
        return ApiKey(
            id=self.id,
            owner=self.owner,
            scopes=self.scopes,
            expires_at=read_instant(self.expires_at.encode()).unix,
            revoked=self.revoked_at is not None,
        )

    def revoke(self, at: str, by: str) -> KeyRecord:
        """This record revoked; itself if it already was."""
        return self if self.revoked_at is not None else replace(self, revoked_at=at, revoked_by=by)


@dataclass(frozen=True, slots=True)
class Change:
    """One change to the record of a key, and whether the key is revoked after it."""

    digest: str
    key_id: str
    revoked: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """Every change after a position, up to and including `position`.

    Not `continuous`: what happened since is not wholly known, because the sequence was cut short
    or is not the one that the position was taken from.
    """

    position: str
    changes: tuple[Change, ...] = ()
    continuous: bool = True


class DuplicateKeyError(Exception):
    """A record with this digest is already stored."""


class KeyStore(Protocol):
    """Where keys live. Any failure is `GatewayError(KEY_STORE_UNAVAILABLE)`."""

    async def find(self, digest: str) -> KeyRecord | None:
        """The record of a key by its digest."""

    async def get(self, key_id: str) -> KeyRecord | None:
        """The record of a key by its id."""

    async def add(self, record: KeyRecord) -> None:
        """Store a new record; raises `DuplicateKeyError` if its digest is known."""

    async def revoke(self, key_id: str, at: str, by: str) -> KeyRecord | None:
        """Revoke a key and return its record; None for an unknown id. Done when this returns."""

    async def owned(self, owner: str) -> list[KeyRecord]:
        """The records of an owner, newest first, revoked ones included."""

    async def empty(self) -> bool:
        """Whether no key was ever stored."""

    async def ping(self) -> None:
        """Return if the store answers."""

    async def last_position(self) -> str:
        """Where the sequence of changes ends now."""

    async def changes(self, after: str, wait: float) -> Changes:
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
        self._changes: deque[Change] = deque(maxlen=changes_kept)
        self._position = 0
        self._changed = asyncio.Event()

    async def find(self, digest: str) -> KeyRecord | None:
        """The record of a key by its digest."""
        return self._records.get(digest)

    async def get(self, key_id: str) -> KeyRecord | None:
        """The record of a key by its id."""
        return self._records.get(self._digests.get(key_id, ""))

    async def add(self, record: KeyRecord) -> None:
        """Store a new record; raises `DuplicateKeyError` if its digest is known."""
        if record.digest in self._records:
            raise DuplicateKeyError(record.id)
        self._write(record)

    async def revoke(self, key_id: str, at: str, by: str) -> KeyRecord | None:
        """Revoke a key and return its record; None for an unknown id."""
        record = await self.get(key_id)
        if record is None:
            return None
        revoked = record.revoke(at, by)
        if revoked is not record:
            self._write(revoked)
        return revoked

    async def owned(self, owner: str) -> list[KeyRecord]:
        """The records of an owner, newest first, revoked ones included."""
        owned = (record for record in self._records.values() if record.owner == owner)
        return sorted(owned, key=newest_first, reverse=True)

    async def empty(self) -> bool:
        """Whether no key was ever stored."""
        return not self._records

    async def ping(self) -> None:
        """Memory always answers."""

    async def last_position(self) -> str:
        """The number of changes so far."""
        return str(self._position)

    async def changes(self, after: str, wait: float) -> Changes:
        """The changes after a position; waits up to `wait` seconds for the first one."""
        if int(after) == self._position:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()
        missed = self._position - int(after)
        kept = tuple(self._changes)
        continuous = 0 <= missed <= len(kept)
        return Changes(str(self._position), kept[-missed:] if missed > 0 else (), continuous)

    async def close(self) -> None:
        """Nothing to let go of."""

    def _write(self, record: KeyRecord) -> None:
        self._records[record.digest] = record
        self._digests[record.id] = record.digest
        self._changes.append(Change(record.digest, record.id, record.revoked_at is not None))
        self._position += 1
        self._changed.set()
        self._changed = asyncio.Event()
