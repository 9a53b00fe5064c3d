"""The command that ends keys: revoke, by id or by owner.

Rules kept here:
- All keys of an owner are revoked only after a confirmation: on a terminal, or by an option.
- A key of the owner that is created meanwhile is revoked too: the owner is read again until no key is live.
- A key whose record cannot be read is named, and keeps no other one of the owner from being revoked.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from gateway.cli.arguments import KeyId, RecordText
from gateway.cli.console import EXIT_CODES, config_option, fail, say
from gateway.cli.dependency_failures import unfinished
from gateway.cli.keys.changed import NOT_SHOWN, show_changed, show_states
from gateway.cli.keys.display import in_utc, output_option
from gateway.cli.keys.left_out import LeftOutKeys
from gateway.cli.keys.reader import KeyReader, open_key_reader
from gateway.cli.keys.rotation import successors_of
from gateway.cli.keys.store import load_for_keys, run_with_store
from gateway.cli.keys.writer import KeyWriter, open_key_writer
from gateway.cli.signals import first_signal_held_back
from gateway.config import Config
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore
from gateway.policy.explanation import printable
from gateway.policy.principals import KeyState
from gateway.server.clocks import utc_now
from gateway.server.exit_codes import Exit

_PASSES: Final = 5
"""The most times that an owner is read. One who still creates keys then does so with the master key."""


@click.command(epilog=EXIT_CODES)
@click.argument("key_id", type=KeyId(), required=False)
@click.option("--owner", type=RecordText(), help="Revoke all keys of this owner that have not ended.")
@click.option("--yes", is_flag=True, help="Revoke the keys of an owner without asking.")
@click.option(
    "--descendants", is_flag=True, help="Also revoke the keys that this key created, and those they created."
)
@click.option("--reason", type=RecordText(), default="", help="The reason, kept in the record.")
@output_option
@config_option
def revoke(
    *,
    key_id: str | None,
    owner: str | None,
    yes: bool,
    descendants: bool,
    reason: str,
    output: str,
    path: Path,
) -> None:
    """Revoke a key, or all keys of an owner, for ever.

    Every gateway on the store refuses the key within a second. Revoking a revoked key changes nothing, also
    not the reason. The key's own successor in a rotation stays live. With --descendants the keys that this
    key created are revoked with their successors.

    \b
    Examples:
      blnk-gateway keys revoke api_key_... --reason "laptop stolen"
      blnk-gateway keys revoke api_key_... --descendants
      blnk-gateway keys revoke --owner acme --reason "contract ended"
    """
    if (key_id is None) is (owner is None):
        raise click.UsageError("name a key by its id, or an owner with --owner")
    if owner is not None and descendants:
        raise click.UsageError("--owner revokes all keys of the owner: leave out --descendants")
    config = load_for_keys(path, changing=True)
    if owner is not None:
        _revoke_owner(config, owner, reason, output, asking=not yes)
    elif key_id is not None:
        _revoke_key(config, key_id, reason, output, descendants=descendants)


def _revoke_key(config: Config, key_id: str, reason: str, output: str, *, descendants: bool) -> None:
    async def work(store: KeyStore) -> tuple[list[KeyRecord], list[KeyRecord]]:
        async with open_key_writer(config, store, utc_now()) as writer:
            revoked = await writer.revoke(key_id, reason, descendants=descendants)
        with unfinished(NOT_SHOWN):
            return revoked, await successors_of(store, key_id) if revoked else []

    with first_signal_held_back():
        revoked, successors = run_with_store(config, work)
    show_changed(key_id, revoked, output)
    _say_kept_reason(revoked[0], reason)
    for successor in successors:
        if not successor.revoked:
            state = successor.state(utc_now().timestamp()).value
            say(f"its successor {successor.id} is {state}", err=True)


def _say_kept_reason(record: KeyRecord, reason: str) -> None:
    """Say that a reason was not recorded, because the key had been revoked before."""
    revocation = record.revocation
    if reason and revocation is not None and revocation.reason != reason:
        when = "at an unknown time" if revocation.at is None else in_utc(revocation.at, 0)
        who = printable(revocation.by)
        say(f"it was revoked before, {when} by {who}: the new reason is not recorded", err=True)


def _revoke_owner(config: Config, owner: str, reason: str, output: str, *, asking: bool) -> None:
    if asking:
        _confirm(config, owner)

    async def work(store: KeyStore) -> tuple[list[KeyRecord], int]:
        at = utc_now()
        async with (
            open_key_writer(config, store, at) as writer,
            open_key_reader(config, store, at) as reader,
        ):
            return await revoke_owned(reader, writer, owner, reason)

    left_out = LeftOutKeys()
    with first_signal_held_back():
        revoked, left = run_with_store(config, work, left_out=left_out.add)
    show_states(revoked, output)
    say(f"revoked keys of {printable(owner)}: {len(revoked)}", err=True)
    if left:
        say(f"{left} new ones are live: somebody creates keys for this owner; run it again", err=True)
    left_out.fail_if_any("not revoked")
    if left:
        sys.exit(Exit.FAILED)


async def revoke_owned(
    reader: KeyReader, writer: KeyWriter, owner: str, reason: str
) -> tuple[list[KeyRecord], int]:
    """Revoke the keys of an owner that have not ended; return their records, and how many are left."""
    revoked: list[KeyRecord] = []
    for _ in range(_PASSES):
        if not (live := await _unended(reader, owner)):
            return revoked, 0
        revoked += await writer.revoke_all([record.id for record in live], reason)
    return revoked, len(await _unended(reader, owner))


def _confirm(config: Config, owner: str) -> None:
    """Return if the operator confirms; exit with 1 if not, and with 2 where nobody can be asked."""
    if not sys.stdin.isatty():
        raise click.UsageError("--owner revokes all keys of an owner: confirm it with --yes")

    async def count(store: KeyStore) -> int:
        async with open_key_reader(config, store, utc_now()) as reader:
            return len(await _unended(reader, owner))

    # The command names what is left out here once it has revoked the others.
    live = run_with_store(config, count, left_out=lambda _: None)
    if not click.confirm(f"Revoke the {live} keys of {printable(owner)} that have not ended?", err=True):
        fail("nothing was revoked", Exit.FAILED)


async def _unended(reader: KeyReader, owner: str) -> list[KeyRecord]:
    """Return the keys of an owner that are live, or disabled: such a one can be enabled again."""
    now = utc_now().timestamp()
    ended = (KeyState.REVOKED, KeyState.EXPIRED)
    records = {record.id: record for record in await reader.owned(owner)}
    return [record for record in records.values() if record.state(now) not in ended]
