"""The commands of keys that make and change them: create, rotate, revoke, disable, enable.

Rules kept here:
- Every change names who made it, `cli:` and the login, when, and why if that was said.
- A rotation ends the old key and stores the new one in one step, before the new key is shown.
- Where Core is the authority, what it does is the same to whoever runs the command.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from gateway.cli.arguments import KeyId, Label, Moment, Owner, Scopes, Span, Text, moment
from gateway.cli.console import EXIT_CODES, config_option, say
from gateway.cli.groups import CommandGroup
from gateway.cli.key_display import in_utc, output_option, printable, public, write_json
from gateway.cli.key_import import import_keys
from gateway.cli.key_lists import export, list_keys, show, verify
from gateway.cli.key_prune import prune
from gateway.cli.key_store import fail, heirs_of, load_for_keys, login, now, telling, with_store, written
from gateway.cli.key_writer import KeyWriter, Rotation, key_writer_of
from gateway.cli.new_keys import KeyPlace, hand_over, out_option, print_option
from gateway.cli.signals import unbroken
from gateway.config import Config
from gateway.gocompat.times import read_instant
from gateway.keys.api.bodies import Creation
from gateway.keys.quota import QuotaError
from gateway.keys.record import KeyRecord, RefusedRecordError
from gateway.keys.store import KeyStore
from gateway.server.exit_codes import Exit

F = TypeVar("F", bound=Callable[..., Any])
Done = TypeVar("Done")


@click.group(cls=CommandGroup, epilog=EXIT_CODES)
def keys() -> None:
    """Make, show, change, and take over the keys in the key store.

    Needs the key store alone, and no gateway that runs. Without a gateway.yaml, the variable
    BLNK_GATEWAY_KEYS__STORE names the store. Where keys.authority is core, keys are made, replaced and
    revoked by Core, which takes its master key.

    \b
    Examples:
      blnk-gateway keys create --owner acme --scopes ledgers:read --expires 90d
      blnk-gateway keys list --owner acme
      blnk-gateway keys revoke api_key_... --reason "left the company"
    """


def _in_one(*options: Callable[[F], F]) -> Callable[[F], F]:
    def apply(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


_reason_option = click.option("--reason", type=Text(), default="", help="Why; kept in the record.")
_change = _in_one(click.argument("key_id", type=KeyId()), _reason_option, output_option, config_option)


@keys.command(epilog=EXIT_CODES)
@click.option("--owner", required=True, type=Owner(), help="Whose key it is.")
@click.option("--scopes", required=True, type=Scopes(), help="resource:action, separated by commas.")
@click.option("--expires", required=True, type=Moment(), help="The time from now, as 90d, or RFC 3339.")
@click.option("--name", type=Label(), default="", help="What it is for; the owner if left out.")
@out_option
@print_option
@output_option
@config_option
def create(
    *,
    owner: str,
    scopes: tuple[str, ...],
    expires: str,
    name: str,
    out: Path | None,
    print_key: bool,
    output: str,
    path: Path,
) -> None:
    """Make a key, and show it once.

    The key goes to the terminal, or with --out into a new file that only you can read. On a pipe it takes
    --print-key. Everything else about it goes to standard error, with a line to try it.

    \b
    Examples:
      blnk-gateway keys create --owner acme --scopes ledgers:read,ledgers:write --expires 90d
      blnk-gateway keys create --owner acme --scopes '*:*' --expires 2027-01-31T00:00:00Z --out acme.key
    """
    config = load_for_keys(path, changing=True)
    at = now()
    creation = Creation(name or owner, scopes, owner, read_instant(moment(expires, at).encode()))
    with unbroken(), KeyPlace(out, print_key=print_key) as place:
        try:
            made = _with_changes(config, at, lambda changes: changes.create(creation))
        except QuotaError as refused:
            fail(str(refused), Exit.FAILED)
        hand_over(config, made, place, output, at)


@keys.command(epilog=EXIT_CODES)
@click.argument("key_id", type=KeyId())
@click.option(
    "--overlap", type=Span(), default="24h", show_default=True, help="How long the old key still works."
)
@click.option(
    "--expires", type=Moment(), help="The new key's end; as long a life as the old one's if left out."
)
@_reason_option
@out_option
@print_option
@output_option
@config_option
def rotate(
    *,
    key_id: str,
    overlap: timedelta,
    expires: str | None,
    reason: str,
    out: Path | None,
    print_key: bool,
    output: str,
    path: Path,
) -> None:
    """Make a new key in place of one, which ends after an overlap.

    The new key has the same owner, name and scopes. That the old one ends is stored before the new one is
    shown. An overlap of 0s ends it at once. Where keys.authority is core, a running gateway then revokes the
    old key in Core.

    \b
    Examples:
      blnk-gateway keys rotate api_key_... --overlap 24h
      blnk-gateway keys rotate api_key_... --overlap 7d --out new.key
    """
    config = load_for_keys(path, changing=True)
    at = now()
    rotation = Rotation(overlap, None if expires is None else moment(expires, at), reason)
    with unbroken(), KeyPlace(out, print_key=print_key) as place:
        try:
            made = _with_changes(config, at, lambda changes: changes.rotate(key_id, rotation))
        except RefusedRecordError as error:
            fail(str(error), Exit.FAILED)
        if made is None:
            _unknown(key_id)
        hand_over(config, made, place, output, at)


@keys.command(epilog=EXIT_CODES)
@click.option("--descendants", is_flag=True, help="Also what the key minted, and what that minted.")
@_change
def revoke(*, key_id: str, reason: str, output: str, path: Path, descendants: bool) -> None:
    """Revoke a key, for ever.

    Every gateway on the store refuses it within a second. Revoking again changes nothing, the reason neither.
    What it was rotated into goes on; with --descendants what a key that it minted was rotated into does not.

    \b
    Examples:
      blnk-gateway keys revoke api_key_... --reason "laptop stolen"
      blnk-gateway keys revoke api_key_... --descendants
    """
    config = load_for_keys(path, changing=True)

    async def work(store: KeyStore) -> tuple[list[KeyRecord], list[KeyRecord]]:
        async with key_writer_of(config, store, now()) as changes:
            revoked = await changes.revoke(key_id, reason, descendants=descendants)
        with telling():
            return revoked, await heirs_of(store, key_id) if revoked else []

    with unbroken():
        revoked, heirs = with_store(config, work)
    _show_changed(key_id, revoked, output)
    first = revoked[0]
    if reason and first.revoked_reason != reason:
        when = in_utc(first.revoked_at, 0) if first.revoked_at else "nobody knows when"
        who = printable(first.revoked_by)
        say(f"it was revoked before, {when} by {who}: the reason given now is not kept", err=True)
    for heir in heirs:
        if not heir.revoked:
            say(f"it was rotated into {heir.id}, which is {heir.state(now().timestamp()).value}", err=True)


@keys.command(epilog=EXIT_CODES)
@_change
def disable(*, key_id: str, reason: str, output: str, path: Path) -> None:
    """Refuse a key until it is enabled again.

    \b
    Examples:
      blnk-gateway keys disable api_key_... --reason "invoice unpaid"
    """
    at, by = written(now()), login()
    _revise(path, key_id, output, lambda record: record.disable(at, by, reason))


@keys.command(epilog=EXIT_CODES, short_help="Accept a key again that was disabled.")
@_change
def enable(*, key_id: str, reason: str, output: str, path: Path) -> None:
    """Accept a key again that was disabled; one that was revoked stays revoked.

    \b
    Examples:
      blnk-gateway keys enable api_key_...
    """
    at, by = written(now()), login()
    _revise(path, key_id, output, lambda record: record.enable(at, by, reason))


def _revise(path: Path, key_id: str, output: str, revision: Callable[[KeyRecord], KeyRecord]) -> None:
    # The store's word counts where it is stricter than Core's.
    config = load_for_keys(path, changing=False)
    with unbroken():
        record = _with_changes(config, now(), lambda changes: changes.revise(key_id, revision))
    _show_changed(key_id, [] if record is None else [record], output)
    if record is not None and record.revoked:
        fail(f"{printable(key_id)} is revoked, and stays so", Exit.FAILED)


def _with_changes(config: Config, at: datetime, work: Callable[[KeyWriter], Awaitable[Done]]) -> Done:
    async def run(store: KeyStore) -> Done:
        async with key_writer_of(config, store, at) as changes:
            return await work(changes)

    return with_store(config, run)


def _show_changed(key_id: str, records: list[KeyRecord], output: str) -> None:
    if not records:
        _unknown(key_id)
    at = now()
    if output == "json":
        write_json([public(record, at) for record in records])
        return
    for record in records:
        say(f"{record.id}\t{record.state(at.timestamp()).value}")


def _unknown(key_id: str) -> NoReturn:
    fail(f"{printable(key_id)}: no such key", Exit.FAILED)


for command in (list_keys, show, verify, export, import_keys, prune):
    keys.add_command(command)
