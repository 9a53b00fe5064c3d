"""Import of Core's table into the store: pending rows, rows that are left out, and failures."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.gocompat.times import Instant
from gateway.keys.authority import StoreAuthority
from gateway.keys.cache import KeyCache
from gateway.keys.core.import_rows import RowsLeftOut, pending_records
from gateway.keys.core.rows import CoreRows
from gateway.keys.core.verifier import Verifier
from gateway.keys.errors import DatabaseUnavailableError
from gateway.keys.import_file import ImportResult, import_records
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.minting import digest
from gateway.keys.pending import PendingKeys
from gateway.keys.record import KeyRecord
from tests.keys.core.conftest import CoreKey, Postgres, Table
from tests.keys.records import instant, revocation

pytestmark = pytest.mark.postgres

NOW = datetime(2026, 2, 1, tzinfo=UTC)


async def read(postgres: Postgres) -> tuple[list[KeyRecord], RowsLeftOut]:
    rows, left = [row async for _, batch in CoreRows(postgres.url()).scan() for row in batch], RowsLeftOut()
    return pending_records(rows, Instant(NOW), left), left


async def test_a_row_becomes_a_pending_record(postgres: Postgres, table: Table) -> None:
    key = await table.mint("ledgers:read", "*:*")
    await table.change(
        key, "created_at = '2025-01-02T03:04:05.123456Z', last_used_at = '2026-01-01T00:00:00Z'"
    )
    expected = KeyRecord(
        id=key.id,
        digest=f"pending:{key.id}",
        name="n",
        owner="acme",
        scopes=("ledgers:read", "*:*"),
        expires_at=instant("2999-01-02T03:04:05Z"),
        created_at=instant("2025-01-02T03:04:05.123456Z"),
        created_by="core",
        last_used_at=instant("2026-01-01T00:00:00Z"),
        prefix=key.key[:16],
        bcrypt=await table.value(key, "key"),
    )
    assert await read(postgres) == ([expected], RowsLeftOut())


async def test_revoked_rows_become_revoked_records_with_or_without_a_time(
    postgres: Postgres, table: Table
) -> None:
    timed, untimed = await table.mint(), await table.mint()
    await table.change(timed, "is_revoked = true, revoked_at = '2026-01-05T00:00:00Z'")
    await table.change(untimed, "is_revoked = true")
    records, _ = await read(postgres)
    assert [record.revocation for record in records] == [
        revocation("2026-01-05T00:00:00Z", "core"),
        revocation("2026-02-01T00:00:00Z", "core"),
    ]


async def test_rows_that_cannot_be_imported_are_named(postgres: Postgres, table: Table) -> None:
    unprefixed, plain, strange, short, dear, ownerless, good = [await table.mint() for _ in range(7)]
    await table.change(short, "key_prefix = 'abc'")
    await table.change(dear, "key = replace(key, '$04$', '$15$')")
    await table.change(ownerless, "owner_id = ''")
    await table.change(unprefixed, "key_prefix = NULL")
    await table.change(plain, f"key = '{plain.key}'")
    await table.change(strange, "api_key_id = 'mine'")
    records, left = await read(postgres)
    assert [record.id for record in records] == [good.id]
    assert left.unprefixed == [unprefixed.id, short.id]
    assert left.unusable == [plain.id, "mine", dear.id, ownerless.id]


async def test_a_null_fails_no_other_row(postgres: Postgres, table: Table) -> None:
    """Core's own table has no such NULLs, but one that was made by hand may have them."""
    columns = ("api_key_id", "key", "name", "owner_id", "scopes", "expires_at", "created_at", "last_used_at")
    for column in columns:
        await table.pool.execute(f"ALTER TABLE blnk.api_keys ALTER COLUMN {column} DROP NOT NULL")
    empty, good = await table.mint(), await table.mint()
    await table.change(empty, ", ".join(f"{column} = NULL" for column in columns))
    records, left = await read(postgres)
    assert [record.id for record in records] == [good.id]
    assert left == RowsLeftOut(unusable=[""])


