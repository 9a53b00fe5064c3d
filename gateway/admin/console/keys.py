"""`GET /console/keys`: the keys that end soon, and the keys that were never used.

Rules kept here:
- At most `MOST_READ` records count, and `MOST_LISTED` of each kind are listed. Nothing is read after the
  batch in which there is one more.
- What was read is shown for `FRESH_SECONDS`, and one request at a time reads, so that many pages cost the
  store no more than one.
- Records that cannot be read are counted, and are among those `MOST_READ`.
- A key is named by its id, owner and name; nothing else of a record is shown but its times.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Final, Protocol

from gateway.keys.record import KeyRecord
from gateway.keys.store import LeftOut, UnreadableKey
from gateway.policy.explanation import printable
from gateway.policy.principals import KeyState
from gateway.telemetry.access_log import Timestamps

SOON_SECONDS: Final = 30 * 86_400.0
MOST_READ: Final = 10_000
MOST_LISTED: Final = 50
FRESH_SECONDS: Final = 10.0


class RecordScan(Protocol):
    """Reads the records of a store."""

    def scan(self, left_out: LeftOut | None = None) -> AsyncIterator[list[KeyRecord]]:
        """Return all records, in batches and in no order; `left_out` takes note of what cannot be read.

        Raises GatewayError.
        """


class KeysPage:
    """Shows the keys of one store; `now` gives Unix seconds."""

    def __init__(self, store: RecordScan, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._reading = asyncio.Lock()
        self._shown: dict[str, object] = {}
        self._read_at = float("-inf")

    async def page(self, _: Mapping[str, str]) -> dict[str, object]:
        """Return the members of the page. Raises what the store raises."""
        async with self._reading:
            now = self._now()
            if not 0 <= now - self._read_at < FRESH_SECONDS:
                self._shown, self._read_at = await self._read(now), now
        return self._shown

    async def _read(self, now: float) -> dict[str, object]:
        live: dict[str, KeyRecord] = {}
        unreadable: list[UnreadableKey] = []
        read, complete = 0, True
        async for batch in self._store.scan(unreadable.append):
            room = MOST_READ - read - len(unreadable)
            taken = batch[: max(0, room)]
            read += len(taken)
            live |= {one.id: one for one in taken if one.state(now) is KeyState.LIVE}
            complete = len(batch) <= room
            if not complete:
                break
        soon = [one for one in live.values() if one.ends - now < SOON_SECONDS]
        unused = [one for one in live.values() if one.last_used_at is None]
        return {
            "at": Timestamps().at(now),
            "complete": complete,
            "unreadable": min(len(unreadable), MOST_READ - read),
            "ending": _listed(heapq.nsmallest(MOST_LISTED, soon, key=lambda one: one.ends)),
            "ending_count": len(soon),
            "unused": _listed(heapq.nsmallest(MOST_LISTED, unused, key=lambda one: one.created_at.unix)),
            "unused_count": len(unused),
        }


def _listed(records: Iterable[KeyRecord]) -> list[dict[str, object]]:
    return [
        {
            "key_id": one.id,
            "owner": printable(one.owner),
            "name": printable(one.name),
            "created_at": str(one.created_at),
            "expires_at": str(one.expires_at),
        }
        for one in records
    ]
