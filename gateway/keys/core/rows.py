"""Read the rows of `blnk.api_keys` in Core's own PostgreSQL; nothing is ever written there.

Rules kept here:
- The reads are plain SELECTs: the right to read suffices.
- Known and unknown keys are read over a connection each, so a flood of the latter delays no known key.
- A single read takes at most 1 s to connect and 1 s for its response. A scan reads all rows in one
  transaction, so that they are of one moment.
- Times are read as numbers: a date beyond Python's years must not fail the rows beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import asyncpg

from gateway.errors import GatewayError
from gateway.keys.authority import UnusableAuthorityError
from gateway.keys.core.database import MIGRATE, TABLE, LazyConnection, refusal, snapshot
from gateway.keys.core.records import CoreRow

BATCH: Final = 500
"""Rows of a scan that are read at a time."""

COLUMNS: Final = {
    "api_key_id": "text",
    "key": "text",
    "key_prefix": "character varying(16)",
    "name": "text",
    "owner_id": "text",
    "scopes": "text[]",
    "expires_at": "timestamp with time zone",
    "created_at": "timestamp with time zone",
    "last_used_at": "timestamp with time zone",
    "is_revoked": "boolean",
    "revoked_at": "timestamp with time zone",
}
"""The columns that are read, and the types they must have."""

_SELECT: Final = (
    "SELECT api_key_id, key, key_prefix, name, owner_id, scopes, is_revoked,"
    " extract(epoch FROM expires_at)::float8 AS expires_at,"
    " extract(epoch FROM created_at)::float8 AS created_at,"
    " extract(epoch FROM last_used_at)::float8 AS last_used_at,"
    " extract(epoch FROM revoked_at)::float8 AS revoked_at FROM blnk.api_keys"
)
_BY_ID: Final = f"{_SELECT} WHERE api_key_id = ANY($1::text[])"
_BY_PREFIX: Final = f"{_SELECT} WHERE key_prefix = ANY($1::text[]) ORDER BY id"
_OF_OWNER: Final = "WHERE $1::text IS NULL OR owner_id = $1"
_SCAN: Final = f"{_SELECT} {_OF_OWNER} ORDER BY id"
_COUNT: Final = f"SELECT count(*) FROM {TABLE} {_OF_OWNER}"  # noqa: S608  # both are constants
_LIVE: Final = (
    "SELECT count(*) FROM blnk.api_keys"
    " WHERE owner_id = $1::text AND is_revoked IS FALSE AND expires_at > now()"
)
_SHAPE: Final = (
    "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
    " WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped"
)

_YEAR_10000: Final = 253_402_300_800
"""Unix seconds."""


class CoreRows:
    """Reads the table of one Core. `url` is `postgres://`, as libpq and asyncpg read it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._known = LazyConnection(url)
        self._unknown = LazyConnection(url)

    async def check(self) -> None:
        """Return if the table is there, can be read, and has the columns that are read.

        Raises:
            UnusableAuthorityError: the server responds, but one of these is not so.
            DatabaseUnavailableError: the server does not respond.
        """
        try:
            columns: dict[str, str] = {name: kind for name, kind in await self._known.fetch(_SHAPE, TABLE)}  # noqa: C416
            if not columns:
                raise UnusableAuthorityError(f"Core's database has no table {TABLE}: {MIGRATE}")
            missing = [name for name, kind in COLUMNS.items() if columns.get(name) != kind]
            if missing:
                wanted = ", ".join(f"{name} ({COLUMNS[name]})" for name in missing)
                raise UnusableAuthorityError(f"{TABLE} in Core's database lacks {wanted}: {MIGRATE}")
            await self._known.fetch(_BY_ID, [])
        except GatewayError as failure:
            refused = refusal(failure.__cause__)
            if refused is None:
                raise
            raise UnusableAuthorityError(refused) from None

    async def by_ids(self, key_ids: Sequence[str]) -> dict[str, CoreRow]:
        """Return the rows of these key ids, by id. Raises DatabaseUnavailableError."""
        return {row["api_key_id"]: read_row(row) for row in await self._known.fetch(_BY_ID, list(key_ids))}

    async def by_prefixes(self, prefixes: Sequence[str]) -> Mapping[str, list[CoreRow]]:
        """Return the rows of keys that begin so, by prefix. Raises DatabaseUnavailableError."""
        found: defaultdict[str, list[CoreRow]] = defaultdict(list)
        for row in await self._unknown.fetch(_BY_PREFIX, list(prefixes)):
            found[row["key_prefix"]].append(read_row(row))
        return found

    async def live(self, owner: str) -> int:
        """Return how many keys of an owner are live. Raises DatabaseUnavailableError."""
        if "\x00" in owner:
            # PostgreSQL has no such text, so nobody owns anything under it.
            return 0
        ((count,),) = await self._known.fetch(_LIVE, owner)
        return int(count)

    async def scan(self, owner: str | None = None) -> AsyncIterator[tuple[int, list[CoreRow]]]:
        """Yield the number of all rows with some of them, until all are read; of one owner, or of all.

        Raises:
            DatabaseUnavailableError: the database failed.
        """
        async with snapshot(self._url) as connection:
            total = await connection.fetchval(_COUNT, owner)
            cursor = await connection.cursor(_SCAN, owner)
            while rows := await cursor.fetch(BATCH):
                yield total, list(map(read_row, rows))

    def close(self) -> None:
        """Close every connection at once."""
        self._known.drop()
        self._unknown.drop()


def read_row(row: asyncpg.Record) -> CoreRow:
    """Return a row of the table."""
    return CoreRow(
        # Core's own table has no NULL in these; one that was made otherwise fails no row beside it.
        id=row["api_key_id"] or "",
        hashed=row["key"] or "",
        name=row["name"] or "",
        owner=row["owner_id"] or "",
        scopes=_scopes(row["scopes"]),
        expires_at=_end(row["expires_at"]),
        created_at=row["created_at"] or 0.0,
        revoked=row["is_revoked"] is not False,
        prefix=row["key_prefix"] or "",
        revoked_at=row["revoked_at"],
        last_used_at=_used(row["last_used_at"]),
    )


def _scopes(listed: Sequence[object] | None) -> tuple[str, ...]:
    """Return the scopes; none if a NULL is among them: Core cannot read such a list, and refuses the key."""
    texts = tuple(scope for scope in listed or () if isinstance(scope, str))
    return texts if len(texts) == len(listed or ()) else ()


def _end(unix: float | None) -> float:
    """Return the expiry; long ago for `infinity`, which Core cannot read either, and for NULL."""
    return unix if unix is not None and unix < float("inf") else float("-inf")


def _used(unix: float | None) -> float:
    """Return the last use; 0 for never, which Core writes as the year 1, and beyond the year 9999."""
    return unix if unix is not None and 0.0 < unix < _YEAR_10000 else 0.0
