"""How records of keys are shown: tables for people, lines and JSON for programs.

Rules kept here:
- Neither a key's digest nor its hash is shown.
- Names and owners come from clients: a control character of theirs never reaches the terminal.
- A table is drawn on a terminal only, of 1,000 keys at most, for it takes long to lay out, and where there is
  room for it; else the cells of a row are separated by tabs. Ids stand in it whole, to be copied; on a narrow
  terminal columns are left out, which is said, and what a client named goes over several lines.
- Times have whole seconds for people, and in JSON six digits more, always.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final, TypeVar

import click
import msgspec

from gateway.cli.console import say
from gateway.gocompat.times import ZERO, read_instant
from gateway.keys.minting import PREFIX_LENGTH
from gateway.keys.record import ROTATED, KeyRecord, is_bcrypt
from gateway.policy.principals import KeyState

_Command = TypeVar("_Command", bound=Callable[..., Any])

SECRET: Final = ("digest", "prefix", "bcrypt")
"""Members of a record that tell something about its key."""

MOST_DRAWN: Final = 1_000
COLUMNS: Final = ("id", "owner", "name", "scopes", "state", "expires", "last used")
WIDE: Final = 140
"""Characters of a terminal on which all columns are drawn."""
ROOM: Final = 76
"""Characters of a terminal on which a table is drawn at all."""
NARROW: Final = ("id", "owner", "state", "expires")
FOLDED: Final = ("owner", "name", "scopes")
STATE_STYLES: Final = {
    "live": "green",
    "rotated": "yellow",
    "revoked": "red",
    "expired": "yellow",
    "disabled": "yellow",
}
_TIMES: Final = ("expires_at", "created_at", "last_used_at", "revoked_at")


def output_as(shown: str) -> Callable[[_Command], _Command]:
    """The option `--output`, whose help says what is `shown`."""
    return click.option(
        "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help=shown
    )


output_option = output_as("Lines for people, a list as a table on a terminal; or JSON.")


def printable(text: str) -> str:
    """The text with every character that would move the cursor, or hide, escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def public(record: KeyRecord, now: datetime) -> dict[str, Any]:
    """The members of a record that anyone who may list keys may see, with its state.

    Times are in UTC, with six digits after the second, and None for never.
    """
    members = {name: value for name, value in asdict(record).items() if name not in SECRET}
    for name in _TIMES:
        members[name] = members[name] and in_utc(members[name], 6)
    if record.last_used_at == ZERO:
        members["last_used_at"] = None
    for event in members["history"]:
        event["at"] = in_utc(event["at"], 6)
    more = {"state": record.state(now.timestamp()).value, "rotated": record.rotated}
    return {**members, **more, "pending": record.pending}


def in_utc(text: str, digits: int) -> str:
    """A time of a record in UTC, with so many digits after the second; as it is at the ends of the years."""
    stored = str(read_instant(text.encode()).stored())
    if not stored.endswith("Z"):
        return text
    whole, _, fraction = stored.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<{digits}.{digits}}Z" if digits else f"{whole}Z"


def write_json(value: object) -> None:
    """One line of JSON."""
    click.echo(msgspec.json.encode(value))


def say_table(records: Iterable[KeyRecord], now: datetime) -> None:
    """A row for each record."""
    rows = [_row(record, now) for record in records]
    if not (sys.stdout.isatty() and len(rows) <= MOST_DRAWN and _draw(rows)):
        for row in (COLUMNS, *rows):
            say("\t".join(row))


def _draw(rows: Sequence[Sequence[str]]) -> bool:
    """Draw a table, and tell whether there was room for it."""
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
        # rich raises for what the terminal cannot encode.
        plain = (cells[name].encode(console.encoding, "backslashreplace") for name in shown)
        texts = (text.decode(console.encoding) for text in plain)
        table.add_row(*(Text(text, STATE_STYLES.get(text, "")) for text in texts))
    console.print(table)
    if not wide:
        missing = ", ".join(name for name in COLUMNS if name not in shown)
        say(f"not shown: {missing} ({WIDE} columns show them, or --output json)", err=True)
    return True


def say_fields(fields: Sequence[tuple[str, str]], *, err: bool = False) -> None:
    """A line for each name and value; values that are empty are left out."""
    for name, value in fields:
        if value:
            say(f"{printable(name):<12} {printable(value)}", err=err)


def fields_of(record: KeyRecord, now: datetime) -> list[tuple[str, str]]:
    """Everything about a record, for people."""
    return [
        ("id", record.id),
        ("state", record.state(now.timestamp()).value),
        ("owner", record.owner),
        ("name", record.name),
        ("scopes", ", ".join(record.scopes)),
        ("created", _did(record.created_at, record.created_by, "")),
        ("expires", in_utc(record.expires_at, 0)),
        ("last used", _used(record)),
        ("replaces", record.replaces),
        ("revoked", _did(record.revoked_at or "", record.revoked_by, record.revoked_reason)),
        *((event.what, _did(event.at, event.by, event.reason)) for event in record.history),
        ("retiring", "Core is still to revoke it, once it has ended" if record.retiring else ""),
        ("pending", _pending(record)),
    ]


def _pending(record: KeyRecord) -> str:
    if not record.pending or record.revoked:
        return ""
    if len(record.prefix) < PREFIX_LENGTH or not is_bcrypt(record.bcrypt):
        return "nobody can use it: its row has no whole key_prefix, or no bcrypt hash of at most 2^14 rounds"
    return "its digest is learned from the first request"


def _row(record: KeyRecord, now: datetime) -> tuple[str, ...]:
    state = record.state(now.timestamp())
    shown = ROTATED if record.rotated and state is KeyState.LIVE else state.value
    cells = (record.id, record.owner, record.name, ",".join(record.scopes))
    return (*map(printable, cells), shown, in_utc(record.expires_at, 0), _used(record))


def _used(record: KeyRecord) -> str:
    return "never" if record.last_used_at == ZERO else in_utc(record.last_used_at, 0)


def _did(at: str, by: str, reason: str) -> str:
    if not at and not by:
        return ""
    when = in_utc(at, 0) if at else ""
    return f"{when} by {by}".strip() + (f": {reason}" if reason else "")
