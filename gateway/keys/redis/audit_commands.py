"""The commands that append to the audit stream; a change of a key sends them with its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.audit.entry import AuditEntry, encode_entry
from gateway.keys.redis.names import AUDIT, AUDIT_COUNTS, lease_name
from gateway.keys.redis.script import Command, Word

ENTRY: Final = b"entry"
"""The one field of an entry in the stream; its value is JSON."""
WRITTEN: Final = "written"
SHIPPED: Final = "shipped:"

# KEYS: the stream, the counts, and the mark of each entry. ARGV: the milliseconds that a mark stays, about
# how many entries are kept (empty: all), and the entries. The mark comes last: a refused entry has none.
_ONCE: Final = """\
local new = {}
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then
    if ARGV[2] == '' then
      redis.call('XADD', KEYS[1], '*', 'entry', ARGV[i])
    else
      redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'entry', ARGV[i])
    end
    redis.call('ZADD', KEYS[2], 'INCR', 1, 'written')
    redis.call('SET', KEYS[i], '', 'PX', ARGV[1])
    new[#new + 1] = i - 3
  end
end
return new
"""


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


def append_once(entries: Mapping[str, AuditEntry], seconds: float, kept: int | None) -> list[Any]:
    """Return the EVAL command that appends those entries whose names are free, and takes these names.

    It responds with the places of the entries that it has appended.
    """
    marks = map(lease_name, entries)
    texts = map(encode_entry, entries.values())
    keys = [AUDIT, AUDIT_COUNTS, *marks]
    return ["EVAL", _ONCE, len(keys), *keys, round(seconds * 1000), "" if kept is None else kept, *texts]
