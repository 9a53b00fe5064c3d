"""Shows records of keys: tables for people, lines and JSON for programs.

Rules kept here:
- Neither a key's digest nor its hash is shown.
- Names and owners come from clients: their control characters never reach the terminal, in JSON neither.
- A table is drawn only on a terminal that is wide enough, and for at most 1,000 keys, because its layout
  takes long. Elsewhere the cells of a row are separated by tabs.
- A table shows ids whole, so that they can be copied. On a narrow terminal it leaves columns out, and says
  so; texts that clients chose continue on further lines.
- People see times in whole seconds; JSON always has six digits after the second.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import click

from gateway.cli.console import say
from gateway.cli.safe_text import encodable
from gateway.gocompat.times import Instant
from gateway.keys.minting import PREFIX_LENGTH
from gateway.keys.record import ROTATED, Event, KeyRecord, Revocation, is_bcrypt
from gateway.keys.record_json import to_members
from gateway.policy.explanation import printable
from gateway.policy.principals import KeyState
from gateway.policy.terms import KeyTerms

_Command = TypeVar("_Command", bound=Callable[..., Any])

SECRET: Final = ("digest", "prefix", "bcrypt")
"""Members of a record that reveal something about its key."""

MOST_DRAWN: Final = 1_000
COLUMNS: Final = ("id", "owner", "name", "scopes", "state", "expires", "last used")
WIDE: Final = 140
"""The width of a terminal, in characters, that shows all columns."""
ROOM: Final = 76
"""The least width of a terminal, in characters, that shows a table."""
NARROW: Final = ("id", "owner", "state", "expires")
FOLDED: Final = ("owner", "name", "scopes")
STATE_STYLES: Final = {
    "live": "green",
    "rotated": "yellow",
    "revoked": "red",
    "expired": "yellow",
    "disabled": "yellow",
}


def output_option_with(help_text: str) -> Callable[[_Command], _Command]:
    """Return the option `--output` with this help text."""
    return click.option(
        "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help=help_text
    )


output_option = output_option_with("table for people, json for programs.")


def public(record: KeyRecord, now: datetime) -> dict[str, Any]:
    """Return what anyone who may list keys may see of a record, with its state, as JSON members.

    Times are in UTC, with six digits after the second; None stands for never.
    """
    members = {name: value for name, value in to_members(record).items() if name not in SECRET}
    members["created_at"], members["expires_at"] = in_utc(record.created_at, 6), in_utc(record.expires_at, 6)
    members["last_used_at"] = None if record.last_used_at is None else in_utc(record.last_used_at, 6)
    if record.revocation is not None and record.revocation.at is not None:
        members["revoked_at"] = in_utc(record.revocation.at, 6)
    for member, event in zip(members["history"], record.history, strict=True):
        member["at"] = in_utc(event.at, 6)
    more = {"state": record.state(now.timestamp()).value, "rotated": record.rotated}
    return {**members, **more, "pending": record.pending}


def in_utc(at: Instant, digits: int) -> str:
    """Return a time of a record in UTC, with so many digits after the second.

    A time in the first or last day of the years that RFC 3339 can write is returned unchanged.
    """
    stored = str(at.stored())
    if not stored.endswith("Z"):
        return str(at)
    whole, _, fraction = stored.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<{digits}.{digits}}Z" if digits else f"{whole}Z"


def say_table(records: Iterable[KeyRecord], now: datetime) -> None:
    """Print a row for each record."""
    rows = [_row(record, now) for record in records]
    if not (sys.stdout.isatty() and len(rows) <= MOST_DRAWN and _draw(rows)):
        for row in (COLUMNS, *rows):
            say("\t".join(row))


def _draw(rows: Sequence[Sequence[str]]) -> bool:
    """Draw a table if the terminal is wide enough; return whether it is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if console.width < ROOM:
        return False
    wide = console.width >= WIDE
    shown = COLUMNS if wide else NARROW
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in shown:
        table.add_column(name, overflow="fold", no_wrap=name not in FOLDED)
    for row in rows:
        cells = dict(zip(COLUMNS, row, strict=True))
        if not wide:
            cells["expires"] = cells["expires"][: len("2027-01-31")]
        # rich raises an error for a character that the terminal cannot encode.
        texts = (encodable(cells[name], console.encoding) for name in shown)
        table.add_row(*(Text(text, STATE_STYLES.get(text, "")) for text in texts))
    console.print(table)
    if not wide:
        missing = ", ".join(name for name in COLUMNS if name not in shown)
        say(f"not shown: {missing} (widen to {WIDE} columns, or --output json)", err=True)
    return True


