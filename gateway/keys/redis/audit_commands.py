"""The commands that append to the audit stream; a change of a key sends them with its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.audit.entry import AuditEntry, encode_entry
from gateway.keys.redis.names import AUDIT, AUDIT_COUNTS
from gateway.keys.redis.script import Command

ENTRY: Final = b"entry"
"""The one field of an entry in the stream; its value is JSON."""
WRITTEN: Final = "written"
SHIPPED: Final = "shipped:"


def append_entries(entries: Sequence[AuditEntry], kept: int) -> list[Command]:
    """Return what appends entries, keeps about so many, and counts them; nothing for no entries."""
    if not entries:
        return []
    return [
        *(
            Command("XADD", AUDIT, ("MAXLEN", "~", kept, "*", ENTRY, encode_entry(entry)), audits=entry.kind)
            for entry in entries
        ),
        # ZADD INCR, for INCR would be one more right.
        Command("ZADD", AUDIT_COUNTS, ("INCR", len(entries), WRITTEN)),
    ]
