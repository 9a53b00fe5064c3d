"""Confirm a key that the store knows by its row in Core's table.

Rules kept here:
- A principal is what its row says. What the store says counts too, if it is stricter: revoked, disabled,
  rotated, and the terms of its record, which no row has.
- A digest stands for the hash that its key was compared with: where the row's hash is another, the key is
  compared again. Where the row's prefix is another, Core would not find the key, and neither does the
  gateway.
- A key that is no row's is remembered for 1 s.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from gateway.errors import GatewayError
from gateway.keys.bounded_dict import BoundedDict
from gateway.keys.cache import LATE_SECONDS, KeyCache
from gateway.keys.core.records import CoreRow, rotation_end
from gateway.keys.core.row_cache import CONFIRMED_SECONDS, RowCache
from gateway.keys.core.row_sync import RowSync
from gateway.keys.core.sources import CoreSources
from gateway.keys.dataloader import BatchLimits, BatchLoader
from gateway.keys.errors import DatabaseUnavailableError, StoreUnavailableError
from gateway.keys.minting import PREFIX_LENGTH
from gateway.keys.record import KeyRecord
from gateway.keys.singleflight import SingleFlight
from gateway.policy.principals import ApiKey

UNKNOWN_SECONDS: Final = 1.0

MAX_HASHES: Final = 20_000
MAX_UNKNOWN: Final = 10_000

_LIMITS: Final = BatchLimits(size=1000, waiting=20_000, pause=0.0)


class RowConfirmation:
    """Confirms keys, and remembers the result.

    Args:
        cache: the store's records in process.
        sources: the store and Core's table.
        sync: gets every row that was read, and those that were read again.
        clock: monotonic seconds.
        idle_reads: how often a row is read again that nobody asks for.

    `hashes` has the hash that each key was compared with, by digest.
    """

    def __init__(
        self,
        cache: KeyCache,
        sources: CoreSources,
        sync: RowSync,
        clock: Callable[[], float],
        idle_reads: int,
    ) -> None:
        self._cache = cache
        self._sources = sources
        self._sync = sync
        self._clock = clock
        self._rows = BatchLoader(self._read_rows, _LIMITS)
        self._unknown: BoundedDict[str, float] = BoundedDict(MAX_UNKNOWN)
        self._comparisons: SingleFlight[bool] = SingleFlight()
        self.hashes: BoundedDict[str, str] = BoundedDict(MAX_HASHES)
        self.confirmed = RowCache(
            clock, self._read_rows, sync.revocations.note, sync.changes.note, idle_reads=idle_reads
        )

    def is_unknown(self, digest: str) -> bool:
        """Return whether it is known that the key is no row's."""
        return self._clock() < self._unknown.get(digest, 0.0)

    def note_unknown(self, digest: str) -> None:
        """Remember that a key is no row's."""
        self.confirmed.drop(digest)
        self._unknown.put(digest, self._clock() + UNKNOWN_SECONDS)

    async def confirm(self, digest: str, key: str, known: ApiKey, client: str) -> ApiKey | None:
        """Return the principal by its row now, or by the store if that is stricter; None if it is no row's.

        `known` is the key as the store knows it, `client` the address that sent it.

        Raises:
            GatewayError: the store or Core's database failed, or too many ask.
        """
        read_again = False
        while True:
            last = None if read_again else self.confirmed.fresh(digest)
            found = (last.row, last.sent) if last is not None else await self._rows.get(known.id)
            if found is None or found[0].prefix != key[:PREFIX_LENGTH]:
                break
            row, sent = found
            # Read after the row: what was changed in the store meanwhile counts.
            record = await self._read_record(digest)
            if record is not None and (record.revoked or record.disabled):
                return record.principal()
            if not row.revoked and self._clock() >= sent + CONFIRMED_SECONDS:
                if last is not None:
                    # It was old already, and is read once more.
                    read_again = True
                    continue
                raise DatabaseUnavailableError(reason="Core's database responds too late")
            compared = self.hashes.get(digest) or (record.bcrypt if record is not None else "")
            if compared and compared == row.hashed:
                self._sync.revocations.note(row)
                ends_at = self._ends_at(digest, known, record)
                # Without a record the store fails, or was emptied: what was known of it last counts.
                terms = known.terms if record is None else record.terms
                return self.confirmed.keep(digest, row, sent, ends_at, terms).key
            if not await self._comparisons.do(digest, partial(self._compare, digest, key, row, client)):
                break
        self.note_unknown(digest)
        return None

    async def close(self) -> None:
        """Cancel everything under way."""
        await self._rows.close()
        await self._comparisons.close()

    async def _compare(self, digest: str, key: str, row: CoreRow, client: str) -> bool:
        """Compare a key with the hash in its row, and store the hash if it is the key's."""
        if not await self._sources.verifier.matches(key, row.hashed, client=client):
            return False
        self.hashes.put(digest, row.hashed)
        with contextlib.suppress(GatewayError):
            # Otherwise every replica would compare it once more after each restart.
            await self._sources.store.revise(row.id, partial(_with_hash, digest=digest, hashed=row.hashed))
        return True

    async def _read_record(self, digest: str) -> KeyRecord | None:
        """Return the store's record; None while the store fails, and the cache's grace decides."""
        if self._cache.last_lookup_failed and self.confirmed.get(digest) is not None:
            return None
        asked = self._clock()
        try:
            record = await self._sources.store.get_by_digest(digest)
        except GatewayError:
            if self._cache.linked:
                raise
            return None
        if self._clock() > asked + LATE_SECONDS and (record is None or not record.revoked):
            raise StoreUnavailableError(reason="the key store responds too late")
        return record

    def _ends_at(self, digest: str, known: ApiKey, record: KeyRecord | None) -> float:
        """Return when a rotation ends the key, also where the store was emptied since, or fails."""
        last = self.confirmed.get(digest)
        before = float("inf") if last is None else last.ends_at
        if record is not None:
            return min(before, rotation_end(record))
        return before if last is not None else known.expires_at

    async def _read_rows(self, key_ids: list[str]) -> dict[str, tuple[CoreRow, float]]:
        sent = self._clock()
        rows = await self._sources.rows.by_ids(key_ids)
        return {key_id: (row, sent) for key_id, row in rows.items()}


def _with_hash(record: KeyRecord, *, digest: str, hashed: str) -> KeyRecord:
    """Return the record of a key that was compared with this hash; another key's is left alone."""
    return replace(record, bcrypt=hashed) if record.digest == digest else record
