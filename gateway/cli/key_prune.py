"""The command that removes records of keys that ended long ago.

Rules kept here:
- Records are in a file, on disk, before they are removed; without a file it takes a flag of its own.
- The file is what `keys import` reads. It is new, and for its owner alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from gateway.cli.arguments import Past, Text, past
from gateway.cli.console import EXIT_CODES, config_option, say
from gateway.cli.key_display import output_as, printable, write_json
from gateway.cli.key_reader import KeyReader, key_reader_of
from gateway.cli.key_store import fail, load_for_keys, now, with_store
from gateway.cli.new_keys import new_file
from gateway.cli.progress import progress, resumable
from gateway.config import Config
from gateway.gocompat.times import Instant, read_instant
from gateway.keys.pruning import Link, Removable, link_of, removable, remove
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore
from gateway.server.exit_codes import Exit

_AGAIN = "run it again, with another file: what is removed by then is in this one"


@click.command("prune", epilog=EXIT_CODES, short_help="Remove records of keys that ended long ago.")
@click.option(
    "--dead-before", type=Past(), required=True, help="The age, as 90d; or a date, or RFC 3339, in the past."
)
@click.option("--owner", type=Text(), help="Only this owner's keys.")
@click.option("--export", "file", type=click.Path(path_type=Path), help="Write them into a new file first.")
@click.option("--no-export", is_flag=True, help="Keep nothing of them.")
@click.option("--dry-run", is_flag=True, help="Remove nothing; say how many would go.")
@output_as("A line for people; or JSON.")
@config_option
def prune(
    *,
    dead_before: str,
    owner: str | None,
    file: Path | None,
    no_export: bool,
    dry_run: bool,
    output: str,
    path: Path,
) -> None:
    """Remove records of keys that have been revoked or expired since before then.

    Their keys stay refused: nobody knows them any longer. Who made and revoked them is in the export, which
    `keys import` reads. Gateways may run meanwhile.

    A record stays while a key that descends from its key has one, so that `revoke --descendants` finds it.
    Where keys.authority is core, a record goes once its key has ended in Core's table, too, or is not there.

    \b
    Examples:
      blnk-gateway keys prune --dead-before 365d --dry-run
      blnk-gateway keys prune --dead-before 2026-01-01 --export dead-2025.jsonl
      blnk-gateway keys import dead-2025.jsonl
    """
    if not dry_run and no_export is (file is not None):
        raise click.UsageError("say --export FILE, from which `keys import` brings them back, or --no-export")
    before = past(dead_before, now())
    config = load_for_keys(path, changing=False)
    with _Export(None if dry_run else file) as export:
        found, removed = _prune(config, read_instant(before.encode()), owner, None if dry_run else export)
    outcome = {
        "dry_run": dry_run,
        "dead_before": before,
        "removed": len(found.ids) if dry_run else removed,
        "needed": found.needed,
        "changed": 0 if dry_run else len(found.ids) - removed,
        "export": None if export.file is None else str(export.file),
    }
    if output == "json":
        write_json(outcome)
    else:
        _say(outcome)


class _Export:
    """A new file for records; without a file it keeps nothing. One that stays empty goes.

    Exits with 2 if it cannot be made, or written.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._written = False

    def __enter__(self) -> _Export:
        with self._failing():
            self._open = None if self.file is None else new_file(self.file)
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
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
        with self._failing():
            while lines:
                lines = lines[os.write(self._open, lines) :]
            os.fsync(self._open)
        self._written = True

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            todo = ": name a new file" if isinstance(error, FileExistsError) else ""
            fail(f"{printable(str(self.file))}: {error.strerror}{todo}", Exit.USAGE)


def _prune(
    config: Config, before: Instant, owner: str | None, export: _Export | None
) -> tuple[Removable, int]:
    """What can be removed, and, with `export`, how many were."""
    at = now()

    async def work(store: KeyStore) -> tuple[Removable, int]:
        async with key_reader_of(config, store, at) as readings:

            async def ended(records: Sequence[KeyRecord]) -> set[str]:
                return await readings.ended(records, before.unix)

            found = removable(await _links(store, readings, before.unix, owner))
            if export is None:
                return found, 0
            with resumable(_AGAIN), progress(len(found.ids)) as advance:
                return found, await remove(store, found.ids, ended, export.write, advance)

    return with_store(config, work, todo=_AGAIN if export is not None else "")


async def _links(store: KeyStore, readings: KeyReader, before: float, owner: str | None) -> list[Link]:
    links: list[Link] = []

    async def read(records: Sequence[KeyRecord]) -> None:
        ended = await readings.ended(records, before)
        links.extend(link_of(record, ended=record.id in ended) for record in records)

    if owner is not None:
        # A key, what it creates and what it is rotated into have one owner.
        await read(await store.owned(owner))
    else:
        async for batch in store.every():
            await read(batch)
    return links


def _say(outcome: dict[str, object]) -> None:
    would = "would be " if outcome["dry_run"] else ""
    said = f"{outcome['removed']} {would}removed"
    if outcome["export"] is not None and outcome["removed"]:
        said += f", in {printable(str(outcome['export']))}"
    say(said)
    if outcome["needed"]:
        say(f"{outcome['needed']} stay: keys whose records stay descend from them", err=True)
    if outcome["changed"]:
        say(f"{outcome['changed']} stay: they were changed meanwhile", err=True)
