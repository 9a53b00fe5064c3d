"""The commands that append to the audit stream; a change of a key sends them with its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.audit.entry import AuditEntry, encode_entry
from gateway.keys.redis.names import AUDIT, AUDIT_COUNTS
from gateway.keys.redis.script import Command, Word

ENTRY: Final = b"entry"
"""The one field of an entry in the stream; its value is JSON."""
WRITTEN: Final = "written"
SHIPPED: Final = "shipped:"


def append_entries(entries: Sequence[AuditEntry], kept: int | None) -> list[Command]:
    """Return what appends entries, keeps about so many (None: all), and counts them; [] for no entries."""
    if not entries:
        return []
    trim: tuple[Word, ...] = () if kept is None else ("MAXLEN", "~", kept)
    return [
        *(
            Command("XADD", AUDIT, (*trim, "*", ENTRY, encode_entry(entry)), audits=entry.kind)
            for entry in entries
        ),
        # ZADD INCR, for INCR would be one more right.
        Command("ZADD", AUDIT_COUNTS, ("INCR", len(entries), WRITTEN)),
    ]
