"""The verbs of keys that read: list, show, verify, export.

Rules kept here:
- What is read is never changed: verifying a pending key leaves it pending.
- A key to verify comes from a hidden prompt or from standard input, never from an argument, which other
  users of the machine can see.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from gateway.cli.console import EXIT_CODES, config_option
from gateway.cli.records import (
    SECRET,
    fields_of,
    output_option,
    printable,
    public,
    say_fields,
    say_table,
    write_json,
)
from gateway.cli.stores import fail, load_for_keys, now, with_store
from gateway.exits import Exit
from gateway.keys.minting import digest, is_key
from gateway.keys.pending import PREFIX_LENGTH
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore, newest_first
from gateway.policy.principals import State

_KEY_BYTES = 4096


@click.command("list", epilog=EXIT_CODES)
@click.option("--owner", help="Only this owner's keys.")
@output_option
@config_option
def list_keys(*, owner: str | None, output: str, path: Path) -> None:
    """List keys, newest first; revoked ones too.

    \b
    Examples:
      blnk-gateway keys list
      blnk-gateway keys list --owner acme --output json
    """

    async def work(store: KeyStore) -> list[KeyRecord]:
        if owner is not None:
            return await store.owned(owner)
        return sorted(await _every(store), key=newest_first, reverse=True)

    records = with_store(load_for_keys(path, changing=False), work)
    if output == "json":
        write_json([public(record, now()) for record in records])
    else:
        say_table(records, now())


@click.command(epilog=EXIT_CODES)
@click.argument("key_id")
@output_option
@config_option
def show(*, key_id: str, output: str, path: Path) -> None:
    """Show everything about one key, revoked or not: ledger records name keys by their ids.

    \b
    Examples:
      blnk-gateway keys show api_key_...
    """
    record = with_store(load_for_keys(path, changing=False), lambda store: store.get(key_id))
    if record is None:
        fail(f"{printable(key_id)}: no such key", Exit.NO)
    if output == "json":
        write_json(public(record, now()))
    else:
        say_fields(fields_of(record, now()))


@click.command(epilog=EXIT_CODES)
@output_option
@config_option
def verify(*, output: str, path: Path) -> None:
    """Say whose key it is and whether it is live; exits with 1 if it is not.

    Asks for the key without showing it, or reads it from standard input.

    \b
    Examples:
      blnk-gateway keys verify
      blnk-gateway keys verify < acme.key
    """
    config = load_for_keys(path, changing=False)
    key = _read_key()
    record = with_store(config, lambda store: _find(store, key))
    state = "unknown" if record is None else record.state(now().timestamp()).value
    if output == "json":
        write_json({"state": state} if record is None else public(record, now()))
    elif record is None:
        say_fields([("state", state)])
    else:
        say_fields(fields_of(record, now()))
    sys.exit(Exit.YES if state == State.LIVE.value else Exit.NO)


@click.command(epilog=EXIT_CODES)
@click.option(
    "--digests", is_flag=True, help="With what `import` needs: the digests. No key can be had from them."
)
@config_option
def export(*, digests: bool, path: Path) -> None:
    """Write every record as a line of JSON, without anything that tells of its key.

    \b
    Examples:
      blnk-gateway keys export > keys.jsonl
      blnk-gateway keys export --digests | blnk-gateway keys import - --config other.yaml
    """

    async def work(store: KeyStore) -> None:
        seen: set[str] = set()
        async for batch in store.every():
            for record in batch:
                if record.id not in seen:
                    seen.add(record.id)
                    write_json(record if digests else _without_secrets(record))

    with_store(load_for_keys(path, changing=False), work)


def _without_secrets(record: KeyRecord) -> dict[str, object]:
    members: dict[str, object] = msgspec.to_builtins(record)
    return {name: value for name, value in members.items() if name not in SECRET}


async def _every(store: KeyStore) -> list[KeyRecord]:
    found = {record.id: record async for batch in store.every() for record in batch}
    return list(found.values())


def _read_key() -> bytes:
    if sys.stdin.isatty():
        return str(click.prompt("Key", hide_input=True, err=True)).strip().encode()
    return sys.stdin.buffer.read(_KEY_BYTES).strip()


async def _find(store: KeyStore, presented: bytes) -> KeyRecord | None:
    found = await store.find(digest(presented))
    key = presented.decode("ascii", "replace")
    if found is not None or not is_key(key):
        return found
    for record in await store.prefixed(key[:PREFIX_LENGTH]):
        if record.pending and _matches(key, record):
            return record
    return None


def _matches(key: str, record: KeyRecord) -> bool:
    try:
        import bcrypt
    except ImportError:
        fail("a key of Core begins so: install blnk-gateway[core] to verify it", Exit.USAGE)
    return bcrypt.checkpw(key.encode(), record.bcrypt.encode())
