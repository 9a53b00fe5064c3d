"""The commands that create and replace keys, and switch them off and on: create, rotate, disable, enable.

Rules kept here:
- Every change records who made it (`cli:` and the login), when, and why if a reason was given.
- A rotation ends the old key and stores the new one in one step, before the new key is shown.
- Each command works the same way whether the key store or Core is the authority.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.cli.arguments import (
    Duration,
    FutureTime,
    KeyId,
    KeyName,
    OwnerName,
    RecordText,
    ScopeList,
    When,
    resolve_future,
    time_after,
)
from gateway.cli.console import EXIT_CODES, config_option, fail
from gateway.cli.keys.changed import fail_unknown, show_changed
from gateway.cli.keys.display import output_option
from gateway.cli.keys.hand_over import KeyDestination, hand_over, out_option, print_option
from gateway.cli.keys.operator import operator_name
from gateway.cli.keys.rotation import Rotation
from gateway.cli.keys.store import load_for_keys, run_with_store
from gateway.cli.keys.terms import term_options, terms_of_new_key
from gateway.cli.keys.writer import KeyWriter, open_key_writer
from gateway.cli.signals import first_signal_held_back
from gateway.config import Config
from gateway.gocompat.times import Instant
from gateway.keys.new_record import Creation
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore
from gateway.policy.explanation import printable
from gateway.policy.term_changes import TermChanges
from gateway.server.clocks import utc_now
from gateway.server.exit_codes import Exit

F = TypeVar("F", bound=Callable[..., Any])
Done = TypeVar("Done")


def _combined(*options: Callable[[F], F]) -> Callable[[F], F]:
    def apply(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


_reason_option = click.option(
    "--reason", type=RecordText(), default="", help="The reason, kept in the record."
)
_change_options = _combined(
    click.argument("key_id", type=KeyId()), _reason_option, output_option, config_option
)
_new_key_options = _combined(out_option, print_option, output_option, config_option)


@click.command(epilog=EXIT_CODES)
@click.option("--owner", required=True, type=OwnerName(), help="The owner of the key.")
@click.option(
    "--scopes",
    required=True,
    type=ScopeList(),
    help="The scopes, as resource:action, separated by commas.",
)
@click.option(
    "--expires",
    required=True,
    type=FutureTime(),
    help="The end of the key: a duration from now, such as 90d, or RFC 3339.",
)
@click.option("--name", type=KeyName(), default="", help="The purpose of the key; by default the owner.")
@term_options(removable=False)
@_new_key_options
def create(
    *,
    owner: str,
    scopes: tuple[str, ...],
    expires: When,
    name: str,
    terms: TermChanges,
    out: Path | None,
    print_key: bool,
    output: str,
    path: Path,
) -> None:
    """Create a key, and show it once.

    The key is printed on the terminal. With --out it is written into a new file that only you can read. On a
    pipe it is printed only with --print-key. Everything else about the key goes to standard error, with a
    curl command to try it.

    \b
    Examples:
      blnk-gateway keys create --owner acme --scopes ledgers:read,ledgers:write --expires 90d
      blnk-gateway keys create --owner acme --scopes '*:*' --expires 2027-01-31T00:00:00Z --out acme.key
      blnk-gateway keys create --owner acme --scopes ledgers:read --expires 90d --allow-from 10.0.0.0/8
    """
    config = load_for_keys(path, changing=True)
    at = utc_now()
    expires_at = resolve_future(expires, at, "--expires")
    creation = Creation(name or owner, scopes, owner, expires_at, terms_of_new_key(terms))
    with first_signal_held_back(), KeyDestination(out, print_key=print_key) as destination:
        made = _run_with_writer(config, at, lambda writer: writer.create(creation))
        hand_over(config, made, destination, output, at)


@click.command(epilog=EXIT_CODES)
@click.argument("key_id", type=KeyId())
@click.option(
    "--overlap",
    type=Duration(),
    default="24h",
    show_default=True,
    help="How long the old key still works.",
)
@click.option(
    "--expires",
    type=FutureTime(),
    help="The end of the new key; by default it lives as long as the old one was made to.",
)
@_reason_option
@_new_key_options
def rotate(
    *,
    key_id: str,
    overlap: timedelta,
    expires: When | None,
    reason: str,
    out: Path | None,
    print_key: bool,
    output: str,
    path: Path,
) -> None:
    """Replace a key: create its successor, and end the key after an overlap.

    The new key has the same owner, name, scopes and terms. The end of the old key is stored before the new
    key is shown. With an overlap of 0s the old key ends at once. Where keys.authority is core, a running
    gateway revokes the old key in Core once it has ended.

    \b
    Examples:
      blnk-gateway keys rotate api_key_... --overlap 24h
      blnk-gateway keys rotate api_key_... --overlap 7d --out new.key
    """
    config = load_for_keys(path, changing=True)
    at = utc_now()
    expires_at = None if expires is None else resolve_future(expires, at, "--expires")
    rotation = Rotation(time_after(at, overlap, "--overlap"), expires_at, reason)
    with first_signal_held_back(), KeyDestination(out, print_key=print_key) as destination:
        made = _run_with_writer(config, at, lambda writer: writer.rotate(key_id, rotation))
        if made is None:
            fail_unknown(key_id)
        hand_over(config, made, destination, output, at)


@click.command(epilog=EXIT_CODES)
@_change_options
def disable(*, key_id: str, reason: str, output: str, path: Path) -> None:
    """Refuse a key until it is enabled again.

    \b
    Examples:
      blnk-gateway keys disable api_key_... --reason "invoice unpaid"
    """
    at, by = Instant.of(utc_now()), operator_name()
    _revise(path, key_id, output, lambda record: record.as_disabled(at, by, reason))


@click.command(epilog=EXIT_CODES, short_help="Accept a disabled key again.")
@_change_options
def enable(*, key_id: str, reason: str, output: str, path: Path) -> None:
    """Accept a disabled key again; a revoked key stays revoked.

    \b
    Examples:
      blnk-gateway keys enable api_key_...
    """
    at, by = Instant.of(utc_now()), operator_name()
    _revise(path, key_id, output, lambda record: record.as_enabled(at, by, reason))


def _revise(path: Path, key_id: str, output: str, revision: Callable[[KeyRecord], KeyRecord]) -> None:
    # The store's record counts where it is stricter than Core's row, so Core need not change.
    config = load_for_keys(path, changing=False)
    with first_signal_held_back():
        record = _run_with_writer(config, utc_now(), lambda writer: writer.revise(key_id, revision))
    show_changed(key_id, [] if record is None else [record], output)
    if record is not None and record.revoked:
        fail(f"{printable(key_id)} is revoked, and stays revoked", Exit.FAILED)


def _run_with_writer(config: Config, at: datetime, work: Callable[[KeyWriter], Awaitable[Done]]) -> Done:
    async def with_writer(store: KeyStore) -> Done:
        async with open_key_writer(config, store, at) as writer:
            return await work(writer)

    return run_with_store(config, with_writer)
