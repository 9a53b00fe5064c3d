"""Cache principals in this process, and keep them true by following the changes of the store.

Rules kept here:
- An entry is valid for 700 ms after the last successful poll of changes was sent, and never beyond 10 s of
  age. While polls fail, every request asks the store.
- The response to a poll holds every change that was written before the poll was sent. So an empty response,
  too, proves the link up to the moment of sending.
- A change drops the entry, and supersedes the look-ups under way: what they bring may be from before it.
- A gap or a step back in the changes, or a link that was down, drops every entry.
- A key that was once seen revoked stays revoked here, whatever the store says later.
- Unknown keys and failures are not kept; concurrent requests for one key share one look-up.
- A response that took longer than 0.9 s counts as a failure: what it says may be that old.
- An entry in use is looked up again in the background before it is too old.
- A key that the store has known is looked up without its client's address: it waits for no unknown key.
  Look-ups of unknown keys are bounded by the store, which serves the addresses that they come from in
  turns.
- A look-up that was refused because too many ask says nothing about the store.
- With a grace, a key that was known when the store last responded stays valid for that long beyond the 700
  ms while the store fails, and nobody waits long for the store: it is asked in the background.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.errors import GatewayError
from gateway.keys.cache_entries import CacheEntries, CacheLimits
from gateway.keys.change_follower import ChangeFollower
from gateway.keys.errors import LookupOverloadError, StoreUnavailableError
from gateway.keys.record import KeyRecord
from gateway.keys.singleflight import Call, SingleFlight, result_of
from gateway.keys.store import CachedStore, KeyChange, KeyChangeBatch
from gateway.policy.principals import ApiKey

LINK_PROOF_SECONDS: Final = 0.7
RENEWED_SECONDS: Final = 8.0
"""The age at which an entry in use is looked up again in the background, so that nobody waits for it."""
GRACE_WAIT_SECONDS: Final = 0.1
"""The seconds for which a request under grace waits for its look-up: another's may have failed alone."""
LATE_SECONDS: Final = 0.9
CACHED_VALID_SECONDS: Final = 0.25
"""The seconds for which the result of `peek` is valid: with LINK_PROOF_SECONDS it is less than the bound."""
LOOKUP_VALID_SECONDS: Final = 0.05
"""The seconds for which the result of `lookup` is valid: with LATE_SECONDS it is less than the bound."""
BOUND_SECONDS: Final = 1.0
"""The seconds after its revocation within which a key is refused everywhere, without a grace."""
DEFAULT_LIMITS: Final = CacheLimits()


def revocation_bound(grace: float) -> str:
    """Return, in a sentence, the time within which a revoked key is refused; `grace` in seconds."""
    sentence = f"every replica refuses a revoked key within {BOUND_SECONDS:g} s"
    if not grace:
        return sentence
    late = f"{grace + BOUND_SECONDS:g} s (keys.grace)"
    return f"{sentence}; one that is cut off from the key store, within {late}"


@dataclass(frozen=True, slots=True)
class ChangeCallbacks:
    """Called with what is read of the store's changes, once it is applied.

    Args:
        on_change: gets every change that is read.
        on_batch: gets the changes of one read, if there are any.
        on_gap: is called where some could not be: the store was emptied, restored, or its changes cut short.
    """

    on_change: Callable[[KeyChange], None] = lambda _: None
    on_batch: Callable[[Sequence[KeyChange]], None] = lambda _: None
    on_gap: Callable[[], None] = lambda: None


NO_CALLBACKS: Final = ChangeCallbacks()


