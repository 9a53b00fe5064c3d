"""Keys that live in Core: its table is the record, the store only remembers whose digest is whose.

Rules kept here:
- A principal is what its row says, and is honoured for 2 s after the last read that confirmed the row
  was sent; the rows of principals in use are read again every second.
- What the store knows besides counts too, if it is stricter: revoked, disabled, rotated away.
- A key that the store does not know is looked up by its first 16 characters and compared by bcrypt;
  once found, its digest goes into the store, for every replica.
- A digest stands for the hash it was compared with: where the row's hash is another, the key is
  compared again. Where its prefix is another, Core would not find the key, and neither does the gateway.
- A revocation seen in a row goes into the store, and nothing takes it back.
- What is no key is remembered for 1 s.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final, Protocol

from gateway.errors import GatewayError
from gateway.fairness.shares import network_of
from gateway.gocompat.times import Instant
from gateway.keys.cache import LATE_SECONDS, KeyCache
from gateway.keys.core.records import (
    CoreRow,
    KnownRows,
    record_of,
    revoked_as,
    rotated_away,
    row_of,
    today,
)
from gateway.keys.core.row_cache import CONFIRMED_SECONDS, IDLE_READS, RowCache
from gateway.keys.core.verifier import Verifier
from gateway.keys.dataloader import BatchLimits, BatchLoader
from gateway.keys.errors import DatabaseUnavailableError, StoreUnavailableError
from gateway.keys.minting import PREFIX_LENGTH, is_key
from gateway.keys.record import KeyRecord, RefusedRecordError
from gateway.keys.singleflight import shared
from gateway.keys.store import KeyStore
from gateway.policy.principals import ApiKey

BOUND_SECONDS: Final = 2.0
READ_SECONDS: Final = 1.0
UNKNOWN_SECONDS: Final = 1.0

MAX_HASHES: Final = 20_000
MAX_UNKNOWN: Final = 10_000
MAX_CANDIDATES: Final = 8
"""How many rows with one prefix are compared: two keys of Core never share one but by design."""

_KNOWN: Final = BatchLimits(size=1000, waiting=20_000, pause=0.0)
# At most 50 reads a second for whatever number of keys that nobody knows.
_UNKNOWN: Final = BatchLimits(size=128, waiting=8192, pause=0.02, patience=0.6)


class Rows(KnownRows, Protocol):
    """Core's whole table; failures are DatabaseUnavailableError."""

    async def check(self) -> None:
        """Return if it can be read; raises UnusableAuthorityError or GatewayError."""

    async def by_prefixes(self, prefixes: Sequence[str]) -> Mapping[str, list[CoreRow]]:
        """The rows of keys that begin so, by prefix."""

    def close(self) -> None:
        """Let go of every connection."""


