"""The verbs of keys that make and change them: create, rotate, revoke, disable, enable.

Rules kept here:
- Every change names who made it, `cli:` and the login, when, and why if that was said.
- A rotation ends the old key and stores the new one in one step, before the new key is shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from gateway.cli.console import EXIT_CODES, config_option, say
from gateway.cli.key_import import import_keys
from gateway.cli.key_lists import export, list_keys, show, verify
from gateway.cli.new_keys import (
    KeyPlace,
    Moment,
    Span,
    after,
    hand_over,
    moment,
    out_option,
    overlap_end,
    print_option,
)
from gateway.cli.records import output_option, printable, public, write_json
from gateway.cli.stores import fail, load_for_keys, login, now, with_store, written
from gateway.exits import Exit
from gateway.keys.descendants import revoke_with_descendants
from gateway.keys.minting import digest, mint_id, mint_key
from gateway.keys.record import KeyRecord, RefusedRecordError
from gateway.keys.store import KeyStore

F = TypeVar("F", bound=Callable[..., Any])


@click.group(epilog=EXIT_CODES)
def keys() -> None:
    """Make, show, change, and take over the keys in the key store.

    Needs the key store alone: no master key, and no gateway that runs.

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


_reason_option = click.option("--reason", default="", help="Why; kept in the record.")
_change = _in_one(click.argument("key_id"), _reason_option, output_option, config_option)


class Scopes(click.ParamType[tuple[str, ...]]):
    """Scopes, separated by commas."""

    name = "scopes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The scopes."""
        scopes = tuple(part.strip() for part in value.split(","))
        for scope in scopes:
            resource, _, action = scope.partition(":")
            if not resource or not action or ":" in action or not scope.isprintable() or " " in scope:
                self.fail("write resource:action, as ledgers:read, separated by commas", param, ctx)
        return scopes


@keys.command(epilog=EXIT_CODES)
@click.option("--owner", required=True, help="Whose key it is.")
@click.option("--scopes", required=True, type=Scopes(), help="resource:action, separated by commas.")
@click.option("--expires", required=True, type=Moment(), help="The time from now, as 90d, or RFC 3339.")
@click.option("--name", default="", help="What it is for; the owner if left out.")
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
    if not owner:
        fail("--owner: this is empty", Exit.USAGE)
    config = load_for_keys(path, changing=True)
    at = now()
    key = mint_key(os.urandom)
    record = KeyRecord(
        id=mint_id(os.urandom),
        digest=digest(key),
        name=name or owner,
        owner=owner,
        scopes=scopes,
        expires_at=moment(expires, at),
        created_at=written(at),
        created_by=login(),
    )
    with KeyPlace(out, print_key=print_key) as place:
        with_store(config, lambda store: store.add(record))
        hand_over(config, record, key, place, output, at)


@keys.command(epilog=EXIT_CODES)
@click.argument("key_id")
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
    shown. An overlap of 0s ends it at once.

    \b
    Examples:
      blnk-gateway keys rotate api_key_... --overlap 24h
      blnk-gateway keys rotate api_key_... --overlap 7d --out new.key
    """
    config = load_for_keys(path, changing=True)
    at = now()
    key = mint_key(os.urandom)

    async def work(store: KeyStore) -> KeyRecord | None:
        old = await store.get(key_id)
        if old is None:
            return None
        life = timedelta(seconds=max(old.expires.unix - old.created.unix, 1))
        new = KeyRecord(
            id=mint_id(os.urandom),
            digest=digest(key),
            name=old.name,
            owner=old.owner,
            scopes=old.scopes,
            expires_at=after(at, life) if expires is None else moment(expires, at),
            created_at=written(at),
            created_by=login(),
            replaces=old.id,
        )
        until = overlap_end(at, overlap)
        revised = await store.revise(
            key_id, lambda record: record.retire(until, written(at), login(), reason), successor=new
        )
        return None if revised is None else new

    with KeyPlace(out, print_key=print_key) as place:
        try:
            record = with_store(config, work)
        except RefusedRecordError as error:
            fail(str(error), Exit.NO)
        if record is None:
            _unknown(key_id)
        hand_over(config, record, key, place, output, at)


@keys.command(epilog=EXIT_CODES)
@_change
@click.option("--descendants", is_flag=True, help="Also what the key minted, and what that minted.")
def revoke(*, key_id: str, reason: str, output: str, path: Path, descendants: bool) -> None:
    """Revoke a key, for ever.

    Every gateway on the store refuses it within a second. Revoking again changes nothing.

    \b
    Examples:
      blnk-gateway keys revoke api_key_... --reason "laptop stolen"
      blnk-gateway keys revoke api_key_... --descendants
    """
    at, by = written(now()), login()

    async def work(store: KeyStore) -> list[KeyRecord]:
        if descendants:
            return await revoke_with_descendants(store, key_id, (at, by, reason))
        record = await store.revoke(key_id, at, by, reason)
        return [] if record is None else [record]

    _show_changed(key_id, with_store(load_for_keys(path, changing=True), work), output)


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


@keys.command(epilog=EXIT_CODES)
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
    record = with_store(load_for_keys(path, changing=False), lambda store: store.revise(key_id, revision))
    _show_changed(key_id, [] if record is None else [record], output)
    if record is not None and record.revoked:
        fail(f"{printable(key_id)} is revoked, and stays so", Exit.NO)


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
    fail(f"{printable(key_id)}: no such key", Exit.NO)


for verb in (list_keys, show, verify, export, import_keys):
    keys.add_command(verb)
