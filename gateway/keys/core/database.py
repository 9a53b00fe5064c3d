"""Connections to Core's PostgreSQL, and their failures in words for operators.

Rules kept here:
- Statements are not named, so that a pooler may stand in between.
- A connection that failed is dropped. A read that a kept connection did not survive is sent once more on a
  new one.
- Every failure is `DatabaseUnavailableError`. No text raised here holds the URL, whose password is a
  secret, or repeats the text of a library.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Final, TypeAlias

import asyncpg

from gateway.keys.errors import DatabaseUnavailableError

CONNECT_SECONDS: Final = 1.0
RESPONSE_SECONDS: Final = 1.0
# For reads of a whole table, which no client waits for.
SCAN_CONNECT_SECONDS: Final = 5.0
SCAN_RESPONSE_SECONDS: Final = 30.0

TABLE: Final = "blnk.api_keys"
MIGRATE: Final = "run Core's migrations first (blnk migrate up)"

_WORDS: Final[Mapping[type[Exception], str]] = {
    ssl.SSLCertVerificationError: "the certificate of Core's database is not trusted: see sslrootcert",
    socket.gaierror: "the host that keys.core_database names is not known",
    FileNotFoundError: "a file that keys.core_database names is not there",
    TimeoutError: "Core's database does not answer in time",
    asyncpg.CannotConnectNowError: "Core's database is starting or stopping",
    asyncpg.TooManyConnectionsError: "Core's database has no connection left",
    OSError: "Core's database cannot be reached as keys.core_database says",
}
"""By the class of the failure; of several that fit, the first counts."""

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class LazyConnection:
    """One connection, opened when it is needed; a read at a time. `url` is as asyncpg reads it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None

    async def fetch(self, query: str, argument: object) -> list[asyncpg.Record]:
        """Return the rows of a query. Raises DatabaseUnavailableError."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS + RESPONSE_SECONDS), self._turn:
                return await self._fetch(query, argument)
        except Exception as error:
            # asyncpg lets through OSError, ValueError, ssl.SSLError and more, by what the peer sends.
            raise DatabaseUnavailableError(reason=reason(error)) from error

    def drop(self) -> None:
        """Close the connection at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _fetch(self, query: str, argument: object) -> list[asyncpg.Record]:
        kept = self._connection
        if kept is not None and not kept.is_closed():
            # Any error of a connection that the server ended: asyncpg has many classes for it.
            with contextlib.suppress(Exception):
                return await self._ask(kept, query, argument)
        self._connection = await _connect(self._url, CONNECT_SECONDS)
        return await self._ask(self._connection, query, argument)

    async def _ask(self, connection: Connection, query: str, argument: object) -> list[asyncpg.Record]:
        try:
            async with asyncio.timeout(RESPONSE_SECONDS):
                return await connection.fetch(query, argument)
        except BaseException:
            self.drop()
            raise


@contextlib.asynccontextmanager
async def snapshot(url: str) -> AsyncIterator[Connection]:
    """Open a connection for long reads, all of one moment. Raises DatabaseUnavailableError."""
    try:
        connection = await _connect(url, SCAN_CONNECT_SECONDS)
    except Exception as error:
        raise DatabaseUnavailableError(reason=reason(error)) from error
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield connection
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise DatabaseUnavailableError(reason=reason(error)) from error
    finally:
        connection.terminate()


async def _connect(url: str, seconds: float) -> Connection:
    async with asyncio.timeout(seconds):
        return await asyncpg.connect(
            url,
            statement_cache_size=0,
            command_timeout=SCAN_RESPONSE_SECONDS,
            server_settings={"application_name": "blnk-gateway"},
        )


def refusal(error: BaseException | None) -> str | None:
    """Return why a server that responded refuses the gateway; None if it did not respond."""
    match error:
        case asyncpg.UndefinedTableError() | asyncpg.InvalidSchemaNameError():
            return f"Core's database has no table {TABLE}: {MIGRATE}"
        case asyncpg.InvalidAuthorizationSpecificationError():
            return "Core's database refuses the user or the password of keys.core_database"
        case asyncpg.InvalidCatalogNameError():
            return "the database that keys.core_database names does not exist"
        case asyncpg.InsufficientPrivilegeError():
            return (
                "Core's database does not let the user of keys.core_database read: "
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
    """Return the words for operators about a failure of Core's database; no text of a library is repeated."""
    words = (words for kind, words in _WORDS.items() if isinstance(error, kind))
    return refusal(error) or next(words, f"Core's database failed: {type(error).__name__}")
