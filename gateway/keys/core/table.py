"""Core's whole table of keys, or one owner's, read once and in batches.

Rules kept here:
- Nothing is written to Core's database. The rows are read in one transaction, so that they are of one moment.
- No text raised here holds the URL, whose password is a secret.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import asyncpg

from gateway.keys.core.records import CoreRow
from gateway.keys.core.rows import SELECT, TABLE, read_row, reason

BATCH: Final = 500
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 30.0

_WHICH: Final = "WHERE $1::text IS NULL OR owner_id = $1"
_ROWS: Final = f"{SELECT} {_WHICH} ORDER BY id"
_COUNT: Final = f"SELECT count(*) FROM {TABLE} {_WHICH}"  # noqa: S608  # both are constants


class UnreadableTableError(Exception):
    """Core's table could not be read, because of `cause`, whose own text is not shown."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(reason(cause))


async def read_table(url: str, owner: str | None = None) -> AsyncIterator[tuple[int, list[CoreRow]]]:
    """How many rows there are, with some of them, until all are read; of one owner, or of all.

    `url` is `postgres://`, as asyncpg reads it.

    Raises:
        UnreadableTableError: the database failed; the text does not repeat its URL.
    """
    try:
        connection = await asyncpg.connect(
            url,
            timeout=CONNECT_SECONDS,
            command_timeout=ANSWER_SECONDS,
            statement_cache_size=0,
            server_settings={"application_name": "blnk-gateway"},
        )
    except Exception as error:
        raise UnreadableTableError(error) from error
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            total = await connection.fetchval(_COUNT, owner)
            cursor = await connection.cursor(_ROWS, owner)
            while rows := await cursor.fetch(BATCH):
                yield total, list(map(read_row, rows))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise UnreadableTableError(error) from error
    finally:
        connection.terminate()
