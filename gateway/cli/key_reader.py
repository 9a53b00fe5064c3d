"""What commands tell of keys: what the key store knows, or Core's table where Core is the authority.

Rules kept here:
- What is read is never changed: verifying a key that nobody has used here yet leaves it so.
- With Core as the authority a key is what its row says today, and what the store alone knows besides.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from gateway.cli.key_store import DependencyError, core_database, fail, heirs_of, told
from gateway.config import Config
from gateway.gocompat.times import Instant
from gateway.keys.authority import CORE_PACKAGES_INSTALLED
from gateway.keys.core.records import CoreRow, row_of, today
from gateway.keys.minting import PREFIX_LENGTH, digest, is_key
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore
from gateway.server.exit_codes import Exit

if TYPE_CHECKING:
    from gateway.keys.core.rows import CoreRows


class KeyReader(Protocol):
    """What is known of keys; every method raises GatewayError or DependencyError."""

    async def get(self, key_id: str) -> KeyRecord | None:
        """The record of a key by its id."""

    async def find(self, key: bytes) -> KeyRecord | None:
        """The record of a key by the key itself."""

    async def heirs(self, key_id: str) -> list[KeyRecord]:
        """What a key was rotated into."""

    async def owned(self, owner: str) -> list[KeyRecord]:
        """The records of an owner, in no order."""

    def every(self) -> AsyncIterator[list[KeyRecord]]:
        """All records, in batches and in no order; one may come twice."""

    async def ended(self, records: Sequence[KeyRecord], before: float) -> set[str]:
        """The ids of those records of the store whose keys ended before then (Unix seconds), for everyone."""


class StoreKeyReader:
    """The store as the authority."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    async def get(self, key_id: str) -> KeyRecord | None:
        """The record of a key by its id."""
        return await self._store.get(key_id)

    async def find(self, key: bytes) -> KeyRecord | None:
        """The record of a key, which may be pending still."""
        found = await self._store.find(digest(key))
        text = key.decode("ascii", "replace")
        if found is None and is_key(text):
            pending = await self._store.prefixed(text[:PREFIX_LENGTH])
            found = next((each for each in pending if each.pending and _is_of(text, each.bcrypt)), None)
        # A look-up by digest, which every request may need, does not tell when the key was last used.
        return None if found is None else await self._store.get(found.id)

    async def heirs(self, key_id: str) -> list[KeyRecord]:
        """What a key was rotated into."""
        return await heirs_of(self._store, key_id)

    async def owned(self, owner: str) -> list[KeyRecord]:
        """The records of an owner."""
        return await self._store.owned(owner)

    def every(self) -> AsyncIterator[list[KeyRecord]]:
        """All records."""
        return self._store.every()

    async def ended(self, records: Sequence[KeyRecord], before: float) -> set[str]:
        """The ids of those whose keys ended before then."""
        return {record.id for record in records if record.ended_at < before}


class CoreKeyReader:
    """Core as the authority.

    Args:
        store: what is known besides.
        rows: Core's table, for single keys.
        url: of its database, for many.
        at: when what is read is so.
    """

    def __init__(self, store: KeyStore, rows: CoreRows, url: str, at: datetime) -> None:
        self._store = store
        self._rows = rows
        self._url = url
        self._at = Instant.of(at)

    async def get(self, key_id: str) -> KeyRecord | None:
        """The record of a key by its id."""
        row = await told(row_of(self._rows, key_id))
        return today(await self._store.get(key_id), row, self._at)

    async def find(self, key: bytes) -> KeyRecord | None:
        """The record of a key, whether anybody has used it here or not."""
        text = key.decode("ascii", "replace")
        record = await self._store.find(digest(key))
        if record is not None:
            row = await told(row_of(self._rows, record.id))
            if row is None or record.bcrypt in ("", row.hashed) or _is_of(text, row.hashed):
                return await self.get(record.id)
            # The row is another key's by now.
            return None
        if not is_key(text):
            return None
        prefix = text[:PREFIX_LENGTH]
        alike = (await told(self._rows.by_prefixes([prefix]))).get(prefix, [])
        row = next((row for row in alike if _is_of(text, row.hashed)), None)
        return None if row is None else await self.get(row.id)

    async def heirs(self, key_id: str) -> list[KeyRecord]:
        """What a key was rotated into."""
        return await heirs_of(self._store, key_id)

    async def owned(self, owner: str) -> list[KeyRecord]:
        """The records of an owner; a key whose row is gone is its last owner's."""
        found = [record async for batch in self._read(owner) for record in batch]
        known = {record.id for record in found}
        others = [record for record in await self._store.owned(owner) if record.id not in known]
        elsewhere = await told(self._rows.by_ids([record.id for record in others]))
        return found + self._gone(record for record in others if record.id not in elsewhere)

    async def every(self) -> AsyncIterator[list[KeyRecord]]:
        """All records."""
        known: set[str] = set()
        async for batch in self._read(None):
            known |= {record.id for record in batch}
            yield batch
        async for remembered in self._store.every():
            others = [record for record in remembered if record.id not in known]
            # Made since the table was read, or gone from it.
            rows = await told(self._rows.by_ids([record.id for record in others]))
            found = (today(record, rows.get(record.id), self._at) for record in others)
            yield [record for record in found if record is not None]

    async def ended(self, records: Sequence[KeyRecord], before: float) -> set[str]:
        """The ids of those whose keys ended before then, in Core's table too.

        Where the row is gone nobody knows when it went, and nobody accepts the key; there the age of the key
        counts. What is still to be revoked in Core stays.
        """
        rows = await told(self._rows.by_ids([record.id for record in records]))

        def has_ended(record: KeyRecord) -> bool:
            row = rows.get(record.id)
            if row is None:
                return record.created.unix < before
            found = today(record, row, self._at)
            return found is not None and found.ended_at < before and (row.revoked or row.expires_at < before)

        return {record.id for record in records if not record.retiring and has_ended(record)}

    async def _read(self, owner: str | None) -> AsyncIterator[list[KeyRecord]]:
        from gateway.keys.core.table import UnreadableTableError, read_table

        try:
            async for _, rows in read_table(self._url, owner):
                yield await self._today(rows)
        except UnreadableTableError as error:
            raise DependencyError(str(error)) from error

    async def _today(self, rows: list[CoreRow]) -> list[KeyRecord]:
        known = {record.id: record for record in await self._store.get_all([row.id for row in rows])}
        found = (today(known.get(row.id), row, self._at) for row in rows)
        return [record for record in found if record is not None]

    def _gone(self, records: Iterable[KeyRecord]) -> list[KeyRecord]:
        found = (today(record, None, self._at) for record in records)
        return [record for record in found if record is not None]


@contextlib.asynccontextmanager
async def key_reader_of(config: Config, store: KeyStore, at: datetime) -> AsyncIterator[KeyReader]:
    """What is known of keys under this configuration; exits with 2 where it needs packages not there."""
    if config.keys.authority == "gateway":
        yield StoreKeyReader(store)
        return
    rows = core_database(config)
    try:
        yield CoreKeyReader(store, rows, config.keys.core_database, at)
    finally:
        rows.close()


def _is_of(key: str, hashed: str) -> bool:
    try:
        from gateway.keys.core.verifier import is_of
    except ModuleNotFoundError as missing:
        if missing.name != "bcrypt":
            raise
        fail(f"a key of Core begins so; verifying it needs {CORE_PACKAGES_INSTALLED}", Exit.USAGE)
    return is_of(key, hashed)
