"""Core as the authority on keys: its table is the record, and the store maps digests to key ids.

Rules kept here:
- A principal is what its row says. It is valid for 2 s after the last read that confirmed the row was sent,
  and the rows of principals in use are read again every second (`row_cache`, `confirmation`).
- A key that the store does not know is looked up in Core's table (`first_use`).
- A revocation seen in a row is written to the store, and nothing takes it back (`revocation_sync`). Other
  changes of rows in use are audited (`row_changes`).
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.audit.author import CORE
from gateway.errors import GatewayError
from gateway.gocompat.times import Instant
from gateway.keys.cache import KeyCache
from gateway.keys.core.confirmation import RowConfirmation
from gateway.keys.core.first_use import FirstUse
from gateway.keys.core.records import current_record, row_of
from gateway.keys.core.revocation_sync import RevocationSync
from gateway.keys.core.row_cache import IDLE_READS
from gateway.keys.core.row_changes import RowChanges
from gateway.keys.core.row_sync import RowSync
from gateway.keys.core.sources import CoreSources, KeyClocks
from gateway.keys.record import KeyRecord
from gateway.policy.principals import ApiKey

BOUND_SECONDS: Final = 2.0
READ_SECONDS: Final = 1.0


class CoreAuthority:
    """Identifies keys by their rows in Core's table.

    Args:
        cache: the store's records in process; followed here.
        sources: the store and Core's table; the table and the verifier are closed here.
        clocks: the time.
        idle_reads: how often a row is read again that nobody asks for.
    """

    bound: Final = f"every replica refuses a key within {BOUND_SECONDS:g} s of its revocation in Core's table"
    """The time within which a revoked key is refused; a grace covers the store alone, and no row."""

    def __init__(
        self, cache: KeyCache, sources: CoreSources, clocks: KeyClocks, *, idle_reads: int = IDLE_READS
    ) -> None:
        self._cache = cache
        self._sources = sources
        self._clocks = clocks
        store = sources.store.acting_as(CORE)
        self._sync = RowSync(RevocationSync(store, cache), RowChanges(store))
        self._confirmation = RowConfirmation(cache, sources, self._sync, clocks.monotonic, idle_reads)
        self._confirmed = self._confirmation.confirmed
        self._first_use = FirstUse(cache, sources, self._confirmation)
        self._failure: GatewayError | None = None

    @property
    def failure(self) -> GatewayError | None:
        """The reason why principals cannot be confirmed; None if they can."""
        return self._failure or self._cache.failure

    async def check(self) -> None:
        """Return if Core's table can be read; raises UnusableAuthorityError or GatewayError."""
        await self._sources.rows.check()

    def peek(self, digest: str) -> ApiKey | None:
        """Return the principal of a key, if its row is confirmed and the store is no stricter."""
        confirmed = self._confirmed.fresh(digest)
        if confirmed is None:
            return None
        known = self._cache.peek(digest)
        if known is None:
            return None
        confirmed.idle = 0
        return known if known.revoked or known.disabled else confirmed.key_with(known.terms)

    async def identify(self, digest: str, key: str, client: str = "") -> ApiKey | None:
        """Return the principal of a key, live or not; None if neither the store nor Core knows it.

        `client` is the address that sent the key.

        Raises:
            GatewayError: the store or Core's database failed, or too many ask.
        """
        if self._confirmation.is_unknown(digest):
            return None
        known = await self._cache.lookup(digest, client)
        if known is None:
            return await self._first_use.lookup_unknown(digest, key, client)
        if known.revoked or known.disabled:
            return known
        return await self._confirmation.confirm(digest, key, known, client)

    async def get(self, key_id: str) -> KeyRecord | None:
        """Return a key as it is now, by its row and by what the store knows besides."""
        row = await row_of(self._sources.rows, key_id)
        return current_record(await self._sources.store.get(key_id), row, Instant.of(self._clocks.now()))

    async def follow(self) -> None:
        """Follow the store, and read the rows in use again, for ever; returns only by cancellation."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._cache.follow())
            tasks.create_task(self._read_rows_in_use())
            tasks.create_task(self._write_changes())

    async def _read_rows_in_use(self) -> None:
        while True:
            began = self._clocks.monotonic()
            try:
                await self._confirmed.read_again()
            except GatewayError as failure:
                self._failure = failure
            else:
                self._failure = None
            await self._sync.revocations.write(Instant.of(self._clocks.now()))
            await asyncio.sleep(max(0.0, began + READ_SECONDS - self._clocks.monotonic()))

    async def _write_changes(self) -> None:
        """Write the changes that were seen, for ever; the reading of rows does not wait for it."""
        while True:
            await self._sync.changes.write()
            await asyncio.sleep(READ_SECONDS)

    async def close(self) -> None:
        """Close the rows and the verifier, and cancel look-ups; the store is closed by its owner."""
        await self._first_use.close()
        await self._confirmation.close()
        self._sources.verifier.close()
        self._sources.rows.close()
