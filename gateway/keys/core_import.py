"""Core's whole table of keys as pending records, for a gateway that takes Core's keys over.

Rules kept here:
- Nothing is written to Core's database. The rows are read in one transaction, a batch at a time.
- A row becomes a pending record: the first 16 characters of the key, and its bcrypt hash. Who revoked a
  key in Core is not known there, and neither is who created it: `core`.
- A row that cannot become one is left out and named: without `key_prefix` Core itself accepts the key no
  longer, and what is no bcrypt hash may be the key.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import asyncpg

from gateway.keys.core_records import BY_CORE, as_written
from gateway.keys.instants import Instant
from gateway.keys.minting import is_key_id
from gateway.keys.record import PENDING, KeyRecord

BATCH: Final = 500
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 30.0

_ROWS: Final = """
    SELECT api_key_id, key, key_prefix, name, owner_id, scopes, is_revoked,
           extract(epoch FROM expires_at)::float8 AS expires_at,
           extract(epoch FROM created_at)::float8 AS created_at,
           extract(epoch FROM last_used_at)::float8 AS last_used_at,
           extract(epoch FROM revoked_at)::float8 AS revoked_at
    FROM blnk.api_keys ORDER BY id
"""
_COUNT: Final = "SELECT count(*) FROM blnk.api_keys"
_HASH: Final = re.compile(r"\$2[abxy]\$[0-9]{2}\$[./A-Za-z0-9]{53}")


class UnreadableTableError(Exception):
    """Core's table could not be read, because of `cause`, whose own text is not shown."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"Core's database cannot be read: {type(cause).__name__}")


@dataclass(slots=True)
class Left:
    """The ids of rows that were left out: `unprefixed` lack key_prefix, `unhashed` a bcrypt hash or an id."""

    unprefixed: list[str] = field(default_factory=list)
    unhashed: list[str] = field(default_factory=list)


class CoreTable:
    """The table of one Core, read once; `left` grows while `batches` is read.

    Args:
        url: `postgres://`, as asyncpg reads it.
        now: the time, for keys that are revoked without a time.
    """

    def __init__(self, url: str, now: datetime) -> None:
        self._url = url
        self._now = str(Instant.of(now))
        self.left = Left()

    async def batches(self) -> AsyncIterator[tuple[int, list[KeyRecord]]]:
        """How many rows there are, with the records of some of them, until all are read.

        Raises:
            UnreadableTableError: the database failed; the text does not repeat its URL.
        """
        try:
            connection = await asyncpg.connect(
                self._url,
                timeout=CONNECT_SECONDS,
                command_timeout=ANSWER_SECONDS,
                statement_cache_size=0,
                server_settings={"application_name": "blnk-gateway"},
            )
        except Exception as error:
            raise UnreadableTableError(error) from error
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                total = await connection.fetchval(_COUNT)
                cursor = await connection.cursor(_ROWS)
                while rows := await cursor.fetch(BATCH):
                    yield total, [record for record in map(self._record, rows) if record is not None]
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise UnreadableTableError(error) from error
        finally:
            connection.terminate()

    def _record(self, row: asyncpg.Record) -> KeyRecord | None:
        key_id, revoked = row["api_key_id"], row["is_revoked"]
        if not is_key_id(key_id) or not _HASH.fullmatch(row["key"]):
            self.left.unhashed.append(key_id)
            return None
        if not row["key_prefix"]:
            self.left.unprefixed.append(key_id)
            return None
        return KeyRecord(
            id=key_id,
            digest=PENDING + key_id,
            name=row["name"],
            owner=row["owner_id"],
            # A NULL or a list in the list grants nothing.
            scopes=tuple(scope for scope in row["scopes"] if isinstance(scope, str)),
            expires_at=as_written(row["expires_at"]),
            created_at=as_written(row["created_at"]),
            created_by=BY_CORE,
            last_used_at=as_written(row["last_used_at"]),
            revoked_at=self._revoked_at(row["revoked_at"]) if revoked else None,
            revoked_by=BY_CORE if revoked else "",
            prefix=row["key_prefix"],
            bcrypt=row["key"],
        )

    def _revoked_at(self, unix: float | None) -> str:
        return self._now if unix is None else as_written(unix)
