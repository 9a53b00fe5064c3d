"""The rows of `blnk.api_keys`, read from Core's own PostgreSQL; nothing is ever written there.

Rules kept here:
- Plain SELECTs without named statements: the right to read suffices, and a pooler may stand in between.
- Known keys and unknown ones are read over a connection each, so a flood of the latter delays no one.
- 1 s to connect, 1 s for an answer, and whatever fails is `KEY_STORE_UNAVAILABLE`. A connection that
  failed is dropped; a read that a kept connection did not survive is sent once more on a new one.
- Times are read as numbers: a date beyond Python's years must not fail the rows beside it.
- No text raised here holds the URL, whose password is a secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg

from gateway.errors import GatewayError
from gateway.keys.authority import UnusableAuthorityError
from gateway.keys.core.records import CoreRow
from gateway.keys.errors import DatabaseUnavailableError

CONNECT_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 1.0

TABLE: Final = "blnk.api_keys"
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
"""What is read of the table, and the types it must have."""

SELECT: Final = (
    "SELECT api_key_id, key, key_prefix, name, owner_id, scopes, is_revoked,"
    " extract(epoch FROM expires_at)::float8 AS expires_at,"
    " extract(epoch FROM created_at)::float8 AS created_at,"
    " extract(epoch FROM last_used_at)::float8 AS last_used_at,"
    " extract(epoch FROM revoked_at)::float8 AS revoked_at FROM blnk.api_keys"
)
_BY_ID: Final = f"{SELECT} WHERE api_key_id = ANY($1::text[])"
_BY_PREFIX: Final = f"{SELECT} WHERE key_prefix = ANY($1::text[]) ORDER BY id"
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
_WORDS: Final[Mapping[type[Exception], str]] = {
    ssl.SSLCertVerificationError: "the certificate of Core's database is not trusted: see sslrootcert",
    socket.gaierror: "the host that keys.core_database names is not known",
    FileNotFoundError: "a file that keys.core_database names is not there",
    TimeoutError: "Core's database does not answer in time",
    asyncpg.CannotConnectNowError: "Core's database is starting or stopping",
    asyncpg.TooManyConnectionsError: "Core's database has no connection left",
    OSError: "Core's database cannot be reached as keys.core_database says",
}
"""By the kind of the failure; of several that fit, the first counts."""
_MIGRATE: Final = "run Core's migrations first (blnk migrate up)"


class CoreRows:
    """Reads the table of one Core. `url` is `postgres://`, as libpq and asyncpg read it."""

    def __init__(self, url: str) -> None:
        self._known = _Link(url)
        self._unknown = _Link(url)

    async def check(self) -> None:
        """Return if the table is there, can be read, and has what is read of it.

        Raises:
            UnusableAuthorityError: the server answers, but not so.
            GatewayError: the server does not answer (KEY_STORE_UNAVAILABLE).
        """
        try:
            columns: dict[str, str] = {name: kind for name, kind in await self._known.fetch(_SHAPE, TABLE)}  # noqa: C416
            if not columns:
                raise UnusableAuthorityError(f"Core's database has no table {TABLE}: {_MIGRATE}")
            missing = [name for name, kind in COLUMNS.items() if columns.get(name) != kind]
            if missing:
                wanted = ", ".join(f"{name} ({COLUMNS[name]})" for name in missing)
                raise UnusableAuthorityError(f"{TABLE} in Core's database lacks {wanted}: {_MIGRATE}")
            await self._known.fetch(_BY_ID, [])
        except GatewayError as failure:
            refused = refusal(failure.__cause__)
            if refused is None:
                raise
            raise UnusableAuthorityError(refused) from None

    async def by_ids(self, key_ids: Sequence[str]) -> dict[str, CoreRow]:
        """The rows of these key ids, by id; raises DatabaseUnavailableError."""
        return {row["api_key_id"]: read_row(row) for row in await self._known.fetch(_BY_ID, list(key_ids))}

    async def by_prefixes(self, prefixes: Sequence[str]) -> Mapping[str, list[CoreRow]]:
        """The rows of keys that begin so, by prefix; raises DatabaseUnavailableError."""
        found: defaultdict[str, list[CoreRow]] = defaultdict(list)
        for row in await self._unknown.fetch(_BY_PREFIX, list(prefixes)):
            found[row["key_prefix"]].append(read_row(row))
        return found

    async def live(self, owner: str) -> int:
        """How many keys of an owner are neither revoked nor expired; raises GatewayError."""
        if "\x00" in owner:
            # PostgreSQL has no such text, so nobody owns anything under it.
            return 0
        ((count,),) = await self._known.fetch(_LIVE, owner)
        return int(count)

    def close(self) -> None:
        """Close every connection at once."""
        self._known.drop()
        self._unknown.drop()


class _Link:
    """One connection, opened when it is needed; a read at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._turn = asyncio.Lock()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def fetch(self, query: str, argument: object) -> list[asyncpg.Record]:
        try:
            async with asyncio.timeout(CONNECT_SECONDS + ANSWER_SECONDS), self._turn:
                return await self._fetch(query, argument)
        except Exception as error:
            # asyncpg lets through OSError, ValueError, ssl.SSLError and more, by what the peer sends.
            raise DatabaseUnavailableError(reason=reason(error)) from error

    def drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _fetch(self, query: str, argument: object) -> list[asyncpg.Record]:
        kept = self._connection
        if kept is not None and not kept.is_closed():
            # Whatever comes of a connection that the server ended: asyncpg has many words for it.
            with contextlib.suppress(Exception):
                return await self._ask(kept, query, argument)
        self._connection = await self._connect()
        return await self._ask(self._connection, query, argument)

    async def _ask(
        self, connection: asyncpg.Connection[asyncpg.Record], query: str, argument: object
    ) -> list[asyncpg.Record]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await connection.fetch(query, argument)
        except BaseException:
            self.drop()
            raise

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await asyncpg.connect(
                self._url, statement_cache_size=0, server_settings={"application_name": "blnk-gateway"}
            )


