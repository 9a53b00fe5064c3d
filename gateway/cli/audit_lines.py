"""Writes entries of the audit stream as lines, for programs and for people, and selects them.

Rules kept here:
- A JSON line has everything that the entry has, also what a newer version has added, and its id first.
- An entry that cannot be read is a line of its id and its time, and ends nothing.
- A line for people never breaks, and controls no terminal: clients chose some of its texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TextIO

import msgspec

from gateway.cli.safe_text import safe_json
from gateway.keys.redis.audit_reader import AuditBatch, StoredEntry
from gateway.policy.explanation import printable

Members = dict[str, Any]

_COLUMNS: Final = ("id", "at", "kind", "key_id", "replica", "by", "way")


@dataclass(frozen=True, slots=True)
class Selection:
    """The entries that are wanted: those of one key, of one owner, or all."""

    key_id: str | None = None
    owner: str | None = None

    @property
    def everything(self) -> bool:
        """True if no entry is left out."""
        return self.key_id is None and self.owner is None

    def takes(self, members: Members) -> bool:
        """Return whether an entry is wanted; what a key has done counts as its own."""
        of_key = self.key_id is None or self.key_id in (members.get("key_id"), members.get("by"))
        return of_key and (self.owner is None or self.owner == members.get("owner"))


@dataclass(frozen=True, slots=True)
class EntryPrinter:
    """Makes lines of the entries that are selected."""

    selection: Selection
    line: Callable[[Members], bytes]

    def lines(self, batch: AuditBatch) -> bytes:
        """Return the lines of a batch."""
        found = map(members_of, batch.entries)
        return b"".join(self.line(members) for members in found if self.selection.takes(members))


def members_of(entry: StoredEntry) -> Members:
    """Return the members of an entry, with its id and the time when it happened, "" if nobody knows."""
    try:
        members = msgspec.json.decode(entry.text)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict) or not _is_readable(members):
        members = {"kind": "unreadable"}
    at = members.pop("at", "") or entry.written_at
    members.pop("id", None)
    return {"id": entry.id, "at": at, **members}


def _is_readable(members: Members) -> bool:
    """Return whether the members that every version writes alike are texts, and the kind is one of them."""
    return "kind" in members and all(isinstance(members.get(name, ""), str) for name in _COLUMNS)


def json_line(members: Members, encoding: str) -> bytes:
    """Return an entry as a line of JSON."""
    return safe_json(members, encoding) + b"\n"


def table_line(members: Members, encoding: str) -> bytes:
    """Return an entry as a line for people: when, what, of which key or process, by whom, and the rest."""
    subject = members.get("key_id") or members.get("replica", "")
    by = f"{members['by']} ({members.get('way', '')})" if members.get("by") else ""
    rest = (f"{name}={_text(value)}" for name, value in members.items() if name not in _COLUMNS)
    cells = (f"{members['at'][:19]:<19}", f"{members['kind']:<16}", f"{subject:<44}", f"{by:<20}", *rest)
    line = printable("  ".join(map(str, cells)))
    return f"{line.rstrip()}\n".encode(encoding, "backslashreplace")


def line_of(output: str, stream: TextIO) -> Callable[[Members], bytes]:
    """Return what makes a line for a stream.

    `output` is `json`, `table`, or `auto`, which is a table on a terminal.
    """
    table = output == "table" or (output == "auto" and stream.isatty())
    return partial(table_line if table else json_line, encoding=stream.encoding or "utf-8")


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
