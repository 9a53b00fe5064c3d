"""The audit stream in Redis, as a gateway uses it: append entries, and see how far shippers are.

Rules kept here:
- Redis gives each entry its id, and so its time. An entry that waited says itself when it happened.
- A position and its count are written by shippers (`audit_reader`), and only read here.
- No value of the right type fails a read, whatever another writer has put there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from gateway.audit.entry import AuditEntry, decode_entry
from gateway.audit.shipping import Unshipped
from gateway.gocompat.times import Instant
from gateway.keys.redis.audit_commands import ENTRY, SHIPPED, WRITTEN, append_entries, append_once
from gateway.keys.redis.connection import RedisLink
from gateway.keys.redis.errors import redis_errors
from gateway.keys.redis.names import AUDIT, AUDIT_COUNTS, audit_position_name
from gateway.keys.redis.script import eval_command
from gateway.keys.redis.transactions import Transactions

BEGINNING: Final = "0-0"
"""The position before the first entry."""
LAST_NUMBER: Final = 2**64 - 1
"""The highest number of each half of an id."""
_ENTRY_ID: Final = re.compile(r"([0-9]{1,20})-([0-9]{1,20})", re.ASCII)
_MOST_COUNTED: Final = 2.0**53
"""The highest score that counts whole entries."""


class RedisAuditStream:
    """The stream over one link; `kept` returns about how many entries it keeps, None to trim none."""

    link: RedisLink
    _transactions: Transactions

    def __init__(self, link: RedisLink, kept: Callable[[], int | None]) -> None:
        self.link = link
        self._kept = kept

    @property
    def audited(self) -> Mapping[str, int]:
        """The number of entries that were written, by kind."""
        return self._transactions.audited

    async def append_entries(self, entries: Sequence[AuditEntry]) -> None:
        """Append entries in this order, all of them or none. After a failure they may have been appended."""
        commands = append_entries(entries, self._kept())
        if not commands:
            return
        async with redis_errors():
            await self.link.changes.execute_command(*eval_command({}, commands))
        self._transactions.audited.update(command.audits for command in commands if command.audits)

    async def append_once(self, entries: Mapping[str, AuditEntry], seconds: float) -> None:
        """Append the entries whose names nobody has taken, and take each name with its entry."""
        async with redis_errors():
            places = await self.link.changes.execute_command(*append_once(entries, seconds, self._kept()))
        appended = list(entries.values())
        self._transactions.audited.update(appended[place].kind for place in places)

    async def latest_entries(self, most: int) -> Sequence[AuditEntry]:
        """Return the last entries, the newest first; one that is none of ours is left out."""
        async with redis_errors():
            found = await self.link.lists.xrevrange(AUDIT, count=most)
        entries = (_read_entry(entry_id, fields) for entry_id, fields in found)
        return [entry for entry in entries if entry is not None]

    async def unshipped(self) -> Unshipped:
        """Return what the slowest shipper has not printed yet."""
        async with redis_errors():
            counts = await read_counts(self.link.changes)
            shipped = {name: count for name, count in counts.items() if name.startswith(SHIPPED)}
            slowest = min(shipped, key=shipped.__getitem__, default="")
            shipper = slowest.removeprefix(SHIPPED)
            after = await read_position(self.link.changes, shipper) if shipper else BEGINNING
            found = await self.link.changes.xread({AUDIT: after}, count=1)
        entries = max(0, counts.get(WRITTEN, 0) - shipped.get(slowest, 0)) if found else 0
        return Unshipped(shipper, entries, written_at(found[0][1][0][0]) if found else None)


async def read_counts(client: Any) -> dict[str, int]:
    """Return how many entries were ever written, and printed by each shipper."""
    pairs = await client.zrangebyscore(AUDIT_COUNTS, "-inf", "+inf", withscores=True)
    return {name.decode("utf-8", "replace"): count_in(score) for name, score in pairs}


def count_in(score: float | None) -> int:
    """Return the count in a score; 0 for none, and for one that is no count of entries."""
    return int(score) if score is not None and 0 < score <= _MOST_COUNTED else 0


async def read_position(client: Any, shipper: str) -> str:
    """Return the id of the entry that a shipper has printed last, or the position before all entries.

    The latter also where Redis holds no id: then the shipper prints entries twice, and leaves none out.
    """
    position = str(await client.get(audit_position_name(shipper)) or b"", "ascii", "replace")
    return position if is_entry_id(position) else BEGINNING


def is_entry_id(text: str) -> bool:
    """Return whether a text is an id as Redis gives them: `MILLISECONDS-SEQUENCE`."""
    numbers = _ENTRY_ID.fullmatch(text)
    return numbers is not None and max(map(int, numbers.groups())) <= LAST_NUMBER


def _read_entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> AuditEntry | None:
    """Return an entry with the time at which it happened; None if it cannot be read."""
    try:
        entry = decode_entry(fields.get(ENTRY, b""))
    except (ValueError, RecursionError):
        return None
    return entry if entry.at else msgspec.structs.replace(entry, at=time_of(entry_id))


def time_of(entry_id: bytes) -> str:
    """Return when an entry was written, in RFC 3339; "" for an id that is no time before the year 10000."""
    try:
        return str(Instant.of(datetime.fromtimestamp(written_at(entry_id), UTC)))
    except (ValueError, OverflowError, OSError):
        return ""


def written_at(entry_id: bytes) -> float:
    """Return when an entry was written (Unix seconds): its id is `MILLISECONDS-SEQUENCE`."""
    return int(entry_id.partition(b"-")[0]) / 1000
