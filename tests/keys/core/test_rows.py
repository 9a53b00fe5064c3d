"""Reads of Core's table: the rights that they need, and the reasons for failures."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateway.errors import Code, GatewayError
from gateway.keys.authority import UnusableAuthorityError
from gateway.keys.core.database import reason
from gateway.keys.core.rows import CoreRows
from gateway.proxy.errors import code_of
from tests.addresses import DEAD, dropping_packets, names, run
from tests.keys.core.conftest import Postgres, Table

pytestmark = pytest.mark.postgres


@pytest.fixture
async def rows(postgres: Postgres, table: Table) -> AsyncIterator[CoreRows]:
    """Yield Core's table for a user who may only read."""
    read = CoreRows(postgres.url("reader"))
    yield read
    read.close()


async def unusable(url: str) -> str:
    rows = CoreRows(url)
    try:
        with pytest.raises(UnusableAuthorityError) as problem:
            await rows.check()
    finally:
        rows.close()
    return str(problem.value)


async def test_the_right_to_read_is_enough(rows: CoreRows, table: Table) -> None:
    """A role with USAGE on the schema and SELECT on the table is enough."""
    key = await table.mint("ledgers:read")
    await rows.check()
    assert list(await rows.by_ids([key.id, "nobody"])) == [key.id]
    found = await rows.by_prefixes([key.key[:16], "x" * 16])
    assert {prefix: [row.id for row in found[prefix]] for prefix in found} == {key.key[:16]: [key.id]}


async def test_a_missing_table_is_named(postgres: Postgres, table: Table) -> None:
    await table.pool.execute("DROP TABLE blnk.api_keys")
    assert await unusable(postgres.url()) == (
        "Core's database has no table blnk.api_keys: run Core's migrations first (blnk migrate up)"
    )


async def test_a_missing_schema_is_a_missing_table(postgres: Postgres, table: Table) -> None:
    assert "has no table blnk.api_keys" in await unusable(postgres.url("postgres", "postgres"))


async def test_every_missing_column_is_named(postgres: Postgres, table: Table) -> None:
    """A column of another type is named too; an old Core has no prefixes."""
    await table.pool.execute(
        "ALTER TABLE blnk.api_keys DROP COLUMN key_prefix, ALTER COLUMN is_revoked DROP DEFAULT,"
        " ALTER COLUMN is_revoked TYPE text"
    )
    assert await unusable(postgres.url()) == (
        "blnk.api_keys in Core's database lacks key_prefix (character varying(16)), is_revoked (boolean): "
        "run Core's migrations first (blnk migrate up)"
    )


async def test_missing_rights_are_named(postgres: Postgres, table: Table) -> None:
    text = (
        "Core's database does not let the user of keys.core_database read: "
        "GRANT USAGE ON SCHEMA blnk and GRANT SELECT ON blnk.api_keys to it"
    )
    assert await unusable(postgres.url("stranger")) == text
    await table.pool.execute("REVOKE SELECT ON blnk.api_keys FROM reader")
    assert await unusable(postgres.url()) == text


async def test_a_wrong_user_or_database_is_named_without_the_url(postgres: Postgres, table: Table) -> None:
    assert await unusable(postgres.url("nobody:s3cret")) == (
        "Core's database refuses the user or the password of keys.core_database"
    )
    assert await unusable(postgres.url("reader", "nothing")) == (
        "the database that keys.core_database names does not exist"
    )
    assert await unusable(f"{postgres.url()}?sslmode=s3cret") == (
        "keys.core_database, or a file that it names, cannot be used: write "
        "postgres://user:password@host:5432/database?sslmode=verify-full&sslrootcert=FILE"
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (asyncpg.UndefinedTableError("s3cret"), "Core's database has no table blnk.api_keys: "),
        (ssl.SSLCertVerificationError("s3cret"), "the certificate of Core's database is not trusted: "),
        (socket.gaierror("s3cret"), "the host that keys.core_database names is not known"),
        (FileNotFoundError("s3cret"), "a file that keys.core_database names is not there"),
        (TimeoutError(), "Core's database does not answer in time"),
        (asyncpg.CannotConnectNowError("s3cret"), "Core's database is starting or stopping"),
        (asyncpg.TooManyConnectionsError("s3cret"), "Core's database has no connection left"),
        (ConnectionRefusedError(), "Core's database cannot be reached as keys.core_database says"),
        (ConnectionError("rejected SSL upgrade"), "Core's database cannot be reached as keys."),
        (ValueError("s3cret"), "Core's database failed: ValueError"),
    ],
)
def test_a_failure_is_reported_by_its_kind(error: Exception, text: str) -> None:
    """The reason comes from the kind of the failure, never from its text."""
    assert reason(error).startswith(text)
    assert "s3cret" not in reason(error)


async def test_a_server_that_is_down_is_a_temporary_failure(postgres: Postgres, table: Table) -> None:
    """The check fails while the server is down, and passes once it is back."""
    rows = CoreRows(postgres.url())
    with postgres.down(), pytest.raises(GatewayError) as failure:
        await rows.check()
    assert code_of(failure.value) is Code.KEY_STORE_UNAVAILABLE
    await rows.check()
    rows.close()


async def test_a_connection_that_the_server_closed_fails_no_read(
    postgres: Postgres, rows: CoreRows, table: Table
) -> None:
    """If the server has closed the connection, the read is sent once more on a new one."""
    key = await table.mint()
    assert list(await rows.by_ids([key.id])) == [key.id]
    admin = await asyncpg.connect(postgres.url("postgres"))
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'"
    assert await admin.fetch(ended) != []
    await admin.close()
    assert list(await rows.by_ids([key.id])) == [key.id]


def test_a_host_whose_first_address_drops_packets_is_reached_by_its_second(postgres: Postgres) -> None:
    async def checked() -> tuple[str, float]:
        url = postgres.url("postgres", "postgres").replace("127.0.0.1", "database")
        began = time.monotonic()
        return await unusable(url), time.monotonic() - began

    with dropping_packets(postgres.port):
        problem, took = run(checked, names(database=[DEAD, "127.0.0.1"]))
    # The server responded, for the database has no such table.
    assert problem.startswith("Core's database has no table blnk.api_keys")
    assert took < 0.7
