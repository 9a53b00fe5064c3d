"""Cache the rows of principals in use: each is valid for 1.7 s after the read that confirmed it was sent.

Rules kept here:
- The time counts from the moment the read was sent: the row may have changed since. With the time for which
  the result of a peek is valid (`cache.CACHED_VALID_SECONDS`) it is less than the 2 s of the bound.
- A row that is gone, or whose hash or prefix has changed, is dropped; the next request with its key reads
  it anew.
- A row that nobody asked for during 30 reads is no longer in use.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from gateway.keys.bounded_dict import BoundedDict
from gateway.keys.core.records import CoreRow
from gateway.policy.principals import ApiKey
from gateway.policy.terms import NO_TERMS, KeyTerms

CONFIRMED_SECONDS: Final = 1.7
IDLE_READS: Final = 30
MAX_IN_USE: Final = 20_000
READ_SIZE: Final = 1000

Read = Callable[[list[str]], Awaitable[Mapping[str, tuple[CoreRow, float]]]]
"""Returns the rows of key ids by id, each with the moment that its read was sent; raises GatewayError."""


@dataclass(slots=True)
class ConfirmedRow:
    """A principal by its row, whose read was sent at `sent`; it ends by `ends_at` (Unix seconds).

    `terms` are those of the store's record.
    """

    row: CoreRow
    ends_at: float
    sent: float
    terms: KeyTerms = NO_TERMS
    key: ApiKey = field(init=False)
    idle: int = 0

    def __post_init__(self) -> None:
        self.update_key()

    def update_key(self) -> None:
        """Take the principal from the row, its end from the row or `ends_at`, whichever is earlier."""
        ends_at = min(self.row.expires_at, self.ends_at)
        self.key = replace(self.row.principal(), expires_at=ends_at, terms=self.terms)

    def key_with(self, terms: KeyTerms) -> ApiKey:
        """Return the principal with these terms, and keep them."""
        if self.terms is not terms:
            self.terms = terms
            self.update_key()
        return self.key


class RowCache:
    """Confirmed principals by digest.

    Args:
        clock: monotonic seconds.
        read: reads rows again.
        on_row: gets every row that was.
        on_change: gets the row before and the row that was read.
        idle_reads: how often a row is read again that nobody asks for.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        read: Read,
        on_row: Callable[[CoreRow], None],
        on_change: Callable[[CoreRow, CoreRow], None] = lambda *_: None,
        *,
        idle_reads: int = IDLE_READS,
    ) -> None:
        self._idle_reads = idle_reads
        self._clock = clock
        self._read = read
        self._on_row = on_row
        self._on_change = on_change
        self._kept: BoundedDict[str, ConfirmedRow] = BoundedDict(MAX_IN_USE)
        # Bound once, as in `KeyCache`.
        self._row_of = self._kept.get

    def get(self, digest: str) -> ConfirmedRow | None:
        """Return the row that was last confirmed, however long ago."""
        return self._kept.get(digest)

    def fresh(self, digest: str) -> ConfirmedRow | None:
        """Return the confirmed row; None if it is older than CONFIRMED_SECONDS."""
        confirmed = self._row_of(digest)
        if confirmed is None or self._clock() >= confirmed.sent + CONFIRMED_SECONDS:
            return None
        return confirmed

    def keep(self, digest: str, row: CoreRow, sent: float, ends_at: float, terms: KeyTerms) -> ConfirmedRow:
        """Keep a confirmed row, or a later read of it; of too many, drop the one that was kept first."""
        before = self._kept.get(digest)
        if before is not None and before.sent > sent and before.row.hashed == row.hashed:
            row, sent = before.row, before.sent
        if before is not None and before.row.hashed == row.hashed:
            self._on_change(before.row, row)
        kept = ConfirmedRow(row, ends_at, sent, terms)
        self._kept.put(digest, kept)
        return kept

    def drop(self, digest: str) -> None:
        """Forget a principal."""
        self._kept.pop(digest, None)

    async def read_again(self) -> None:
        """Read every row in use. Raises GatewayError; confirmed rows stay valid for their time."""
        for digest, confirmed in list(self._kept.items()):
            confirmed.idle += 1
            if confirmed.idle > self._idle_reads:
                del self._kept[digest]
        in_use = iter(list(self._kept.items()))
        while True:
            batch = list(islice(in_use, READ_SIZE))
            # Read even if none is in use, so that an outage is known before a request meets it.
            found = await self._read([confirmed.row.id for _, confirmed in batch])
            for digest, confirmed in batch:
                self._renew(digest, confirmed, found.get(confirmed.row.id))
            if len(batch) < READ_SIZE:
                return

    def _renew(self, digest: str, confirmed: ConfirmedRow, found: tuple[CoreRow, float] | None) -> None:
        if self._kept.get(digest) is not confirmed:
            return
        if found is None:
            del self._kept[digest]
            return
        row, sent = found
        if (row.hashed, row.prefix) != (confirmed.row.hashed, confirmed.row.prefix):
            del self._kept[digest]
            return
        self._on_row(row)
        self._on_change(confirmed.row, row)
        if sent > confirmed.sent:
            confirmed.row, confirmed.sent = row, sent
            confirmed.update_key()
