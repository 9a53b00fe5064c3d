"""The command that lists what has to be done before the gateway is taken out: leave.

Rules kept here:
- Nothing is changed, neither in the store nor in Core.
- Without keys.core_database the command says that it has not compared with Core.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from gateway.cli.console import EXIT_CODES, config_option, say, write_json
from gateway.cli.keys.display import output_option
from gateway.cli.keys.store import authority_of, load_for_keys, open_core_rows, run_with_store
from gateway.config import Config
from gateway.keys.core.leaving import LeavingTask, task_with_row, task_without_record, task_without_table
from gateway.keys.core.records import CoreRow
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore, RecordReader
from gateway.policy.explanation import printable
from gateway.server.clocks import utc_now
from gateway.server.exit_codes import Exit


@click.command(epilog=EXIT_CODES, short_help="List what to do before the gateway is removed.")
@output_option
@config_option
def leave(*, output: str, path: Path) -> None:
    """List what has to be done in Core before clients use it without the gateway; exit with 1 if anything.

    A key has one of three tasks. mint: it works only here, so its client needs a key of Core. revoke: it is
    refused here, and Core would accept it. decide: Core would accept more of it than is accepted here, for it
    has no terms, or other scopes, or another end there. Nothing is changed.

    With keys.core_database, keys are compared with Core's table. Without it, keys that were imported from
    Core count as unchanged there.

    \b
    Examples:
      blnk-gateway keys leave
      blnk-gateway keys leave --output json
    """
    config = load_for_keys(path, changing=False)
    compared = config.keys.core_database != "" or "keys.core_database" in config.unset
    tasks = run_with_store(config, lambda store: _tasks(config, store, compared=compared))
    if output == "json":
        write_json({"compared": compared, "tasks": [asdict(task) for task in tasks]})
    else:
        _say_tasks(tasks, compared=compared)
    sys.exit(Exit.FAILED if tasks else Exit.OK)


async def _tasks(config: Config, store: KeyStore, *, compared: bool) -> list[LeavingTask]:
    """Return all tasks, by task and owner."""
    records = await _records(store)
    now = utc_now().timestamp()
    if compared:
        row_is_key = not authority_of(config).store_is_record
        found = _compared(records, await _rows(config), now, row_is_key=row_is_key)
    else:
        found = [task_without_table(record, now) for record in records.values()]
    tasks = [task for task in found if task is not None]
    return sorted(tasks, key=lambda task: (task.task, task.owner, task.key_id))


async def _records(store: RecordReader) -> dict[str, KeyRecord]:
    return {record.id: record async for batch in store.scan() for record in batch}


async def _rows(config: Config) -> dict[str, CoreRow]:
    core = open_core_rows(config)
    try:
        return {row.id: row async for _, rows in core.scan() for row in rows}
    finally:
        core.close()


def _compared(
    records: dict[str, KeyRecord], rows: dict[str, CoreRow], now: float, *, row_is_key: bool
) -> list[LeavingTask | None]:
    known = [
        task_with_row(record, rows.get(record.id), now, row_is_key=row_is_key) for record in records.values()
    ]
    if row_is_key:
        return known
    return known + [task_without_record(row, now) for row in rows.values() if row.id not in records]


def _say_tasks(tasks: Sequence[LeavingTask], *, compared: bool) -> None:
    for task in tasks:
        say("\t".join(map(printable, (task.task, task.key_id, task.owner, task.name, task.why))))
    if not compared:
        say("not compared with Core's table, because keys.core_database is not set", err=True)
    say(f"{len(tasks)} to do" if tasks else "nothing to do for any key", err=True)
