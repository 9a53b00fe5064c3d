"""Reads keys for the commands: from the key store, or from Core's table where Core is the authority.

Rules kept here:
- Reading changes nothing: a key that is verified before its first use stays pending.
- With Core as the authority a key has the state of its current row, and what only the store knows is added.
  A list leaves out a key whose record cannot be read: the store may have revoked it, and Core's table not.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from gateway.cli.console import fail
from gateway.cli.keys.rotation import successors_of
from gateway.cli.keys.store import authority_of, open_core_rows
from gateway.config import Config
from gateway.gocompat.times import Instant
from gateway.keys.authority import CORE_PACKAGES_INSTALLED
from gateway.keys.core.records import CoreRow, current_record, row_of
from gateway.keys.minting import PREFIX_LENGTH, digest, is_key
from gateway.keys.record import KeyRecord
from gateway.keys.store import RecordReader
from gateway.server.exit_codes import Exit

if TYPE_CHECKING:
    from gateway.keys.core.rows import CoreRows


class KeyReader(Protocol):
    """Reads records of keys; every method raises GatewayError if a dependency fails."""

    async def get(self, key_id: str) -> KeyRecord | None:
        """Return the record of a key by its id."""

    async def get_by_key(self, key: bytes) -> KeyRecord | None:
        """Return the record of a key by the key itself."""

    async def successors(self, key_id: str) -> list[KeyRecord]:
        """Return the records of the keys that replaced this one."""

    async def owned(self, owner: str) -> list[KeyRecord]:
        """Return the records of an owner, in no order."""

    def scan(self) -> AsyncIterator[list[KeyRecord]]:
        """Return all records, in batches and in no order; a record may come twice."""

    async def ended(self, records: Sequence[KeyRecord], before: float) -> set[str]:
        """Return the ids of those records whose keys ended before then (Unix seconds), in Core too."""


class StoreKeyReader:
    """A KeyReader with the store as the authority."""

    def __init__(self, store: RecordReader) -> None:
        self._store = store

    async def get(self, key_id: str) -> KeyRecord | None:
        """Return the record of a key by its id."""
        return await self._store.get(key_id)

    async def get_by_key(self, key: bytes) -> KeyRecord | None:
        """Return the record of a key, which may still be pending."""
        found = await self._store.get_by_digest(digest(key))
        text = key.decode("ascii", "replace")
        if found is None and is_key(text):
            pending = await self._store.get_by_prefix(text[:PREFIX_LENGTH])
            found = next((each for each in pending if each.pending and _matches(text, each.bcrypt)), None)
        # A look-up by digest, which is for requests, leaves the last use out.
        return None if found is None else await self._store.get(found.id)

    async def successors(self, key_id: str) -> list[KeyRecord]:
        """Return the records of the keys that replaced this one."""
        return await successors_of(self._store, key_id)

    async def owned(self, owner: str) -> list[KeyRecord]:
        """Return the records of an owner."""
        return await self._store.owned(owner)

    def scan(self) -> AsyncIterator[list[KeyRecord]]:
        """Return all records."""
        return self._store.scan()

    async def ended(self, records: Sequence[KeyRecord], before: float) -> set[str]:
        """Return the ids of those whose keys ended before then."""
        return {record.id for record in records if record.ended_at < before}


class CoreKeyReader:
    """A KeyReader with Core as the authority.

    Args:
        store: keeps what Core's table does not.
        rows: Core's table.
        at: the time of which the states are.
    """

    def __init__(self, store: RecordReader, rows: CoreRows, at: datetime) -> None:
        self._store = store
        self._rows = rows
        self._at = Instant.of(at)

    async def get(self, key_id: str) -> KeyRecord | None:
        """Return the record of a key by its id."""
        row = await row_of(self._rows, key_id)
        return current_record(await self._store.get(key_id), row, self._at)

    async def get_by_key(self, key: bytes) -> KeyRecord | None:
        """Return the record of a key, which no gateway need have seen yet."""
        text = key.decode("ascii", "replace")
        record = await self._store.get_by_digest(digest(key))
        if record is not None:
            row = await row_of(self._rows, record.id)
            if row is None or record.bcrypt in ("", row.hashed) or _matches(text, row.hashed):
                return await self.get(record.id)
            # The row's hash was replaced: it belongs to another key now.
            return None
        if not is_key(text):
            return None
        prefix = text[:PREFIX_LENGTH]
        candidates = (await self._rows.by_prefixes([prefix])).get(prefix, [])
        row = next((row for row in candidates if _matches(text, row.hashed)), None)
        return None if row is None else await self.get(row.id)

    async def successors(self, key_id: str) -> list[KeyRecord]:
        """Return the records of the keys that replaced this one."""
        return await successors_of(self._store, key_id)

    async def owned(self, owner: str) -> list[KeyRecord]:
        """Return the records of an owner; a key whose row is gone belongs to its last owner."""
        found = [record async for batch in self._read(owner) for record in batch]
        known = {record.id for record in found}
        others = [record for record in await self._store.owned(owner) if record.id not in known]
        elsewhere = await self._rows.by_ids([record.id for record in others])
        return found + self._without_row(record for record in others if record.id not in elsewhere)

    async def scan(self) -> AsyncIterator[list[KeyRecord]]:
        """Return all records."""
        known: set[str] = set()
        async for batch in self._read(None):
            known |= {record.id for record in batch}
            yield batch
        async for remembered in self._store.scan():
            others = [record for record in remembered if record.id not in known]
            # Their rows were created since the table was read, or are gone from it.
            rows = await self._rows.by_ids([record.id for record in others])
            found = (current_record(record, rows.get(record.id), self._at) for record in others)
            yield [record for record in found if record is not None]

    async def ended(self, records: Sequence[KeyRecord], before: float) -> set[str]:
        """Return the ids of those whose keys ended before then, in Core's table too.

        A key without a row is accepted nowhere, and nobody knows since when: its creation counts. A key that
        Core is still to revoke has not ended.
        """
        rows = await self._rows.by_ids([record.id for record in records])

        def has_ended(record: KeyRecord) -> bool:
            row = rows.get(record.id)
            if row is None:
                return record.created_at.unix < before
            found = current_record(record, row, self._at)
            return found is not None and found.ended_at < before and (row.revoked or row.expires_at < before)

        return {record.id for record in records if not record.awaiting_core_revocation and has_ended(record)}

    async def _read(self, owner: str | None) -> AsyncIterator[list[KeyRecord]]:
        async for _, rows in self._rows.scan(owner):
            yield await self._current_records(rows)

    async def _current_records(self, rows: list[CoreRow]) -> list[KeyRecord]:
        known = await self._store.find_many([row.id for row in rows])
        found = (
            current_record(known.records.get(row.id), row, self._at)
            for row in rows
            if row.id not in known.unreadable
        )
        return [record for record in found if record is not None]

    def _without_row(self, records: Iterable[KeyRecord]) -> list[KeyRecord]:
        found = (current_record(record, None, self._at) for record in records)
        return [record for record in found if record is not None]


@contextlib.asynccontextmanager
async def open_key_reader(config: Config, store: RecordReader, at: datetime) -> AsyncIterator[KeyReader]:
    """Open the reader for this configuration; exit with 2 if a package for it is missing.

    `at` is the time of which the states are.
    """
    if authority_of(config).store_is_record:
        yield StoreKeyReader(store)
        return
    rows = open_core_rows(config)
    try:
        yield CoreKeyReader(store, rows, at)
    finally:
        rows.close()


def _matches(key: str, hashed: str) -> bool:
    try:
        from gateway.keys.core.verifier import is_of
    except ModuleNotFoundError as missing:
        if missing.name != "bcrypt":
            raise
        fail(f"this may be a key of Core: to verify it, install {CORE_PACKAGES_INSTALLED}", Exit.USAGE)
    return is_of(key, hashed)
