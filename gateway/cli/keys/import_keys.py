"""The command that imports keys, from a file of digests or from Core's table: import.

Rules kept here:
- The whole file is checked before anything is stored.
- An import that was interrupted is completed by running it again: records that exist are left unchanged.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Final

import click

from gateway.audit.author import Way
from gateway.cli.console import EXIT_CODES, config_option, fail, say, write_json
from gateway.cli.keys.display import output_option_with
from gateway.cli.keys.operator import operator_name
from gateway.cli.keys.store import authority_of, load_for_keys, run_with_store
from gateway.cli.progress import progress, resumable
from gateway.config import Config
from gateway.gocompat.times import Instant
from gateway.keys.authority import CORE_PACKAGES_INSTALLED
from gateway.keys.core.import_rows import RowsLeftOut, pending_records
from gateway.keys.import_file import ImportResult, import_records, read_records
from gateway.keys.store import KeyStore
from gateway.policy.explanation import printable
from gateway.server.clocks import utc_now
from gateway.server.exit_codes import Exit

MOST_SHOWN = 20
"""The most problems or ids of one kind that are printed."""
_RESUME: Final = "run the command again: keys that are imported already are left unchanged"


@click.command("import", epilog=EXIT_CODES)
@click.argument("file", required=False)
@click.option(
    "--core", is_flag=True, help="Import from Core's table, in the database that keys.core_database names."
)
@click.option("--any-scopes", is_flag=True, help="Accept scopes that open nothing, as Core does.")
@click.option("--dry-run", is_flag=True, help="Store nothing; print what would be done.")
@output_option_with("table for people; json for programs, with the id of every key that was left out.")
@config_option
def import_keys(
    *, file: str | None, core: bool, any_scopes: bool, dry_run: bool, output: str, path: Path
) -> None:
    """Import keys; clients keep using the keys they have.

    A FILE (- for standard input) holds one JSON object a line: digest (SHA-256 of the key in hexadecimal),
    id, name, owner, scopes, expires_at, created_at, and whatever else `export --digests` writes. The quota of
    an owner does not limit an import, but imported keys count for it.

    With --core, the keys of Core's own table are imported. Each is compared with its bcrypt hash at its first
    use, and known by its digest from then on. This needs the packages asyncpg and bcrypt, and a user of the
    database that may read the table.

    A record that exists is left unchanged, except that a key that is revoked in the import is revoked. To
    complete an import that was interrupted, run it again.

    \b
    Examples:
      blnk-gateway keys import keys.jsonl --dry-run
      blnk-gateway keys import keys.jsonl
      blnk-gateway keys import --core
    """
    if core is (file is not None):
        raise click.UsageError("name a FILE, or use --core")
    config = load_for_keys(path, changing=False)
    if not authority_of(config).store_is_record:
        fail(
            f"{path}: keys.authority is core: the keys are in Core's table, so none can be imported",
            Exit.USAGE,
        )
    left = RowsLeftOut()
    if file is not None:
        result = _from_file(config, file, any_scopes=any_scopes, dry_run=dry_run)
    else:
        result = _from_core(config, left, dry_run=dry_run)
    _say_result(result, left, output, dry_run=dry_run)
    sys.exit(Exit.FAILED if result.conflicts else Exit.OK)


def _from_file(config: Config, file: str, *, any_scopes: bool, dry_run: bool) -> ImportResult:
    try:
        lines = sys.stdin.buffer.readlines() if file == "-" else Path(file).read_bytes().splitlines()
    except OSError as error:
        fail(f"{printable(file)}: {error.strerror}", Exit.USAGE)
    records, problems = read_records(
        lines, operator_name(), now=None if any_scopes else utc_now().timestamp()
    )
    if problems:
        for problem in problems[:MOST_SHOWN]:
            say(str(problem.in_source(printable(file))), err=True)
        fail(
            f"wrong lines: {len(problems)}; nothing was imported: correct them, then run the command again",
            Exit.FAILED,
        )
    with progress(len(records)) as advance:

        async def work(store: KeyStore) -> ImportResult:
            with resumable(_RESUME):
                return await import_records(store, records, dry_run=dry_run, progress=advance)

        return run_with_store(config, work, advice=_RESUME, way=Way.IMPORT)


def _from_core(config: Config, left: RowsLeftOut, *, dry_run: bool) -> ImportResult:
    url = config.keys.core_database
    if "keys.core_database" in config.unset:
        fail("keys.core_database names a variable that is not set in the environment", Exit.FAILED)
    if not url:
        fail("keys.core_database is not set: write postgres://user:password@host:5432/database", Exit.USAGE)
    try:
        from gateway.keys.core.rows import CoreRows
    except ImportError:
        fail(f"for --core, install {CORE_PACKAGES_INSTALLED}", Exit.USAGE)
    at = Instant.of(utc_now())

    async def import_all(store: KeyStore, stack: contextlib.ExitStack) -> ImportResult:
        whole = ImportResult()
        advance: Callable[[int], None] | None = None
        async for total, rows in CoreRows(url).scan():
            advance = advance or stack.enter_context(progress(total))
            _add(whole, await import_records(store, pending_records(rows, at, left), dry_run=dry_run))
            advance(len(rows))
        return whole

    async def work(store: KeyStore) -> ImportResult:
        with resumable(_RESUME), contextlib.ExitStack() as stack:
            return await import_all(store, stack)

    return run_with_store(config, work, advice=_RESUME, way=Way.IMPORT)


def _add(whole: ImportResult, part: ImportResult) -> None:
    for item in fields(ImportResult):
        setattr(whole, item.name, getattr(whole, item.name) + getattr(part, item.name))


def _say_result(result: ImportResult, left: RowsLeftOut, output: str, *, dry_run: bool) -> None:
    if output == "json":
        write_json({"dry_run": dry_run, **asdict(result), **asdict(left)})
        return
    would = "would be " if dry_run else ""
    revoked = f", {len(result.revoked)} of them {would}revoked" if result.revoked else ""
    say(f"{result.added} {would}imported, {result.there} already in the store{revoked}")
    _say_left_out(result.conflicts, "with the id or the digest of another key")
    _say_left_out(left.unprefixed, "without a whole key_prefix, which Core does not accept either")
    _say_left_out(
        left.unusable, "without a bcrypt hash of at most 2^14 rounds, an owner, or an id of Core's shape"
    )


def _say_left_out(ids: list[str], what: str) -> None:
    if ids:
        shown = ", ".join(printable(key_id) for key_id in ids[:MOST_SHOWN])
        more = (
            f" and {len(ids) - MOST_SHOWN} more, which --output json prints" if len(ids) > MOST_SHOWN else ""
        )
        say(f"left out: {len(ids)} {what}: {shown}{more}", err=True)
