"""Keys in Redis or Valkey, and the stream of their changes.

Rules kept here:
- The entry in the stream is written with the record (`redis_records`), so what the stream does not show
  has not happened.
- What a read of the changes brings is from the primary: it says so itself in the same round trip, and where
  Sentinels watch it, one of them confirms it meanwhile.
- No retries: an outage is a failure within 1.5 s.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from gateway.keys.errors import StoreUnavailableError
from gateway.keys.redis.connection import RedisLink, is_primary, replicas_of
from gateway.keys.redis.durability import durability_warnings, memory_ratio, too_few_acknowledge
from gateway.keys.redis.errors import redis_errors
from gateway.keys.redis.indexes import NEWLY_REVOKED
from gateway.keys.redis.names import CHANGES
from gateway.keys.redis.records import RedisRecords
from gateway.keys.store import KeyChange, KeyChangeBatch

_START: Final = "0-0"
_COUNT: Final = 1000
"""How many changes are read at once."""


class RedisKeyStore(RedisRecords):
    """Keys in one Redis, shared by every replica of the gateway.

    Args:
        url: as `redis_url.read_url` takes it.
        replicas: the least number of Redis replicas that must acknowledge a write.
        changes_kept: about how many changes the stream keeps.

    Raises:
        ValueError: the URL is not one of Redis; the message does not repeat it.
    """

    def __init__(self, url: str, *, replicas: int = 0, changes_kept: int = 10_000) -> None:
        super().__init__(RedisLink(url), changes_kept, replicas)

    async def empty(self) -> bool:
        """Whether no key was ever stored: every one leaves a change in the stream."""
        async with redis_errors():
            return not await self._client.exists(CHANGES)

    async def ping(self) -> None:
        """Return if the store answers."""
        async with redis_errors():
            await self._client.ping()

    async def warnings(self) -> tuple[str, ...]:
        """What speaks against keeping keys in this Redis; empty if nothing does."""
        async with redis_errors():
            found = await durability_warnings(self._client)
            connected = replicas_of(await self._client.execute_command("ROLE"))
        if self.link.fails_over and connected > self._replicas:
            found += (too_few_acknowledge(connected, self._replicas),)
        return found

    async def memory_ratio(self) -> float | None:
        """How much of its `maxmemory` Redis uses; None if it has none, or does not say."""
        async with redis_errors():
            return await memory_ratio(self._client)

    async def last_position(self) -> str:
        """The id of the last entry in the stream."""
        async with redis_errors():
            return _entry_id(await self._client.xrevrange(CHANGES, count=1)) or _START

    async def changes(self, after: str, wait: float) -> KeyChangeBatch:
        """The entries of the stream after a position; waits up to `wait` seconds for the first one.

        They are continuous if the entry at `after` is still there: not where the stream was cut, lost, or
        restored from a copy.
        """
        async with redis_errors(wait):
            read, there, last, role = await self._read_confirmed(after, wait)
            if not is_primary(role):
                await self.link.drop()
                raise StoreUnavailableError(reason="the Redis that answers is no primary")
            self.link.replicas(role)
        entries = read[0][1] if read else []
        changes = [_read_change(entry_id, fields) for entry_id, fields in entries]
        whole = len(entries) < _COUNT
        # Before a stream's first entry there is none; where all have come, none was cut.
        continuous = None not in changes and (whole if after == _START else bool(there))
        position = _entry_id(entries[-1:]) or (after if continuous else _entry_id(last) or _START)
        return KeyChangeBatch(position, tuple(change for change in changes if change), continuous, whole)

    async def close(self) -> None:
        """Close every connection; who still waits for a look-up fails."""
        await self._look_ups.close()
        await self.link.close()

    async def _read_confirmed(self, after: str, wait: float) -> Any:
        """What was read of the stream, if its primary still is one for the Sentinels meanwhile."""
        reading = asyncio.ensure_future(self._read_stream(after, wait))
        try:
            await self.link.confirm()
            return await reading
        except asyncio.CancelledError:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            raise
        except Exception:
            # It holds the follower's only connection, and must not outlive the deadline of this call.
            await asyncio.gather(reading, return_exceptions=True)
            raise

    async def _read_stream(self, after: str, wait: float) -> Any:
        # One round trip; the entry at `after` is read behind the others, so a cut in between is seen.
        async with self.link.follower.pipeline(transaction=False) as pipe:
            pipe.xread({CHANGES: after}, count=_COUNT, block=max(1, round(wait * 1000)))
            pipe.xrange(CHANGES, after, after)
            pipe.xrevrange(CHANGES, count=1)
            pipe.execute_command("ROLE")
            return await pipe.execute()


def _entry_id(entries: list[tuple[bytes, Any]]) -> str | None:
    return entries[0][0].decode() if entries else None


def _read_change(entry_id: bytes, fields: dict[bytes, bytes]) -> KeyChange | None:
    """The change in an entry; None if it is not one of ours."""
    try:
        digest, key_id, revoked = (fields[name] for name in (b"digest", b"id", b"revoked"))
        # An id of an entry is `MILLISECONDS-SEQUENCE`.
        at = int(entry_id.partition(b"-")[0]) / 1000 if revoked == NEWLY_REVOKED else None
        return KeyChange(digest.decode(), key_id.decode(), revoked != b"0", at)
    except (KeyError, UnicodeDecodeError):
        return None