class CoreKeys:
    """Principals by key, with Core as the authority.

    Args:
        cache: the store's records in process; followed here.
        store: where the digests are.
        rows: Core's table.
        verifier: compares keys with hashes.
        clock: monotonic seconds.
        now: the time, aware and in UTC.
        idle_reads: how often a row is read again that nobody asks for.
    """

    def __init__(
        self,
        cache: KeyCache,
        store: KeyStore,
        rows: Rows,
        verifier: Verifier,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        idle_reads: int = IDLE_READS,
    ) -> None:
        self._cache = cache
        self._store = store
        self._rows = rows
        self._verifier = verifier
        self._clock = clock
        self._now = now
        self._confirmed = RowCache(clock, self._read_known, self._see, idle_reads=idle_reads)
        self._unknown: dict[str, float] = {}
        self._hashes: dict[str, str] = {}
        self._arrivals: dict[str, asyncio.Task[ApiKey | GatewayError | None]] = {}
        self._comparisons: dict[str, asyncio.Task[bool | GatewayError]] = {}
        self._revoked: dict[str, CoreRow] = {}
        self._known_rows = BatchLoader(self._read_known, _KNOWN)
        self._unknown_rows = BatchLoader(rows.by_prefixes, _UNKNOWN)
        self._failure: GatewayError | None = None

    @property
    def failure(self) -> GatewayError | None:
        """Why principals cannot be confirmed; None if they can."""
        return self._failure or self._cache.failure

    @property
    def bound(self) -> str:
        """What a revocation is worth; a grace covers the store alone, and no row."""
        return f"every replica refuses a key within {BOUND_SECONDS:g} s of its revocation in Core's table"

    async def check(self) -> None:
        """Return if Core's table can be read; raises UnusableAuthorityError or GatewayError."""
        await self._rows.check()

    def peek(self, digest: str) -> ApiKey | None:
        """The principal of a key, if its row is confirmed and the store has nothing against it."""
        confirmed = self._confirmed.fresh(digest)
        if confirmed is None:
            return None
        known = self._cache.peek(digest)
        if known is None:
            return None
        confirmed.idle = 0
        return known if known.revoked or known.disabled else confirmed.key

    async def find(self, digest: str, key: str, client: str = "") -> ApiKey | None:
        """The principal of a key, live or not; None if neither the store nor Core knows it.

        `client` is the address that sent the key.

        Raises:
            GatewayError: the store or Core's database failed, or too many ask (KEY_STORE_UNAVAILABLE).
        """
        if self._clock() < self._unknown.get(digest, 0.0):
            return None
        known = await self._cache.find(digest, client)
        if known is None:
            return await self._lookup_unknown(digest, key, client)
        if known.revoked or known.disabled:
            return known
        return await self._confirm(digest, key, known, client)

    async def get(self, key_id: str) -> KeyRecord | None:
        """What is so of a key now, by its row and by what the store knows besides."""
        row = await row_of(self._rows, key_id)
        return today(await self._store.get(key_id), row, Instant.of(self._now()))

    async def follow(self) -> None:
        """Follow the store, and read the rows in use again, for ever; returns only by cancellation."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._cache.follow())
            both.create_task(self._confirm_all())

    async def _confirm_all(self) -> None:
        while True:
            began = self._clock()
            try:
                await self._confirmed.read_again()
            except GatewayError as failure:
                self._failure = failure
            else:
                self._failure = None
            await self._pass_revocations_on()
            await asyncio.sleep(max(0.0, began + READ_SECONDS - self._clock()))

    async def close(self) -> None:
        """Let go of what is under way, of the rows and the verifier; the store is its owner's to close."""
        await self._known_rows.close()
        await self._unknown_rows.close()
        flights = [*self._arrivals.values(), *self._comparisons.values()]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        self._verifier.close()
        self._rows.close()

    # Keys that the store knows.

    async def _confirm(self, digest: str, key: str, known: ApiKey, client: str) -> ApiKey | None:
        """The principal by its row now, and by what the store has against it; None if the row is no key's."""
        anew = False
        while True:
            last = None if anew else self._confirmed.fresh(digest)
            found = (last.row, last.sent) if last is not None else await self._known_rows.get(known.id)
            if found is None or found[0].prefix != key[:PREFIX_LENGTH]:
                break
            row, sent = found
            # Read behind the row: what was changed in the store meanwhile counts.
            record = await self._record(digest)
            if record is not None and (record.revoked or record.disabled):
                return record.principal()
            if not row.revoked and self._clock() >= sent + CONFIRMED_SECONDS:
                if last is not None:
                    # It was old already, and is read once more.
                    anew = True
                    continue
                raise DatabaseUnavailableError(reason="Core's database answers too late")
            compared = self._hashes.get(digest) or (record.bcrypt if record is not None else "")
            if compared and compared == row.hashed:
                self._see(row)
                ends_at = self._ends_at(digest, known, record)
                return self._confirmed.keep(digest, row, sent, ends_at).key
            compare = partial(self._compare, digest, key, row, client)
            if not await shared(self._comparisons, digest, compare):
                break
        self._remember_unknown(digest)
        return None

    async def _compare(self, digest: str, key: str, row: CoreRow, client: str) -> bool:
        """Compare a key with the hash in its row, and let the store know that too."""
        if not await self._verifier.matches(key, row.hashed, client=client):
            return False
        self._remember_hash(digest, row.hashed)
        with contextlib.suppress(GatewayError):
            # Or every replica would compare it once more after each restart.
            await self._store.revise(row.id, partial(_hashed_so, digest=digest, hashed=row.hashed))
        return True

    async def _record(self, digest: str) -> KeyRecord | None:
        """What the store knows; None while it is silent, and the cache's grace decides."""
        if self._cache.silent and self._confirmed.get(digest) is not None:
            return None
        asked = self._clock()
        try:
            record = await self._store.find(digest)
        except GatewayError:
            if self._cache.linked:
                raise
            return None
        if self._clock() > asked + LATE_SECONDS and (record is None or not record.revoked):
            raise StoreUnavailableError(reason="the key store answers too late")
        return record

    def _ends_at(self, digest: str, known: ApiKey, record: KeyRecord | None) -> float:
        """When a rotation ends the key, also where the store was emptied since, or is silent."""
        last = self._confirmed.get(digest)
        before = float("inf") if last is None else last.ends_at
        if record is not None:
            return min(before, rotated_away(record))
        return before if last is not None else known.expires_at

    async def _read_known(self, key_ids: list[str]) -> dict[str, tuple[CoreRow, float]]:
        sent = self._clock()
        return {key_id: (row, sent) for key_id, row in (await self._rows.by_ids(key_ids)).items()}

    def _see(self, row: CoreRow) -> None:
        if row.revoked:
            self._revoked[row.id] = row

    def _remember_hash(self, digest: str, hashed: str) -> None:
        self._hashes.pop(digest, None)
        if len(self._hashes) >= MAX_HASHES:
            del self._hashes[next(iter(self._hashes))]
        self._hashes[digest] = hashed

    # Keys that only Core knows.

    async def _lookup_unknown(self, digest: str, key: str, client: str) -> ApiKey | None:
        """The first look at a key; requests that come together share it."""
        if not is_key(key):
            return None
        return await shared(self._arrivals, digest, partial(self._admit, digest, key, client))

    async def _admit(self, digest: str, key: str, client: str) -> ApiKey | None:
        """Look a key up and store its digest."""
        candidates = await self._unknown_rows.get(key[:PREFIX_LENGTH], network_of(client)) or []
        for row in candidates[:MAX_CANDIDATES]:
            # What was compared before the store was emptied need not be again.
            known = self._hashes.get(digest) == row.hashed
            if known or await self._verifier.matches(key, row.hashed, client=client):
                return await self._enter(digest, key, row, client)
        self._remember_unknown(digest)
        return None

    async def _enter(self, digest: str, key: str, row: CoreRow, client: str) -> ApiKey | None:
        record = await self._settled(digest, row)
        if record is None:
            try:
                await self._store.add(record_of(row, digest))
            except RefusedRecordError:
                # Somebody was first: another replica, a command that knows the id alone, or another key whose
                # place in the row this one has taken.
                await self._settled(digest, row, moved=True)
        self._remember_hash(digest, row.hashed)
        # By way of the cache, which remembers what it has once seen revoked.
        known = await self._cache.find(digest, client)
        if known is None or known.revoked or known.disabled:
            return known
        # The row may be seconds old by now: bcrypt takes its time.
        return await self._confirm(digest, key, known, client)

    async def _settled(self, digest: str, row: CoreRow, *, moved: bool = False) -> KeyRecord | None:
        """What the store has for a key, be it that it was there as a pending record until now."""
        record = await self._store.settle(row.id, digest, moved=moved)
        if record is None or record.bcrypt == row.hashed:
            return record
        return await self._store.revise(row.id, lambda found: replace(found, bcrypt=row.hashed))

    def _remember_unknown(self, digest: str) -> None:
        self._confirmed.drop(digest)
        self._unknown.pop(digest, None)
        if len(self._unknown) >= MAX_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]
        self._unknown[digest] = self._clock() + UNKNOWN_SECONDS

    # Revocations that were made in Core.

    async def _pass_revocations_on(self) -> None:
        """Put revocations seen in rows into the store, so that they are final, and known to all."""
        now = Instant.of(self._now())
        for key_id, row in list(self._revoked.items()):
            try:
                revoked = await self._store.revise(key_id, partial(revoked_as, row=row, now=now))
            except GatewayError:
                # The rows still say it; the store is told with the next read.
                return
            if revoked is not None:
                self._cache.learn(revoked)
            if self._revoked.get(key_id) is row:
                del self._revoked[key_id]


def _hashed_so(record: KeyRecord, *, digest: str, hashed: str) -> KeyRecord:
    """The record of a key that was compared with this hash; another key's is left alone."""
    return replace(record, bcrypt=hashed) if record.digest == digest else record
