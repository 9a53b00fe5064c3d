"""The command that changes a key: update.

Rules kept here:
- The keys that a key created keep what they have: the command names those that now may do more than it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from gateway.cli.arguments import (
    FutureTime,
    KeyId,
    KeyName,
    RecordText,
    ScopeList,
    When,
    resolve_future,
)
from gateway.cli.console import EXIT_CODES, config_option, fail, say, write_json
from gateway.cli.dependency_failures import unfinished
from gateway.cli.keys.changed import NOT_SHOWN
from gateway.cli.keys.display import output_option, public, say_fields, terms_fields
from gateway.cli.keys.store import load_for_keys, run_with_store
from gateway.cli.keys.terms import term_options
from gateway.cli.keys.writer import open_key_writer
from gateway.cli.signals import first_signal_held_back
from gateway.keys.descendants import live_descendants
from gateway.keys.key_update import KeyUpdate
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore
from gateway.policy.explanation import printable
from gateway.policy.scopes import grantable
from gateway.policy.term_changes import TermChanges
from gateway.server.clocks import utc_now
from gateway.server.exit_codes import Exit

_MOST_NAMED: Final = 5
_REVOKE: Final = ": to end the key use `keys revoke`"


@click.command(epilog=EXIT_CODES, short_help="Change the scopes, end, name or terms of a key.")
@click.argument("key_id", type=KeyId())
@click.option("--scopes", type=ScopeList(), help="All its scopes, as resource:action, separated by commas.")
@click.option(
    "--expires", type=FutureTime(), help="The end of the key: a duration from now, such as 90d, or RFC 3339."
)
@click.option("--name", type=KeyName(), help="The purpose of the key.")
@term_options(removable=True)
@click.option("--reason", type=RecordText(), default="", help="The reason, kept in the record.")
@output_option
@config_option
def update(
    *,
    key_id: str,
    scopes: tuple[str, ...] | None,
    expires: When | None,
    name: str | None,
    terms: TermChanges,
    reason: str,
    output: str,
    path: Path,
) -> None:
    """Change a live key; clients keep using it.

    Every gateway on the store knows the change within a second. Options that are left out change nothing, and
    `none` removes a term. The keys that the key created keep their scopes and terms. A key that was revoked
    or has expired stays so, and a rotated key does not live longer. Where keys.authority is core, only terms
    can be changed.

    \b
    Examples:
      blnk-gateway keys update api_key_... --scopes ledgers:read --reason "writes moved to another key"
      blnk-gateway keys update api_key_... --expires 90d --allow-from 10.0.0.0/8,192.0.2.7
      blnk-gateway keys update api_key_... --rate none
    """
    at = utc_now()
    expires_at = None if expires is None else resolve_future(expires, at, "--expires", _REVOKE)
    wanted = KeyUpdate(name, scopes, expires_at, terms)
    if wanted.empty:
        raise click.UsageError("name what to change: --scopes, --expires, --name or a term, such as --rate")
    if name == "":
        raise click.UsageError("--name is empty: write the purpose of the key")
    # Core is asked for nothing: it changes no key.
    config = load_for_keys(path, changing=False)

    async def work(store: KeyStore) -> tuple[KeyRecord | None, list[KeyRecord]]:
        async with open_key_writer(config, store, at) as writer:
            record = await writer.update(key_id, wanted, reason)
        with unfinished(NOT_SHOWN):
            return record, [] if record is None else await live_descendants(store, key_id, at.timestamp())

    with first_signal_held_back():
        record, descendants = run_with_store(config, work)
    if record is None:
        fail(f"{printable(key_id)}: no such key", Exit.FAILED)
    if output == "json":
        write_json(public(record, at))
    else:
        say_fields(_changeable(record))
    _warn(record, descendants, wanted)


def _changeable(record: KeyRecord) -> list[tuple[str, str]]:
    return [
        ("id", record.id),
        ("name", record.name),
        ("scopes", ", ".join(record.scopes)),
        ("expires", str(record.expires_at)),
        *terms_fields(record.terms),
    ]


def _warn(record: KeyRecord, descendants: Sequence[KeyRecord], wanted: KeyUpdate) -> None:
    """Say which keys that descend from this one now may do more than it."""
    if wanted.scopes is not None:
        beyond = [key for key in descendants if not grantable(record.scopes, key.scopes)]
        _say_beyond(beyond, "have scopes that it lacks")
    if wanted.terms.named:
        terms = record.terms.of_child(record.id)
        _say_beyond([key for key in descendants if key.terms != terms], "have other terms")


def _say_beyond(keys: Sequence[KeyRecord], why: str) -> None:
    if not keys:
        return
    named = ", ".join(key.id for key in keys[:_MOST_NAMED])
    more = f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
    say(f"live keys that descend from it and {why}: {len(keys)} ({named}{more})", err=True)
