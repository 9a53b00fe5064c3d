"""The tasks before the gateway is removed, and `keys leave` with a real Redis and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from gateway.gocompat.times import Instant
from gateway.keys.core.leaving import Task, task_with_row, task_without_record, task_without_table
from gateway.keys.core.records import CoreRow, pending_record
from gateway.keys.core.rows import CoreRows
from gateway.keys.record import ROTATED, Event, KeyRecord
from gateway.keys.redis.store import RedisKeyStore
from gateway.policy.terms import KeyTerms
from gateway.server.clocks import utc_now
from gateway.server.exit_codes import Exit
from tests.keys.core.conftest import CoreKey, Postgres, Table
from tests.keys.records import KEY_ID, RECORD, instant, revocation
from tests.running import ROOT

NOW = instant("2026-06-01T00:00:00Z").unix
ROW = CoreRow(
    id=RECORD.id,
    hashed="",
    name="n",
    owner="acme",
    scopes=("ledgers:read",),
    expires_at=RECORD.expires_at.unix,
    created_at=0.0,
    revoked=False,
)
REVOKED = replace(RECORD, revocation=revocation("2026-05-01T00:00:00Z", "master"))
DISABLED = replace(RECORD, disabled=True)
EXPIRED = replace(RECORD, expires_at=instant("2026-05-01T00:00:00Z"))
BOUND = replace(RECORD, terms=KeyTerms(concurrency=5))
ROTATION = Event(instant("2026-05-01T00:00:00Z"), ROTATED, "master")
TURNED = replace(RECORD, history=(ROTATION,), expires_at=instant("2026-07-01T00:00:00Z"))
WIDER = replace(ROW, scopes=("ledgers:read", "ledgers:write"))
LATER = replace(ROW, expires_at=ROW.expires_at + 60)


@pytest.mark.parametrize(
    ("record", "row", "task", "why"),
    [
        (RECORD, None, Task.MINT, "it is unknown to Core"),
        (RECORD, replace(ROW, revoked=True), Task.MINT, "it has ended in Core, but not here"),
        (RECORD, replace(ROW, expires_at=1.0), Task.MINT, "it has ended in Core, but not here"),
        (REVOKED, ROW, Task.REVOKE, "it is revoked here"),
        (DISABLED, ROW, Task.REVOKE, "it is disabled here"),
        (TURNED, ROW, Task.REVOKE, "it was rotated here"),
        (EXPIRED, ROW, Task.REVOKE, "it has expired here"),
        (BOUND, ROW, Task.DECIDE, "it has terms only here"),
        (RECORD, WIDER, Task.DECIDE, "its scopes in Core are ledgers:read, ledgers:write"),
        (RECORD, LATER, Task.DECIDE, "it ends at another time in Core"),
        (BOUND, LATER, Task.DECIDE, "it has terms only here; it ends at another time in Core"),
    ],
)
def test_a_key_that_core_treats_otherwise_needs_a_task(
    record: KeyRecord, row: CoreRow | None, task: Task, why: str
) -> None:
    found = task_with_row(record, row, NOW, row_is_key=False)
    assert found is not None
    assert (found.task, found.key_id, found.why) == (task, record.id, why)


@pytest.mark.parametrize(
    ("record", "row"),
    [(RECORD, ROW), (REVOKED, None), (DISABLED, None), (EXPIRED, None), (TURNED, None),
     (REVOKED, replace(ROW, revoked=True)), (RECORD, replace(ROW, expires_at=ROW.expires_at + 0.5))],
)  # fmt: skip
def test_a_key_that_core_treats_alike_needs_none(record: KeyRecord, row: CoreRow | None) -> None:
    assert task_with_row(record, row, NOW, row_is_key=False) is None


@pytest.mark.parametrize(
    ("record", "row", "task"),
    [(RECORD, None, None), (RECORD, WIDER, None), (EXPIRED, ROW, None), (DISABLED, ROW, Task.REVOKE),
     (TURNED, ROW, Task.REVOKE), (BOUND, ROW, Task.DECIDE)],
)  # fmt: skip
def test_where_core_is_the_authority_only_what_the_store_adds_counts(
    record: KeyRecord, row: CoreRow | None, task: Task | None
) -> None:
    found = task_with_row(record, row, NOW, row_is_key=True)
    assert (None if found is None else found.task) == task


@pytest.mark.parametrize(
    ("record", "task"),
    [(RECORD, Task.MINT), (REVOKED, None), (replace(RECORD, created_by="core"), None),
     (replace(REVOKED, created_by="core"), Task.REVOKE), (replace(BOUND, created_by="core"), Task.DECIDE)],
)  # fmt: skip
def test_without_the_table_keys_of_core_count_as_there(record: KeyRecord, task: Task | None) -> None:
    found = task_without_table(record, NOW)
    assert (None if found is None else found.task) == task


def test_a_live_key_of_core_that_is_unknown_here_is_named() -> None:
    found = task_without_record(ROW, NOW)
    assert found is not None
    assert (found.task, found.key_id) == (Task.DECIDE, ROW.id)
    assert task_without_record(replace(ROW, revoked=True), NOW) is None


async def leave(redis_url: str, *arguments: str, **environ: str) -> Result:
    given = {"BLNK_MASTER_KEY": "x", "BLNK_GATEWAY_KEYS__STORE": redis_url, **environ}
    command = ["keys", "leave", "--config", str(ROOT / "gateway.yaml"), *arguments]
    return await asyncio.to_thread(CliRunner().invoke, cli, command, env=given, catch_exceptions=False)


async def imported(store: RedisKeyStore, postgres: Postgres, key: CoreKey) -> KeyRecord:
    """Store the record that an import makes of a key of Core."""
    rows = CoreRows(postgres.url())
    row = (await rows.by_ids([key.id]))[key.id]
    rows.close()
    record = pending_record(row, Instant.of(utc_now()))
    await store.add(record)
    return record


@pytest.mark.redis
@pytest.mark.postgres
class TestCommand:
    async def test_it_compares_with_cores_table(
        self, redis_url: str, postgres: Postgres, table: Table
    ) -> None:
        """It names a key minted here, one revoked here, one unknown here, and not one that is the same."""
        same, ended, unknown = [await table.mint("ledgers:read") for _ in range(3)]
        store = RedisKeyStore(redis_url)
        await imported(store, postgres, same)
        await imported(store, postgres, ended)
        await store.revise(
            ended.id, lambda record: record.as_revoked(revocation("2026-05-01T00:00:00Z", "cli:x"))
        )
        minted = replace(RECORD, id=f"{KEY_ID}9", name="a\tb")
        await store.add(minted)
        await store.close()
        database = {"BLNK_GATEWAY_KEYS__CORE_DATABASE": postgres.url()}
        result = await leave(redis_url, "--output", "json", **database)
        printed = json.loads(result.stdout)
        assert (result.exit_code, printed["compared"]) == (Exit.FAILED, True)
        assert [(task["task"], task["key_id"]) for task in printed["tasks"]] == [
            ("decide", unknown.id),
            ("mint", minted.id),
            ("revoke", ended.id),
        ]
        lines = (await leave(redis_url, **database)).stdout.splitlines()
        assert lines[1] == f"mint\t{minted.id}\tacme\ta\\tb\tit is unknown to Core"
        assert len(lines) == 3

    async def test_where_nothing_is_to_be_done_it_ends_with_0(
        self, redis_url: str, postgres: Postgres, table: Table
    ) -> None:
        await table.mint("ledgers:read")
        result = await leave(
            redis_url,
            BLNK_GATEWAY_KEYS__AUTHORITY="core",
            BLNK_GATEWAY_KEYS__CORE_DATABASE=postgres.url(),
        )
        assert (result.exit_code, result.stdout) == (Exit.OK, "")
        assert result.stderr == "nothing to do for any key\n"

    async def test_without_the_table_it_says_that_it_did_not_compare(self, redis_url: str) -> None:
        store = RedisKeyStore(redis_url)
        await store.add(RECORD)
        await store.close()
        result = await leave(redis_url)
        assert (result.exit_code, result.stdout) == (
            Exit.FAILED,
            f"mint\t{RECORD.id}\tacme\tn\tit is unknown to Core\n",
        )
        assert result.stderr == (
            "not compared with Core's table, because keys.core_database is not set\n1 to do\n"
        )

    async def test_a_database_that_is_away_ends_it_with_3(self, redis_url: str) -> None:
        result = await leave(redis_url, BLNK_GATEWAY_KEYS__CORE_DATABASE="postgres://x@127.0.0.1:1/blnk")
        assert (result.exit_code, result.stdout) == (Exit.DEPENDENCY, "")
