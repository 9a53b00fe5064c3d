"""Look up a key that only Core's table knows, and store its digest.

Rules kept here:
- The key is looked up by its first 16 characters and compared by bcrypt. Once found, its digest is stored,
  for every replica.
- Requests with the same key share one look-up, and the addresses of clients take turns.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

from gateway.audit.author import CORE
from gateway.fairness.shares import network_of
from gateway.keys.cache import KeyCache
from gateway.keys.core.confirmation import RowConfirmation
from gateway.keys.core.records import CoreRow, record_of
from gateway.keys.core.sources import CoreSources
from gateway.keys.dataloader import BatchLimits, BatchLoader
from gateway.keys.minting import PREFIX_LENGTH, is_key
from gateway.keys.record import KeyRecord, RefusedRecordError
from gateway.keys.singleflight import SingleFlight
from gateway.policy.principals import ApiKey

MAX_CANDIDATES: Final = 8
"""The most rows with one prefix that are compared: two keys of Core share one only by design."""

# At most 50 reads a second for any number of unknown keys.
_LIMITS: Final = BatchLimits(size=128, waiting=8192, pause=0.02, patience=0.6)


class FirstUse:
    """Looks up keys that the store does not know. `cache` has the store's records in process."""

    def __init__(self, cache: KeyCache, sources: CoreSources, confirmation: RowConfirmation) -> None:
        self._cache = cache
        self._sources = sources
        self._confirmation = confirmation
        self._rows = BatchLoader(sources.rows.by_prefixes, _LIMITS)
        self._lookups: SingleFlight[ApiKey | None] = SingleFlight()

    async def lookup_unknown(self, digest: str, key: str, client: str) -> ApiKey | None:
        """Return the principal of a key; None if it is no row's. Raises GatewayError.

        `client` is the address that sent the key.
        """
        if not is_key(key):
            return None
        return await self._lookups.do(digest, partial(self._match_rows, digest, key, client))

    async def close(self) -> None:
        """Cancel everything under way."""
        await self._rows.close()
        await self._lookups.close()

    async def _match_rows(self, digest: str, key: str, client: str) -> ApiKey | None:
        """Compare the key with the rows that have its prefix."""
        candidates = await self._rows.get(key[:PREFIX_LENGTH], network_of(client)) or []
        for row in candidates[:MAX_CANDIDATES]:
            # A comparison from before the store was emptied need not be repeated.
            known = self._confirmation.hashes.get(digest) == row.hashed
            if known or await self._sources.verifier.matches(key, row.hashed, client=client):
                return await self._store_digest(digest, key, row, client)
        self._confirmation.note_unknown(digest)
        return None

    async def _store_digest(self, digest: str, key: str, row: CoreRow, client: str) -> ApiKey | None:
        """Store the digest of a key that is this row's, and return the principal."""
        record = await self._bind_pending(digest, row)
        if record is None:
            try:
                await self._sources.store.acting_as(CORE).add(record_of(row, digest))
            except RefusedRecordError:
                # Somebody was first: another replica, a command that knows only the id, or another key
                # whose place in the row this one has taken.
                await self._bind_pending(digest, row, moved=True)
        self._confirmation.hashes.put(digest, row.hashed)
        # Through the cache, which remembers what it has once seen revoked.
        known = await self._cache.lookup(digest, client)
        if known is None or known.revoked or known.disabled:
            return known
        # The row may be seconds old by now: bcrypt takes its time.
        return await self._confirmation.confirm(digest, key, known, client)

    async def _bind_pending(self, digest: str, row: CoreRow, *, moved: bool = False) -> KeyRecord | None:
        """Return the store's record of a key, perhaps pending until now; None if there is none."""
        record = await self._sources.store.bind_digest(row.id, digest, moved=moved)
        if record is None or record.bcrypt == row.hashed:
            return record
        return await self._sources.store.revise(row.id, lambda found: replace(found, bcrypt=row.hashed))
