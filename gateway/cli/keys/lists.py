"""The commands that read keys: list, show, verify, export.

Rules kept here:
- A key to verify is read from a hidden prompt or from standard input, never from an argument, which other
  users of the machine can see.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import NoReturn, TypeVar

import click

from gateway.cli.arguments import Duration, KeyId, PastTime, RecordText, When, resolve_past
from gateway.cli.console import EXIT_CODES, config_option, fail, write_json
from gateway.cli.keys.display import (
    SECRET,
    fields_of,
    output_option,
    public,
    say_fields,
    say_table,
)
from gateway.cli.keys.filters import KEY_STATES, KeyFilter
from gateway.cli.keys.left_out import LeftOutKeys
from gateway.cli.keys.reader import KeyReader, open_key_reader
from gateway.cli.keys.store import load_for_keys, run_with_store
from gateway.keys.record import KeyRecord
from gateway.keys.record_json import to_members
from gateway.keys.store import KeyStore, newest_first
from gateway.policy.explanation import printable
from gateway.policy.key_checksum import has_checksum
from gateway.policy.principals import KeyState
from gateway.server.clocks import utc_now
from gateway.server.exit_codes import Exit

Done = TypeVar("Done")

_KEY_BYTES = 4096


@click.command("list", epilog=EXIT_CODES)
@click.option("--owner", type=RecordText(), help="List only this owner's keys.")
@click.option(
    "--state",
    type=click.Choice(KEY_STATES),
    help="List only keys in this state. Rotated and pending keys are live, too.",
)
@click.option("--expires-within", type=Duration(), help="List only keys that end within this time, as 7d.")
@click.option(
    "--unused-since",
    type=PastTime(),
    help="List only keys not used since this age, such as 90d, or date. A key never used counts from its "
    "creation.",
)
@output_option
@config_option
def list_keys(
    *,
    owner: str | None,
    state: str | None,
    expires_within: timedelta | None,
    unused_since: When | None,
    output: str,
    path: Path,
) -> None:
    """List keys, newest first, with revoked ones; with several filters, those that pass all of them.

    A rotated key still works, until its overlap ends. A pending key came from Core's table, and was not used
    here yet.

    A terminal of fewer than 140 columns shows less of each key; `show` and --output json print everything. On
    a pipe the cells of a row are separated by tabs.

    \b
    Examples:
      blnk-gateway keys list
      blnk-gateway keys list --owner acme --output json
      blnk-gateway keys list --state live --expires-within 7d
      blnk-gateway keys list --state live --unused-since 90d
    """
    now = utc_now()
    unused = None if unused_since is None else resolve_past(unused_since, now, "--unused-since")
    chosen = KeyFilter(state, expires_within, unused)

    async def work(reader: KeyReader) -> list[KeyRecord]:
        if owner is not None:
            return await reader.owned(owner)
        return list({record.id: record async for batch in reader.scan() for record in batch}.values())

    left_out = LeftOutKeys()
    found = (record for record in _read(path, work, left_out) if chosen.passes(record, now.timestamp()))
    records = sorted(found, key=newest_first, reverse=True)
    if output == "json":
        write_json([public(record, now) for record in records])
    else:
        say_table(records, now)
    left_out.fail_if_any("its record is left out")


@click.command(epilog=EXIT_CODES, short_help="Show everything about one key.")
@click.argument("key_id", type=KeyId())
@output_option
@config_option
def show(*, key_id: str, output: str, path: Path) -> None:
    """Show everything about one key, also about a revoked one: records of the ledger hold ids of keys.

    \b
    Examples:
      blnk-gateway keys show api_key_...
    """

    async def work(reader: KeyReader) -> tuple[KeyRecord | None, list[str]]:
        return await reader.get(key_id), [key.id for key in await reader.successors(key_id)]

    record, successors = _read(path, work)
    if record is None:
        fail(f"{printable(key_id)}: no such key", Exit.FAILED)
    if output == "json":
        write_json({**public(record, utc_now()), "replaced_by": successors})
    else:
        say_fields([*fields_of(record, utc_now()), ("replaced by", ", ".join(successors))])


@click.command(
    epilog=EXIT_CODES,
    short_help="Show whose key it is, and whether it is live.",
    context_settings={"allow_extra_args": True},
)
@click.option(
    "--offline", is_flag=True, help="Check only the checksum of a key with a prefix; ask nothing and nobody."
)
@output_option
@config_option
@click.pass_context
def verify(ctx: click.Context, *, offline: bool, output: str, path: Path) -> None:
    """Show whose key it is, and whether it is live; exit with 1 if it is not.

    The command asks for the key without showing it, or reads it from standard input if that is no terminal.

    \b
    Examples:
      blnk-gateway keys verify
      blnk-gateway keys verify < acme.key
      blnk-gateway keys verify --offline < found.txt
    """
    if ctx.args:
        raise click.UsageError(
            "a key must not be an argument, which other users can see: type it when the command asks for it"
        )
    key = _read_key()
    if not key:
        fail("no key was given: type it, or send it to standard input", Exit.USAGE)
    if offline:
        _verify_checksum(key, output)
    record = _read(path, lambda reader: reader.get_by_key(key))
    state = "unknown" if record is None else record.state(utc_now().timestamp()).value
    if output == "json":
        write_json({"state": state} if record is None else public(record, utc_now()))
    elif record is None:
        say_fields([("state", state)])
    else:
        say_fields(fields_of(record, utc_now()))
    sys.exit(Exit.OK if state == KeyState.LIVE.value else Exit.FAILED)


def _verify_checksum(key: bytes, output: str) -> NoReturn:
    """Print whether the key has a prefix and its checksum; exit with 1 unless it has."""
    found = has_checksum(key.decode("ascii", "replace"))
    checksum = "right" if found else "wrong, or the key has no prefix"
    if output == "json":
        write_json({"checksum": found})
    else:
        say_fields([("checksum", checksum)])
    sys.exit(Exit.OK if found else Exit.FAILED)


@click.command(epilog=EXIT_CODES, short_help="Print every record as a line of JSON.")
@click.option(
    "--digests",
    is_flag=True,
    help="Add the digests, which `import` needs. No key can be recovered from them.",
)
@config_option
def export(*, digests: bool, path: Path) -> None:
    """Print every record as a line of JSON, without anything that reveals its key.

    \b
    Examples:
      blnk-gateway keys export > keys.jsonl
      blnk-gateway keys export --digests > keys.jsonl && blnk-gateway keys import keys.jsonl --config new.yaml
    """

    async def work(reader: KeyReader) -> None:
        seen: set[str] = set()
        async for batch in reader.scan():
            for record in batch:
                if record.id not in seen:
                    seen.add(record.id)
                    write_json(_exported(record, digests=digests))

    left_out = LeftOutKeys()
    _read(path, work, left_out)
    left_out.fail_if_any("its record is left out")


def _read(
    path: Path, work: Callable[[KeyReader], Awaitable[Done]], left_out: LeftOutKeys | None = None
) -> Done:
    config = load_for_keys(path, changing=False)

    async def with_reader(store: KeyStore) -> Done:
        async with open_key_reader(config, store, utc_now()) as reader:
            return await work(reader)

    return run_with_store(config, with_reader, left_out=None if left_out is None else left_out.add)


def _exported(record: KeyRecord, *, digests: bool) -> dict[str, object]:
    members = to_members(record)
    return {name: value for name, value in members.items() if digests or name not in SECRET}


def _read_key() -> bytes:
    if sys.stdin.isatty():
        try:
            return str(click.prompt("Key", hide_input=True, err=True)).strip().encode()
        except UnicodeError:
            fail("this is no key: all characters of a key are ASCII", Exit.FAILED)
    return sys.stdin.buffer.read(_KEY_BYTES).strip()
