"""How records of keys are shown: tables for people, lines and JSON for programs.

Rules kept here:
- Neither a key's digest nor its hash is shown.
- Names and owners come from clients: a control character of theirs never reaches the terminal.
- A table is drawn on a terminal only, of 1,000 keys at most, for it takes long to lay out, and where there is
  room for it; else the cells of a row are separated by tabs. Ids stand in it whole, to be copied; on a narrow
  terminal columns are left out, and what a client named goes over several lines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import click
import msgspec

from gateway.cli.console import say
from gateway.keys.instants import ZERO
from gateway.keys.minting import PREFIX_LENGTH
from gateway.keys.record import KeyRecord, is_bcrypt

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
STATE_STYLES: Final = {"live": "green", "revoked": "red", "expired": "yellow", "disabled": "yellow"}

output_option = click.option(
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Lines for people, a list as a table on a terminal; or JSON.",
)


def printable(text: str) -> str:
    """The text with every character that would move the cursor, or hide, escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def public(record: KeyRecord, now: datetime) -> dict[str, Any]:
    """The members of a record that anyone who may list keys may see, with its state."""
    members = {name: value for name, value in asdict(record).items() if name not in SECRET}
    return {**members, "state": record.state(now.timestamp()).value, "pending": record.pending}


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
        ("expires", record.expires_at),
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
    state = record.state(now.timestamp()).value
    cells = (record.id, record.owner, record.name, ",".join(record.scopes))
    return (*map(printable, cells), state, record.expires_at, _used(record))


def _used(record: KeyRecord) -> str:
    return "never" if record.last_used_at == ZERO else record.last_used_at


def _did(at: str, by: str, reason: str) -> str:
    return f"{at} by {by}".strip() + (f": {reason}" if reason else "") if at or by else ""