def read_row(row: asyncpg.Record) -> CoreRow:
    """A row of `SELECT`."""
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
    """Core cannot read a list with a NULL in it, and accepts the key no longer: here it grants nothing."""
    texts = tuple(scope for scope in listed or () if isinstance(scope, str))
    return texts if len(texts) == len(listed or ()) else ()


def _end(unix: float | None) -> float:
    """Nor can it read `infinity`, and what has no end has ended."""
    return unix if unix is not None and unix < float("inf") else float("-inf")


def _used(unix: float | None) -> float:
    """Core writes the first moment of the year 1 for never; beyond the year 9999 it is no use of a key."""
    return unix if unix is not None and 0.0 < unix < _YEAR_10000 else 0.0


def refusal(error: BaseException | None) -> str | None:
    """What a server that answered has against us; None if it did not answer."""
    match error:
        case asyncpg.UndefinedTableError() | asyncpg.InvalidSchemaNameError():
            return f"Core's database has no table {TABLE}: {_MIGRATE}"
        case asyncpg.InvalidAuthorizationSpecificationError():
            return "Core's database refuses the user or the password of keys.core_database"
        case asyncpg.InvalidCatalogNameError():
            return "the database that keys.core_database names does not exist"
        case asyncpg.InsufficientPrivilegeError():
            return (
                "Core's database lets the user of keys.core_database not read: "
                f"GRANT USAGE ON SCHEMA blnk and GRANT SELECT ON {TABLE} to it"
            )
        case asyncpg.exceptions.ClientConfigurationError():
            return (
                "keys.core_database, or a file that it names, cannot be used: write "
                "postgres://user:password@host:5432/database?sslmode=verify-full&sslrootcert=FILE"
            )
        case _:
            return None


def reason(error: Exception) -> str:
    """What an operator is told of any failure of Core's database; no text of a library is repeated."""
    told = (words for kind, words in _WORDS.items() if isinstance(error, kind))
    return refusal(error) or next(told, f"Core's database failed: {type(error).__name__}")