class KeyCache:
    """Principals by digest; holds digests and principals, never keys.

    Args:
        store: is asked for what is not here, and followed for changes.
        clock: monotonic seconds.
        grace: the seconds for which known keys stay valid while the store fails.
        callbacks: get what is read of the changes.
        limits: bound what is kept.
    """

    def __init__(
        self,
        store: CachedStore,
        clock: Callable[[], float],
        *,
        grace: float = 0.0,
        callbacks: ChangeCallbacks = NO_CALLBACKS,
        limits: CacheLimits = DEFAULT_LIMITS,
    ) -> None:
        self._store = store
        self._clock = clock
        self._grace = grace
        self._callbacks = callbacks
        self._entries = CacheEntries(limits)
        # Bound once: for a subclass of `dict`, looking the method up again costs each request some 10 ns.
        self._entry_of = self._entries.by_digest.get
        self._lookups: SingleFlight[ApiKey | None] = SingleFlight()
        self._follower = ChangeFollower(store, clock, self)
        self.follow = self._follower.follow
        self._proven_until = float("-inf")
        self.last_lookup_failed = False
        """True if the last look-up failed, and the store has not responded since."""
        self._hits = 0
        self._misses = 0
        self._refused = 0

    @property
    def linked(self) -> bool:
        """True if the link to the store is proven, so that entries are valid."""
        return self._clock() < self._proven_until

    @property
    def failure(self) -> GatewayError | None:
        """The failure of the last read of the changes; None if it succeeded."""
        return self._follower.failure

    @property
    def counts(self) -> dict[str, int]:
        """Look-ups by result: known here ("hit"), asked of the store ("miss"), or refused ("refused")."""
        return {"hit": self._hits, "miss": self._misses, "refused": self._refused}

    def peek(self, digest: str) -> ApiKey | None:
        """Return the principal of a key, if a valid entry is here."""
        entry = self._entry_of(digest)
        if entry is None:
            return None
        now = self._clock()
        if now < self._proven_until and now < entry.until:
            self._hits += 1
            if now >= entry.asked + RENEWED_SECONDS:
                self._begin(digest, "")
            return entry.key
        return None

    async def lookup(self, digest: str, client: str = "") -> ApiKey | None:
        """Return the principal of a key, live or not; None if the store does not know it.

        `client` is the address that sent the key.

        Raises:
            LookupOverloadError: too many unknown keys are looked up.
            GatewayError: the store failed, and no grace covers the key.
        """
        key = self.peek(digest)
        if key is not None:
            return key
        while True:
            call = self._begin(digest, client)
            if self.last_lookup_failed and self._key_under_grace(digest) is not None:
                await asyncio.wait([call.task], timeout=GRACE_WAIT_SECONDS)
                if not call.task.done() and (key := self._key_under_grace(digest)) is not None:
                    return key
            try:
                found = await result_of(call.task)
            except GatewayError:
                if (key := self._key_under_grace(digest)) is not None:
                    return key
                raise
            if not call.forgotten:
                return found

    def apply_record(self, record: KeyRecord) -> None:
        """Apply a change that this process made itself, before it is read back."""
        self._apply(KeyChange(record.digest, record.id, record.revoked))

    def start_over(self) -> None:
        """Drop every entry."""
        self._entries.drop_all()
        self._lookups.forget_all()

    def apply_batch(self, batch: KeyChangeBatch, sent: float, *, after_failure: bool) -> None:
        """Apply changes, which were read by a request sent at `sent` (monotonic seconds)."""
        if not batch.continuous or (after_failure and not self._grace):
            self.start_over()
        elif after_failure:
            # After an outage the store may be an older copy of itself, so it is asked about every key.
            # The grace still covers these, if the store fails again before it was asked.
            self._lookups.forget_all()
            self._entries.expire_all()
        for change in batch.changes:
            self._apply(change)
        self.last_lookup_failed = False
        if batch.whole:
            self._proven_until = sent + LINK_PROOF_SECONDS
        # Others hear of it once everything that was read counts here.
        for change in batch.changes:
            self._callbacks.on_change(change)
        if batch.changes:
            self._callbacks.on_batch(batch.changes)
        if not batch.continuous:
            self._callbacks.on_gap()

    def _apply(self, change: KeyChange) -> None:
        if change.revoked:
            self._entries.note_revoked(change.key_id)
        self._entries.drop(change.digest)
        self._lookups.forget(change.digest)

    def _key_under_grace(self, digest: str) -> ApiKey | None:
        """Return a key that the grace covers now."""
        entry = self._entry_of(digest)
        if entry is None:
            return None
        # No change of it was read since, so it was so when the store last responded.
        known_until = max(self._proven_until, entry.asked + LINK_PROOF_SECONDS)
        return entry.key if self._clock() < known_until + self._grace and self._grace else None

    def _begin(self, digest: str, client: str) -> Call[ApiKey | None]:
        """Return the look-up of a key that is under way, which begins now if there is none."""
        if self._entries.is_known(digest):
            client = ""
        return self._lookups.start(digest, partial(self._look_up, digest, client))

    async def _look_up(self, digest: str, client: str, call: Call[ApiKey | None]) -> ApiKey | None:
        """Ask the store, and keep what it says. Raises GatewayError."""
        asked = self._clock()
        try:
            record = await self._read(digest, client, asked)
        except LookupOverloadError:
            self._refused += 1
            raise
        except GatewayError:
            self._misses += 1
            self.last_lookup_failed = True
            raise
        self._misses += 1
        self.last_lookup_failed = False
        key = None if record is None else self._entries.once_revoked(record.principal())
        if not call.forgotten:
            self._entries.put(digest, key, asked)
        return key

    async def _read(self, digest: str, client: str, asked: float) -> KeyRecord | None:
        """Return the store's record; one that may be too old counts only if it is revoked."""
        record = await self._store.get_by_digest(digest, client)
        if self._clock() - asked > LATE_SECONDS and (record is None or not record.revoked):
            raise StoreUnavailableError(reason="the key store responds too late")
        return record
