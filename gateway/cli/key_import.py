"""The command that takes keys over: from a file of digests, or from Core's table.

Rules kept here:
- A file is checked whole before anything is stored.
- What was cut short is finished by running it again: what is there is left alone.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Final

import click

from gateway.cli.console import EXIT_CODES, config_option, say
from gateway.cli.key_display import output_as, printable, write_json
from gateway.cli.key_store import fail, load_for_keys, login, now, with_store
from gateway.cli.progress import progress, resumable
from gateway.config import Config
from gateway.gocompat.times import Instant
from gateway.keys.authority import CORE_PACKAGES_INSTALLED
from gateway.keys.core.import_rows import Left, pending_records
from gateway.keys.import_file import ImportResult, import_records, read_records
from gateway.keys.store import KeyStore
from gateway.server.exit_codes import Exit

MOST_SHOWN = 20
"""How many problems or ids are shown of one kind."""
_AGAIN: Final = "run it again: what is imported by then is left alone"


@click.command("import", epilog=EXIT_CODES)
@click.argument("file", required=False)
@click.option("--core", is_flag=True, help="From Core's table, which keys.core_database names.")
@click.option("--any-scopes", is_flag=True, help="Take scopes that open nothing, as Core does.")
@click.option("--dry-run", is_flag=True, help="Store nothing; say what would be done.")
@output_as("A line for people; or JSON, with the id of every key that was left out.")
@config_option
def import_keys(
    *, file: str | None, core: bool, any_scopes: bool, dry_run: bool, output: str, path: Path
) -> None:
    """Take keys over, without anyone's key changing.

    A FILE (- for standard input) holds one JSON object a line: digest (SHA-256 of the key in hexadecimal),
    id, name, owner, scopes, expires_at, created_at, and whatever else `export --digests` writes. No quota of
    an owner holds for it, and the keys count.

    With --core, the keys in Core's own table: each is compared with its bcrypt hash at its first use, and
    from then on known by its digest. Needs the packages asyncpg and bcrypt; the right to read is enough.

    What is there already is left as it is, but what is revoked in the import is revoked. An import that
    was cut short is finished by running it again.

    \b
    Examples:
      blnk-gateway keys import keys.jsonl --dry-run
      blnk-gateway keys import keys.jsonl
      blnk-gateway keys import --core
    """
    if core is (file is not None):
        raise click.UsageError("name a FILE, or say --core")
    config = load_for_keys(path, changing=False)
    if config.keys.authority != "gateway":
        fail(f"{path}: keys.authority is core: its keys are Core's, and none is to be imported", Exit.USAGE)
    left = Left()
    if file is not None:
        outcome = _from_file(config, file, any_scopes=any_scopes, dry_run=dry_run)
    else:
        outcome = _from_core(config, left, dry_run=dry_run)
    _say_outcome(outcome, left, output, dry_run=dry_run)
    sys.exit(Exit.FAILED if outcome.conflicts else Exit.OK)


def _from_file(config: Config, file: str, *, any_scopes: bool, dry_run: bool) -> ImportResult:
    try:
        lines = sys.stdin.buffer.readlines() if file == "-" else Path(file).read_bytes().splitlines()
    except OSError as error:
        fail(f"{printable(file)}: {error.strerror}", Exit.USAGE)
    records, problems = read_records(lines, login(), now=None if any_scopes else now().timestamp())
    if problems:
        for problem in problems[:MOST_SHOWN]:
            say(str(problem.in_source(printable(file))), err=True)
        fail(f"lines that are wrong: {len(problems)}; nothing was imported", Exit.FAILED)
    with progress(len(records)) as advance:

        async def work(store: KeyStore) -> ImportResult:
            with resumable(_AGAIN):
                return await import_records(store, records, dry_run=dry_run, progress=advance)

        return with_store(config, work, todo=_AGAIN)


def _from_core(config: Config, left: Left, *, dry_run: bool) -> ImportResult:
    url = config.keys.core_database
    if "keys.core_database" in config.unset:
        fail("keys.core_database names a variable that is not set in the environment", Exit.FAILED)
    if not url:
        fail("keys.core_database is not set: write postgres://user:password@host:5432/database", Exit.USAGE)
    try:
        from gateway.keys.core.table import UnreadableTableError, read_table
    except ImportError:
        fail(f"--core needs {CORE_PACKAGES_INSTALLED}", Exit.USAGE)
    at = Instant.of(now())

    async def work(store: KeyStore) -> ImportResult:
        whole = ImportResult()
        with resumable(_AGAIN), contextlib.ExitStack() as stack:
            advance: Callable[[int], None] | None = None
            async for total, rows in read_table(url):
                advance = advance or stack.enter_context(progress(total))
                _add(whole, await import_records(store, pending_records(rows, at, left), dry_run=dry_run))
                advance(len(rows))
        return whole

    try:
        return with_store(config, work, todo=_AGAIN)
    except UnreadableTableError as error:
        fail(str(error), Exit.DEPENDENCY)


def _add(whole: ImportResult, part: ImportResult) -> None:
    for item in fields(ImportResult):
        setattr(whole, item.name, getattr(whole, item.name) + getattr(part, item.name))


def _say_outcome(outcome: ImportResult, left: Left, output: str, *, dry_run: bool) -> None:
    if output == "json":
        write_json({"dry_run": dry_run, **asdict(outcome), **asdict(left)})
        return
    would = "would be " if dry_run else ""
    revoked = f", {len(outcome.revoked)} of them {would}revoked" if outcome.revoked else ""
    say(f"{outcome.added} {would}imported, {outcome.there} there already{revoked}")
    _say_left(outcome.conflicts, "whose id or digest is another key's")
    _say_left(left.unprefixed, "without a whole key_prefix, whose keys Core accepts no longer either")
    _say_left(
        left.unusable, "without a bcrypt hash of at most 2^14 rounds, an owner, or an id of Core's shape"
    )


def _say_left(ids: list[str], what: str) -> None:
    if ids:
        shown = ", ".join(printable(key_id) for key_id in ids[:MOST_SHOWN])
        more = (
            f" and {len(ids) - MOST_SHOWN} more, which --output json lists" if len(ids) > MOST_SHOWN else ""
        )
        say(f"left out: {len(ids)} {what}: {shown}{more}", err=True)
