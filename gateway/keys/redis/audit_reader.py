"""The audit stream in Redis, as the command `audit` reads it and shippers acknowledge it.

Rules kept here:
- What is read is from the primary: it says so itself in the same round trip, and where Sentinels watch it,
  one of them confirms it.
- The position of a shipper is the id of the last entry that it has printed, and is written after it was.
- Ids are times by the clock of the primary. After a failover that has lost entries, new ones may have earlier
  ids than one that was read: its own entry is gone then.
- A count of what was printed goes with the position. Once a shipper has read everything, the count is what
  was written when it began to read; so it is never too high for longer than one read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.keys.errors import StoreUnavailableError
from gateway.keys.redis.audit_commands import ENTRY, SHIPPED, WRITTEN
from gateway.keys.redis.audit_stream import BEGINNING, LAST_NUMBER, count_in, read_position, time_of
from gateway.keys.redis.connection import RedisLink
from gateway.keys.redis.errors import REPLACED, redis_errors
from gateway.keys.redis.names import AUDIT, AUDIT_COUNTS, audit_position_name
from gateway.keys.redis.role import is_primary

READ_AT_ONCE: Final = 500
REWOUND_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry: its id in the stream, and its JSON."""

    id: str
    text: bytes

    @property
    def written_at(self) -> str:
        """When it was written, in RFC 3339; "" for an id that is no time before the year 10000."""
        return time_of(self.id.encode())


@dataclass(frozen=True, slots=True)
class AuditBatch:
    """Entries after a position, in their order.

    Attributes:
        entries: the entries.
        there: True if there is an entry at the position itself.
        whole: True if there were no more.
        written: how many there ever were by then.
    """

    entries: Sequence[StoredEntry]
    there: bool
    whole: bool
    written: int

    @property
    def last(self) -> str | None:
        """The id of the last entry; None if there is none."""
        return self.entries[-1].id if self.entries else None


class RedisAuditReader:
    """Reads the stream of one Redis.

    Args:
        url: as `url.read_url` takes it.
    """

    def __init__(self, url: str) -> None:
        self._link = RedisLink(url)

    async def read(self, after: str, wait: float = 0.0) -> AuditBatch:
        """Return the entries after a position; wait up to `wait` seconds for the first one.

        Raises:
            GatewayError: Redis failed, or is no primary any more.
        """
        async with redis_errors(wait):
            counts, found, there, role = await self._read(after, wait)
            if not is_primary(role):
                await self._link.drop()
                raise StoreUnavailableError(reason=REPLACED)
            await self._link.confirm()
        entries = found[0][1] if found else []
        return AuditBatch(
            [StoredEntry(entry_id.decode(), fields.get(ENTRY, b"")) for entry_id, fields in entries],
            there=bool(there),
            whole=len(entries) < READ_AT_ONCE,
            written=count_in(counts[0]),
        )

    async def position(self, shipper: str) -> str:
        """Return the position of a shipper; the one before all entries if it has none."""
        async with redis_errors():
            return await read_position(self._link.changes, shipper)

    async def acknowledge(self, shipper: str, position: str, printed: int) -> None:
        """Store the position of a shipper, and how many of all entries it has printed."""
        async with redis_errors(), self._link.changes.pipeline(transaction=False) as pipe:
            pipe.set(audit_position_name(shipper), position)
            pipe.zadd(AUDIT_COUNTS, {f"{SHIPPED}{shipper}": printed})
            await pipe.execute()

    async def printed(self, shipper: str) -> int:
        """Return how many entries a shipper has printed, as it said last."""
        async with redis_errors():
            (count,) = await self._link.changes.zmscore(AUDIT_COUNTS, [f"{SHIPPED}{shipper}"])
        return count_in(count)

    async def forget(self, shipper: str) -> bool:
        """Forget a shipper and its position; return whether it was known."""
        async with redis_errors():
            removed = await self._link.changes.zrem(AUDIT_COUNTS, f"{SHIPPED}{shipper}")
            await self._link.changes.delete(audit_position_name(shipper))
        return bool(removed)

    async def close(self) -> None:
        """Close every connection."""
        await self._link.close()

    async def _read(self, after: str, wait: float) -> Any:
        # One round trip. The count is read before the entries, so that it counts none that are not in them.
        # The entry at the position is read behind them, so that a cut in between is seen.
        async with self._link.follower.pipeline(transaction=False) as pipe:
            pipe.zmscore(AUDIT_COUNTS, [WRITTEN])
            pipe.xread({AUDIT: after}, count=READ_AT_ONCE, block=round(wait * 1000) or None)
            pipe.xrange(AUDIT, after, after)
            pipe.execute_command("ROLE")
            return await pipe.execute()


def position_before(unix: float) -> str:
    """Return the position before all entries that were written at this time (Unix seconds) or later."""
    milliseconds = max(0, round(unix * 1000) - 1)
    return f"{milliseconds}-{LAST_NUMBER}" if milliseconds else BEGINNING


def is_of_entry(position: str) -> bool:
    """Return whether a position is that of an entry, and not one before all entries of some time."""
    return position != BEGINNING and not position.endswith(f"-{LAST_NUMBER}")


def rewound(position: str) -> str:
    """Return the position as long before this one as two clocks may differ."""
    return position_before(int(position.partition("-")[0]) / 1000 - REWOUND_SECONDS)
