"""The rows of principals in use: each honoured for 1.7 s after it was last asked for, and read again.

Rules kept here:
- They count from the moment that the read was sent: what a row said then may have changed since. With what
  a peek may be relied on for (`cache.CACHED_VALID_SECONDS`) they are less than the 2 s of the bound.
- A row that is gone, or whose hash or prefix is another, is dropped; who asks for its key asks anew.
- A row that nobody asked for during 30 reads is no longer in use.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from gateway.keys.core.records import CoreRow
from gateway.policy.principals import ApiKey

CONFIRMED_SECONDS: Final = 1.7
IDLE_READS: Final = 30
MAX_IN_USE: Final = 20_000
READ_SIZE: Final = 1000

Read = Callable[[list[str]], Awaitable[Mapping[str, tuple[CoreRow, float]]]]
"""The rows of these key ids by id, each with the moment that its read was sent; raises GatewayError."""


@dataclass(slots=True)
class Confirmed:
    """A principal by its row, which was read at `sent`; it ends at `ends_at` (Unix seconds) at the latest."""

    row: CoreRow
    ends_at: float
    sent: float
    key: ApiKey = field(init=False)
    idle: int = 0

    def __post_init__(self) -> None:
        self.judge()

    def judge(self) -> None:
        """Take the principal from the row, and its end from whoever ends it first."""
        self.key = replace(self.row.principal(), expires_at=min(self.row.expires_at, self.ends_at))


class RowCache:
    """Confirmed principals by digest.

    Args:
        clock: monotonic seconds.
        read: reads rows again.
        see: told of every row that was.
        idle_reads: how often a row is read again that nobody asks for.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        read: Read,
        see: Callable[[CoreRow], None],
        *,
        idle_reads: int = IDLE_READS,
    ) -> None:
        self._idle_reads = idle_reads
        self._clock = clock
        self._read = read
        self._see = see
        self._kept: dict[str, Confirmed] = {}

    def get(self, digest: str) -> Confirmed | None:
        """What was last confirmed, however long ago."""
        return self._kept.get(digest)

    def fresh(self, digest: str) -> Confirmed | None:
        """What was confirmed no longer ago than that."""
        confirmed = self._kept.get(digest)
        if confirmed is None or self._clock() >= confirmed.sent + CONFIRMED_SECONDS:
            return None
        return confirmed

    def keep(self, digest: str, row: CoreRow, sent: float, ends_at: float) -> Confirmed:
        """Confirm a row, or what was read of it later; of too many, the one that was first confirmed goes."""
        before = self._kept.pop(digest, None)
        if before is not None and before.sent > sent and before.row.hashed == row.hashed:
            row, sent = before.row, before.sent
        if len(self._kept) >= MAX_IN_USE:
            del self._kept[next(iter(self._kept))]
        kept = self._kept[digest] = Confirmed(row, ends_at, sent)
        return kept

    def drop(self, digest: str) -> None:
        """Forget a principal."""
        self._kept.pop(digest, None)

    async def read_again(self) -> None:
        """Read every row in use; raises GatewayError, and what was confirmed before stays so long it may."""
        for digest, confirmed in list(self._kept.items()):
            confirmed.idle += 1
            if confirmed.idle > self._idle_reads:
                del self._kept[digest]
        in_use = iter(list(self._kept.items()))
        while True:
            batch = list(islice(in_use, READ_SIZE))
            # Without any in use it is still asked, so that an outage is known before it is felt.
            found = await self._read([confirmed.row.id for _, confirmed in batch])
            for digest, confirmed in batch:
                self._renew(digest, confirmed, found.get(confirmed.row.id))
            if len(batch) < READ_SIZE:
                return

    def _renew(self, digest: str, confirmed: Confirmed, found: tuple[CoreRow, float] | None) -> None:
        if self._kept.get(digest) is not confirmed:
            return
        if found is None:
            del self._kept[digest]
            return
        row, sent = found
        if (row.hashed, row.prefix) != (confirmed.row.hashed, confirmed.row.prefix):
            del self._kept[digest]
            return
        self._see(row)
        if sent > confirmed.sent:
            confirmed.row, confirmed.sent = row, sent
            confirmed.judge()
