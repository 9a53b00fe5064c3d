"""The commands of keys that read: list, show, verify, export.

Rules kept here:
- A key to verify comes from a hidden prompt or from standard input, never from an argument, which other
  users of the machine can see.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from gateway.cli.arguments import KeyId, Text
from gateway.cli.console import EXIT_CODES, config_option
from gateway.cli.key_display import (
    SECRET,
    fields_of,
    output_option,
    printable,
    public,
    say_fields,
    say_table,
    write_json,
)
from gateway.cli.key_reader import KeyReader, key_reader_of
from gateway.cli.key_store import fail, load_for_keys, now, with_store
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore, newest_first
from gateway.policy.principals import KeyState
from gateway.server.exit_codes import Exit

Done = TypeVar("Done")

_KEY_BYTES = 4096


@click.command("list", epilog=EXIT_CODES)
@click.option("--owner", type=Text(), help="Only this owner's keys.")
@output_option
@config_option
def list_keys(*, owner: str | None, output: str, path: Path) -> None:
    """List keys, newest first; revoked ones too.

    A terminal of fewer than 140 characters shows less of each; `show` and --output json tell all.

    \b
    Examples:
      blnk-gateway keys list
      blnk-gateway keys list --owner acme --output json
    """

    async def work(readings: KeyReader) -> list[KeyRecord]:
        if owner is not None:
            return await readings.owned(owner)
        return list({record.id: record async for batch in readings.every() for record in batch}.values())

    records = sorted(_read(path, work), key=newest_first, reverse=True)
    if output == "json":
        write_json([public(record, now()) for record in records])
    else:
        say_table(records, now())


@click.command(epilog=EXIT_CODES, short_help="Show everything about one key.")
@click.argument("key_id", type=KeyId())
@output_option
@config_option
def show(*, key_id: str, output: str, path: Path) -> None:
    """Show everything about one key, revoked or not: ledger records name keys by their ids.

    \b
    Examples:
      blnk-gateway keys show api_key_...
    """

    async def work(readings: KeyReader) -> tuple[KeyRecord | None, list[str]]:
        return await readings.get(key_id), [heir.id for heir in await readings.heirs(key_id)]

    record, heirs = _read(path, work)
    if record is None:
        fail(f"{printable(key_id)}: no such key", Exit.FAILED)
    if output == "json":
        write_json({**public(record, now()), "replaced_by": heirs})
    else:
        say_fields([*fields_of(record, now()), ("replaced by", ", ".join(heirs))])


@click.command(
    epilog=EXIT_CODES, short_help="Say whose key it is.", context_settings={"allow_extra_args": True}
)
@output_option
@config_option
@click.pass_context
def verify(ctx: click.Context, *, output: str, path: Path) -> None:
    """Say whose key it is and whether it is live; exits with 1 if it is not.

    Asks for the key without showing it, or reads it from standard input.

    \b
    Examples:
      blnk-gateway keys verify
      blnk-gateway keys verify < acme.key
    """
    if ctx.args:
        raise click.UsageError("it takes no argument, which others could see: give the key when it asks")
    key = _read_key()
    if not key:
        fail("no key was given", Exit.USAGE)
    record = _read(path, lambda readings: readings.find(key))
    state = "unknown" if record is None else record.state(now().timestamp()).value
    if output == "json":
        write_json({"state": state} if record is None else public(record, now()))
    elif record is None:
        say_fields([("state", state)])
    else:
        say_fields(fields_of(record, now()))
    sys.exit(Exit.OK if state == KeyState.LIVE.value else Exit.FAILED)


@click.command(epilog=EXIT_CODES, short_help="Write every record as a line of JSON.")
@click.option(
    "--digests", is_flag=True, help="With what `import` needs: the digests. No key can be had from them."
)
@config_option
def export(*, digests: bool, path: Path) -> None:
    """Write every record as a line of JSON, without anything that tells of its key.

    \b
    Examples:
      blnk-gateway keys export > keys.jsonl
      blnk-gateway keys export --digests > keys.jsonl && blnk-gateway keys import keys.jsonl --config new.yaml
    """

    async def work(readings: KeyReader) -> None:
        seen: set[str] = set()
        async for batch in readings.every():
            for record in batch:
                if record.id not in seen:
                    seen.add(record.id)
                    write_json(record if digests else _without_secrets(record))

    _read(path, work)


def _read(path: Path, work: Callable[[KeyReader], Awaitable[Done]]) -> Done:
    config = load_for_keys(path, changing=False)

    async def run(store: KeyStore) -> Done:
        async with key_reader_of(config, store, now()) as readings:
            return await work(readings)

    return with_store(config, run)


def _without_secrets(record: KeyRecord) -> dict[str, object]:
    members: dict[str, object] = msgspec.to_builtins(record)
    return {name: value for name, value in members.items() if name not in SECRET}


def _read_key() -> bytes:
    if sys.stdin.isatty():
        try:
            return str(click.prompt("Key", hide_input=True, err=True)).strip().encode()
        except UnicodeError:
            fail("this is no key: a key is 44 characters of ASCII", Exit.FAILED)
    return sys.stdin.buffer.read(_KEY_BYTES).strip()