def say_fields(fields: Sequence[tuple[str, str]], *, err: bool = False) -> None:
    """Print a line for each name and value; leave out empty values."""
    for name, value in fields:
        if value:
            say(f"{printable(name):<12} {printable(value)}", err=err)


def fields_of(record: KeyRecord, now: datetime) -> list[tuple[str, str]]:
    """Return everything about a record, for people, but secrets."""
    return [
        ("id", record.id),
        ("state", record.state(now.timestamp()).value),
        ("owner", record.owner),
        ("name", record.name),
        ("scopes", ", ".join(record.scopes)),
        ("created", _event_text(record.created_at, record.created_by)),
        ("expires", in_utc(record.expires_at, 0)),
        ("last used", _last_use(record)),
        ("replaces", record.replaces),
        *terms_fields(record.terms),
        ("revoked", _revocation_text(record.revocation)),
        *((event.what, _history_text(event)) for event in record.history),
        ("retiring", "Core revokes it once it has ended" if record.awaiting_core_revocation else ""),
        ("pending", _pending(record)),
    ]


def terms_fields(terms: KeyTerms) -> list[tuple[str, str]]:
    """Return the terms of a key, for people; a text is empty for a term that bounds nothing."""
    burst = f", {terms.burst} at once" if terms.burst else ""
    shared = f"rate and concurrency, with all that descend from {terms.shared_with}"
    return [
        ("rate", "" if terms.rate is None else f"{terms.rate}{burst}"),
        ("concurrency", str(terms.concurrency or "")),
        ("allow from", ", ".join(map(str, terms.allow_from))),
        ("certificate", terms.certificate),
        ("shares", shared if terms.shared_with else ""),
    ]


def _pending(record: KeyRecord) -> str:
    if not record.pending or record.revoked:
        return ""
    if len(record.prefix) < PREFIX_LENGTH or not is_bcrypt(record.bcrypt):
        return "unusable: its row has no whole key_prefix, or no bcrypt hash of at most 2^14 rounds"
    return "the first request with the key tells its digest"


def _row(record: KeyRecord, now: datetime) -> tuple[str, ...]:
    state = record.state(now.timestamp())
    shown = ROTATED if record.rotated and state is KeyState.LIVE else state.value
    cells = (record.id, record.owner, record.name, ",".join(record.scopes))
    return (*map(printable, cells), shown, in_utc(record.expires_at, 0), _last_use(record))


def _last_use(record: KeyRecord) -> str:
    return "never" if record.last_used_at is None else in_utc(record.last_used_at, 0)


def _revocation_text(revocation: Revocation | None) -> str:
    return "" if revocation is None else _event_text(revocation.at, revocation.by, revocation.reason)


def _history_text(event: Event) -> str:
    changes = "; ".join(
        f"{change.member} {change.before or 'none'} -> {change.after or 'none'}" for change in event.changes
    )
    return _event_text(event.at, event.by, event.reason) + (f" ({changes})" if changes else "")


def _event_text(at: Instant | None, by: str, reason: str = "") -> str:
    if at is None and not by:
        return ""
    when = "" if at is None else in_utc(at, 0)
    return f"{when} by {by}".strip() + (f": {reason}" if reason else "")
