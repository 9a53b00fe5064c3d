"""The stream of changes to keys in Redis: written with each record, followed by every replica.

Rules kept here:
- What a read of the changes brings is from the primary: it says so itself in the same round trip, and where
  Sentinels watch it, one of them confirms it meanwhile.
- A position whose entry is gone is a gap: the stream was cut, lost, or restored from a copy.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from gateway.audit.entry import AuditEntry
from gateway.keys.command_times import CommandKind
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.record import KeyRecord
from gateway.keys.redis.connection import RedisLink
from gateway.keys.redis.errors import redis_errors
from gateway.keys.redis.names import CHANGES
from gateway.keys.redis.role import is_primary
from gateway.keys.redis.script import Command, Word
from gateway.keys.store import KeyChange, KeyChangeBatch

_REVOKED: Final = b"1"
NEWLY_REVOKED: Final = b"2"
"""In an entry of the stream: revoked by this very change, not one that an import brings or that is bound."""

_START: Final = "0-0"
_COUNT: Final = 1000
"""How many changes are read at once."""


def change_entry(record: KeyRecord, changes_kept: int, audited: AuditEntry | None, *, newly: bool) -> Command:
    """Return the command that adds the change of a record to the stream.

    Args:
        record: the record after the change.
        changes_kept: about how many entries the stream keeps.
        audited: the audit entry of the change; None if the record is only written again.
        newly: True if this very change revokes a key that was not revoked before.
    """
    limit = ("MAXLEN", "~", changes_kept, "*")
    revoked = NEWLY_REVOKED if newly else _REVOKED
    state = revoked if record.revoked else b"0"
    words: tuple[Word, ...] = (*limit, "digest", record.digest, "id", record.id, "revoked", state)
    if audited is not None:
        words += ("what", audited.kind, "by", audited.by, "way", audited.way)
    return Command("XADD", CHANGES, words)


class RedisChangeFeed:
    """Reads the stream over one link."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link

    async def is_empty(self) -> bool:
        """Return True if no key was ever stored: every one leaves a change in the stream."""
        async with redis_errors():
            return not await self.link.changes.exists(CHANGES)

    async def last_position(self) -> str:
        """Return the id of the last entry in the stream."""
        async with redis_errors():
            return _entry_id(await self.link.changes.xrevrange(CHANGES, count=1)) or _START

    async def changes(self, after: str, wait: float) -> KeyChangeBatch:
        """Return the entries of the stream after a position; wait up to `wait` seconds for the first one.

        They are continuous if the entry at `after` is still there.
        """
        async with self.link.command(CommandKind.FOLLOW, wait) as command:
            read, there, last, role = await self._read_confirmed(after, wait)
            if not is_primary(role):
                await self.link.drop()
                raise StoreUnavailableError(reason="the Redis that answers is no primary")
            self.link.observe_replicas(role)
            command.waits = None if read else wait
        entries = read[0][1] if read else []
        changes = [_read_change(entry_id, fields) for entry_id, fields in entries]
        whole = len(entries) < _COUNT
        # Before a stream's first entry there is none; where all have come, none was cut.
        continuous = None not in changes and (whole if after == _START else bool(there))
        position = _entry_id(entries[-1:]) or (after if continuous else _entry_id(last) or _START)
        return KeyChangeBatch(position, tuple(change for change in changes if change), continuous, whole)

    async def _read_confirmed(self, after: str, wait: float) -> Any:
        """Read the stream while its primary is confirmed to be one."""
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
        # One round trip. The entry at `after` is read behind the others, so that a cut in between is seen.
        async with self.link.follower.pipeline(transaction=False) as pipe:
            pipe.xread({CHANGES: after}, count=_COUNT, block=max(1, round(wait * 1000)))
            pipe.xrange(CHANGES, after, after)
            pipe.xrevrange(CHANGES, count=1)
            pipe.execute_command("ROLE")
            return await pipe.execute()


def _entry_id(entries: list[tuple[bytes, Any]]) -> str | None:
    return entries[0][0].decode() if entries else None


def _read_change(entry_id: bytes, fields: dict[bytes, bytes]) -> KeyChange | None:
    """Return the change in an entry; None if it is not one of ours."""
    try:
        digest, key_id, revoked = (fields[name] for name in (b"digest", b"id", b"revoked"))
        # An id of an entry is `MILLISECONDS-SEQUENCE`.
        at = int(entry_id.partition(b"-")[0]) / 1000 if revoked == NEWLY_REVOKED else None
        # Versions before the audit stream have not written these.
        what, by, way = (fields.get(name, b"").decode() for name in (b"what", b"by", b"way"))
        return KeyChange(digest.decode(), key_id.decode(), revoked != b"0", at, what, by, way)
    except (KeyError, UnicodeDecodeError):
        return None
