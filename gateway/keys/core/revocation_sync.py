"""Write revocations that were made in Core to the store: they are final, and every replica knows them."""

from __future__ import annotations

from functools import partial

from gateway.errors import GatewayError
from gateway.gocompat.times import Instant
from gateway.keys.cache import KeyCache
from gateway.keys.core.records import CoreRow, revoked_as
from gateway.keys.store import RecordReviser


class RevocationSync:
    """The revoked rows that were read, until the store has their revocations. `cache` gets them, too."""

    def __init__(self, store: RecordReviser, cache: KeyCache) -> None:
        self._store = store
        self._cache = cache
        self._revoked: dict[str, CoreRow] = {}

    def note(self, row: CoreRow) -> None:
        """Note a row that was read; it counts if it is revoked."""
        if row.revoked:
            self._revoked[row.id] = row

    async def write(self, now: Instant) -> None:
        """Write the revocations that were noted; what the store refuses is written the next time."""
        for key_id, row in list(self._revoked.items()):
            try:
                revoked = await self._store.revise(key_id, partial(revoked_as, row=row, now=now))
            except GatewayError:
                # The rows still say it.
                return
            if revoked is not None:
                self._cache.apply_record(revoked)
            if self._revoked.get(key_id) is row:
                del self._revoked[key_id]