@pytest.mark.parametrize(
    ("written", "read_as"), [("294000-01-01", "9999-12-31T23:59:59Z"), ("-infinity", "0001-01-01T00:00:00Z")]
)
async def test_a_time_outside_the_years_becomes_the_first_or_the_last(
    postgres: Postgres, table: Table, written: str, read_as: str
) -> None:
    key = await table.mint()
    await table.change(key, f"expires_at = '{written}'")
    records, _ = await read(postgres)
    assert [record.expires_at for record in records] == [instant(read_as)]


async def test_an_unused_key_has_no_last_use(postgres: Postgres, table: Table) -> None:
    """The last use that Core writes for an unused key, in the year 1, is read as none."""
    key = await table.mint()
    await table.change(key, "last_used_at = '0001-01-01T00:00:00Z'")
    records, _ = await read(postgres)
    assert [record.last_used_at for record in records] == [None]


async def test_rows_beyond_the_first_batch_are_read_too(postgres: Postgres, table: Table) -> None:
    await table.pool.execute(
        "INSERT INTO blnk.api_keys (api_key_id, key, key_prefix, name, owner_id, expires_at)"
        " SELECT 'api_key_00000000-0000-4000-8000-' || lpad(n::text, 12, '0'),"
        " '$2a$10$' || lpad(n::text, 53, 'A'), 'AAAAAAAAAAAAAAAA', 'n', 'o', now()"
        " FROM generate_series(1, 1001) AS n"
    )
    await table.mint(owner="acme")
    batches = [(total, len(batch)) async for total, batch in CoreRows(postgres.url()).scan("o")]
    assert batches == [(1001, 500), (1001, 500), (1001, 1)]
    assert [(total, len(batch)) async for total, batch in CoreRows(postgres.url()).scan()][2:] == [(1002, 2)]


async def used(store: MemoryKeyStore, verifier: Verifier, key: CoreKey) -> str:
    """Use a key of Core for the first time, and return its state."""
    authority = StoreAuthority(
        store, KeyCache(store, lambda: 0.0), PendingKeys(store, verifier, lambda: 0.0), ""
    )

    known = await authority.identify(digest(key.key), key.key)
    return "unknown" if known is None else known.state(NOW.timestamp()).value


async def test_a_key_of_core_works_once_it_is_imported(postgres: Postgres, table: Table) -> None:
    live, revoked, never = await table.mint(), await table.mint(), await table.mint()
    await table.change(revoked, "is_revoked = true")
    await table.change(never, "key_prefix = NULL")
    store, verifier = MemoryKeyStore(), Verifier()
    records, _ = await read(postgres)
    assert await import_records(store, records) == ImportResult(added=2)
    states = [await used(store, verifier, key) for key in (live, revoked, never)]
    verifier.close()
    assert states == ["live", "revoked", "unknown"]


async def test_a_failed_database_is_reported_without_its_url(
    postgres: Postgres, table: Table, unused_tcp_port: int
) -> None:
    await table.pool.execute("REVOKE ALL ON blnk.api_keys FROM reader")
    for url, text in (
        (postgres.url(), "GRANT USAGE ON SCHEMA blnk and GRANT SELECT ON blnk.api_keys to it"),
        (
            f"postgres://u:secret@127.0.0.1:{unused_tcp_port}/blnk",
            "cannot be reached as keys.core_database says",
        ),
        (postgres.url("postgres", "postgres"), "no table blnk.api_keys: run Core's migrations first"),
        ("postgres://u:secret@[", "failed: ValueError"),
    ):
        with pytest.raises(DatabaseUnavailableError) as failure:
            [batch async for batch in CoreRows(url).scan()]
        assert failure.value.reason.startswith("Core's database ")
        assert text in failure.value.reason
        assert "secret" not in failure.value.reason
