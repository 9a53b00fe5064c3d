"""The command that removes records of keys that ended long ago: prune.

Rules kept here:
- Records are written to a file, on disk, before they are removed; to keep no file takes an option of its own.
- `keys import` can read the file. It is new, and only its owner can read it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from gateway.audit.author import Way
from gateway.cli.arguments import PastTime, RecordText, When, resolve_past
from gateway.cli.console import EXIT_CODES, config_option, say, write_json
from gateway.cli.keys.display import output_option_with
from gateway.cli.keys.hand_over import create_file, fail_for_file
from gateway.cli.keys.reader import KeyReader, open_key_reader
from gateway.cli.keys.store import load_for_keys, run_with_store
from gateway.cli.progress import progress, resumable
from gateway.config import Config
from gateway.gocompat.times import Instant
from gateway.keys.pruning import Link, Removable, link_of, removable, remove
from gateway.keys.record import KeyRecord
from gateway.keys.record_json import encode_record
from gateway.keys.store import KeyStore
from gateway.policy.explanation import printable
from gateway.server.clocks import utc_now


@click.command("prune", epilog=EXIT_CODES, short_help="Remove records of keys that ended long ago.")
@click.option(
    "--dead-before",
    type=PastTime(),
    required=True,
    help="Remove keys that ended before this: an age, such as 90d, or a date or RFC 3339 in the past.",
)
@click.option("--owner", type=RecordText(), help="Remove only this owner's keys.")
@click.option(
    "--export", "file", type=click.Path(path_type=Path), help="Write the records into this new file first."
)
@click.option("--no-export", is_flag=True, help="Keep no copy of the records.")
@click.option("--dry-run", is_flag=True, help="Remove nothing; print how many records would be removed.")
@output_option_with("table for people, json for programs.")
@config_option
def prune(
    *,
    dead_before: When,
    owner: str | None,
    file: Path | None,
    no_export: bool,
    dry_run: bool,
    output: str,
    path: Path,
) -> None:
    """Remove records of keys that were revoked or expired before a time.

    Their keys stay refused, as unknown keys. The export keeps who created and revoked them; `keys import`
    reads it. Gateways may keep running.

    A record stays as long as a key that descends from its key has a record, so that `revoke --descendants`
    finds it. Where keys.authority is core, a record is removed once its key has ended in Core's table too, or
    is not in that table.

    \b
    Examples:
      blnk-gateway keys prune --dead-before 365d --dry-run
      blnk-gateway keys prune --dead-before 2026-01-01 --export dead-2025.jsonl
      blnk-gateway keys import dead-2025.jsonl
    """
    if not dry_run and no_export is (file is not None):
        raise click.UsageError("use --export FILE, which `keys import` can read, or --no-export")
    before = resolve_past(dead_before, utc_now(), "--dead-before")
    config = load_for_keys(path, changing=False)
    with _Export(None if dry_run else file) as export:
        found, removed = _prune(config, before, owner, None if dry_run else export)
    result: dict[str, object] = {
        "dry_run": dry_run,
        "dead_before": str(before),
        "removed": len(found.ids) if dry_run else removed,
        "needed": found.needed,
        "changed": 0 if dry_run else len(found.ids) - removed,
        "export": None if export.file is None else str(export.file),
    }
    if output == "json":
        write_json(result)
    else:
        _say_result(result)


class _Export:
    """A new file for records, removed if it stays empty; without a file nothing is kept.

    Exits with 2 if the file cannot be created or written.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._written = False

    @property
    def advice(self) -> str:
        """Return what to do if the command ends before all records are removed; "" without a file."""
        if self.file is None:
            return ""
        file = printable(str(self.file))
        return f"run the command again; if {file} exists, it has removed records: keep it, name another file"

    def __enter__(self) -> _Export:
        with self._exit_on_error():
            self._open = None if self.file is None else create_file(self.file)
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None and self.file is not None:
            os.close(self._open)
            if not self._written:
                self.file.unlink(missing_ok=True)

    def write(self, records: Sequence[KeyRecord]) -> None:
        """Write records, and return once they are on disk."""
        if self._open is None:
            return
        lines = b"".join(encode_record(record) + b"\n" for record in records)
        with self._exit_on_error():
            while lines:
                lines = lines[os.write(self._open, lines) :]
            os.fsync(self._open)
        self._written = True

    @contextmanager
    def _exit_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            fail_for_file(Path(self.file or ""), error)


def _prune(
    config: Config, before: Instant, owner: str | None, export: _Export | None
) -> tuple[Removable, int]:
    """Return what can be removed, and with `export` how many records were removed."""
    at = utc_now()

    async def work(store: KeyStore) -> tuple[Removable, int]:
        async with open_key_reader(config, store, at) as reader:

            async def ended(records: Sequence[KeyRecord]) -> set[str]:
                return await reader.ended(records, before.unix)

            found = removable(await _links(store, reader, before.unix, owner))
            if export is None:
                return found, 0
            with resumable(export.advice or "run the command again"), progress(len(found.ids)) as advance:
                return found, await remove(store, found.ids, ended, export.write, advance)

    return run_with_store(config, work, advice="" if export is None else export.advice, way=Way.PRUNE)


async def _links(store: KeyStore, reader: KeyReader, before: float, owner: str | None) -> list[Link]:
    links: list[Link] = []

    async def read(records: Sequence[KeyRecord]) -> None:
        ended = await reader.ended(records, before)
        links.extend(link_of(record, ended=record.id in ended) for record in records)

    if owner is not None:
        # A key, the keys it creates and its successor have one owner.
        await read(await store.owned(owner))
    else:
        async for batch in store.scan():
            await read(batch)
    return links


def _say_result(result: dict[str, object]) -> None:
    would = "would be " if result["dry_run"] else ""
    text = f"{result['removed']} {would}removed"
    if result["export"] is not None and result["removed"]:
        text += f", in {printable(str(result['export']))}"
    say(text)
    if result["needed"]:
        say(f"{result['needed']} stay: they have descendants whose records stay", err=True)
    if result["changed"]:
        say(f"{result['changed']} stay: they were changed in the meantime", err=True)
