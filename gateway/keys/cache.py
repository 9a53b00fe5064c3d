"""Principals in process: looked up in a dictionary, kept honest by the store's changes.

Rules kept here:
- An entry is honoured for 700 ms after the last moment up to which the link to the store is proven,
  and never beyond 10 s of age. Without the proof every request asks the store.
- The proof is a read of the changes: what was written before that read was sent is in its answer,
  so even an empty answer proves the link up to the moment of sending.
- A change drops the entry and fences the fills in flight: what they bring may be from before it.
- A gap or a step back in the changes, or a link that was down, drops every entry.
- A key once seen revoked stays revoked here, whatever the store says later.
- Unknown keys and failures are not kept; concurrent requests for one key share one look-up.
- An answer that took longer than 0.9 s is a failure: what it tells may be that old.
- An entry in use is looked up again before it is too old, on the side.
- A key that the store has known is looked up without its client's address: it waits for no unknown one.
  Unknown ones are bounded by the store, by turns of the addresses that they come from.
- A look-up that was refused because too many ask says nothing of the store.
- With a grace, a key that was known when the store was last heard of is honoured for that long beyond
  the 700 ms while the store fails, and nobody waits long for the store: it is asked on the side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.errors import GatewayError
from gateway.keys.errors import LookupOverloadError, StoreUnavailableError
from gateway.keys.store import KeyChange, KeyChangeBatch, KeyRecord, KeyStore
from gateway.policy.principals import ApiKey

LINK_PROOF_SECONDS: Final = 0.7
KEPT_SECONDS: Final = 10.0
RENEWED_SECONDS: Final = 8.0
"""The age at which an entry in use is looked up again on the side, so that nobody waits for it."""
GRACE_WAIT_SECONDS: Final = 0.1
"""How long a covered key's own look-up is waited for: another's may have failed alone."""
LATE_SECONDS: Final = 0.9
CACHED_VALID_SECONDS: Final = 0.25
"""For how long what `peek` says may be relied on: with PROVEN_SECONDS it is less than the bound."""
LOOKUP_VALID_SECONDS: Final = 0.05
"""For how long what `find` says may be relied on: with LATE_SECONDS it is less than the bound."""
BOUND_SECONDS: Final = 1.0
"""How long after its revocation a key may still be honoured, anywhere and without a grace."""
READ_SECONDS: Final = 0.25
RETRY_SECONDS: Final = 0.1
MAX_ENTRIES: Final = 50_000
MAX_REVOKED: Final = 500_000


@dataclass(slots=True, eq=False)
class _Lookup:
    """One look-up in flight; once `fenced`, its outcome counts for nobody."""

    outcome: asyncio.Future[ApiKey | GatewayError | None] = field(init=False)
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class _Entry:
    """A key as the store knew it at `asked`; honoured without asking until `until`."""

    key: ApiKey
    asked: float
    until: float


class KeyCache:
    """The first look at who a key belongs to; holds digests and principals, never keys.

    Args:
        store: asked for what is not here, and followed for changes.
        clock: monotonic seconds.
        grace: how many seconds known keys are honoured for while the store fails.
        learnt: told of every change that is read, when it is.
        missed: told where some could not be: the store was emptied, restored, or its changes cut short.
        max_entries: the most principals kept, and digests of known keys; the oldest goes first.
        max_revoked: the most ids of revoked keys remembered; the one seen longest ago goes first.
    """

    def __init__(
        self,
        store: KeyStore,
        clock: Callable[[], float],
        *,
        grace: float = 0.0,
        learnt: Callable[[KeyChange], None] = lambda _: None,
        missed: Callable[[], None] = lambda: None,
        max_entries: int = MAX_ENTRIES,
        max_revoked: int = MAX_REVOKED,
    ) -> None:
        self._store = store
        self._clock = clock
        self._grace = grace
        self._learnt = learnt
        self._missed = missed
        self._max_entries = max_entries
        self._max_revoked = max_revoked
        self._entries: dict[str, _Entry] = {}
        self._fills: dict[str, _Lookup] = {}
        # Dictionaries for their order; the values mean nothing.
        self._revoked: dict[str, None] = {}
        # Digests of keys that the store knew, also where what it said of them counts no more.
        self._known: dict[str, None] = {}
        self._proven_until = float("-inf")
        self._position: str | None = None
        self._failure: GatewayError | None = None
        self._hits = 0
        self._misses = 0
        self._refused = 0
        self._down = False

    @property
    def linked(self) -> bool:
        """Whether the link to the store is proven, so that entries are honoured."""
        return self._clock() < self._proven_until

    @property
    def silent(self) -> bool:
        """Whether the last look-up failed, and nothing was heard from the store since."""
        return self._down

    @property
    def failure(self) -> GatewayError | None:
        """Why the last read of the changes failed; None if it did not."""
        return self._failure

    @property
    def bound(self) -> str:
        """What a revocation is worth, in a sentence for operators."""
        sentence = f"every replica refuses a revoked key within {BOUND_SECONDS:g} s"
        if not self._grace:
            return sentence
        late = f"{self._grace + BOUND_SECONDS:g} s (keys.grace)"
        return f"{sentence}; one that is cut off from the key store, within {late}"

    def peek(self, digest: str) -> ApiKey | None:
        """The principal of a key, if an entry for it may be honoured now."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        now = self._clock()
        if now < self._proven_until and now < entry.until:
            self._hits += 1
            if now >= entry.asked + RENEWED_SECONDS:
                self._renew(digest)
            return entry.key
        return None

    @property
    def counts(self) -> dict[str, int]:
        """How often a key was known here ("hit"), the store was asked ("miss"), or was not ("refused")."""
        return {"hit": self._hits, "miss": self._misses, "refused": self._refused}

    async def find(self, digest: str, client: str = "") -> ApiKey | None:
        """The principal of a key, live or not; None if the store does not know it.

        `client` is the address that sent the key.

        Raises:
            LookupOverloadError: too many unknown keys are looked up (KEY_STORE_UNAVAILABLE).
            GatewayError: the store failed (KEY_STORE_UNAVAILABLE), and no grace covers the key.
        """
        key = self.peek(digest)
        if key is not None:
            return key
        while True:
            fill = self._fills.get(digest) or self._begin(digest, client)
            if self._down and self._key_under_grace(digest) is not None:
                await asyncio.wait([fill.outcome], timeout=GRACE_WAIT_SECONDS)
                if not fill.outcome.done() and (key := self._key_under_grace(digest)) is not None:
                    return key
            # Shielded: a client that leaves must not fail the others that wait for this fill.
            outcome = await asyncio.shield(fill.outcome)
            if isinstance(outcome, GatewayError):
                if (key := self._key_under_grace(digest)) is not None:
                    return key
                raise outcome.again() from outcome
            if not fill.superseded:
                return outcome

    async def follow(self) -> None:
        """Follow the changes for ever; returns only by cancellation."""
        while True:
            try:
                if self._position is None:
                    self._position = await self._store.last_position()
                    self._drop_all()
                sent = self._clock()
                news = await self._store.changes(self._position, READ_SECONDS)
            except GatewayError as failure:
                self._failure = failure
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._learn_all(news, sent)

    def learn(self, record: KeyRecord) -> None:
        """Take in a change that this process made itself, before it reads it back."""
        self._learn(KeyChange(record.digest, record.id, record.revoked_at is not None))

    def _learn_all(self, news: KeyChangeBatch, sent: float) -> None:
        if not news.continuous:
            self._drop_all()
        elif self._failure is not None:
            # After an outage the store may be an older copy of itself, so it is asked about every key.
            self._age_all()
        for change in news.changes:
            self._learn(change)
        self._failure = None
        self._down = False
        self._position = news.position
        if news.whole:
            self._proven_until = sent + LINK_PROOF_SECONDS
        # Others are told once everything that was read counts here.
        for change in news.changes:
            self._learnt(change)
        if not news.continuous:
            self._missed()

    def _learn(self, change: KeyChange) -> None:
        if change.revoked:
            self._remember_revoked(change.key_id)
        self._entries.pop(change.digest, None)
        fill = self._fills.pop(change.digest, None)
        if fill is not None:
            fill.superseded = True

    def _drop_all(self) -> None:
        self._entries.clear()
        for fill in self._fills.values():
            fill.superseded = True
        self._fills.clear()

    def _age_all(self) -> None:
        entries = {digest: replace(entry, until=float("-inf")) for digest, entry in self._entries.items()}
        self._drop_all()
        # They are known still, for a grace to cover if the store fails again before it was asked.
        self._entries = entries if self._grace else {}

    def _key_under_grace(self, digest: str) -> ApiKey | None:
        """A key that the grace covers now."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        # No change of it was read since, so it was so when the store was last heard of.
        known_until = max(self._proven_until, entry.asked + LINK_PROOF_SECONDS)
        return entry.key if self._clock() < known_until + self._grace and self._grace else None

    def _remember_revoked(self, key_id: str) -> None:
        self._revoked.pop(key_id, None)
        self._revoked[key_id] = None
        if len(self._revoked) > self._max_revoked:
            del self._revoked[next(iter(self._revoked))]

    def _renew(self, digest: str) -> None:
        if digest not in self._fills:
            self._begin(digest, "")

    def _begin(self, digest: str, client: str) -> _Lookup:
        fill = _Lookup()
        client = "" if digest in self._known else client
        fill.outcome = asyncio.ensure_future(self._run(digest, client, fill))
        self._fills[digest] = fill
        return fill

    async def _run(self, digest: str, client: str, fill: _Lookup) -> ApiKey | GatewayError | None:
        """Ask the store; a failure is returned, since those who waited for it may all have left."""
        began = self._clock()
        try:
            record = await self._ask(digest, client, began)
        except LookupOverloadError as refusal:
            self._refused += 1
            return refusal
        except GatewayError as failure:
            self._misses += 1
            self._down = True
            return failure
        finally:
            if self._fills.get(digest) is fill:
                del self._fills[digest]
        self._misses += 1
        self._down = False
        key = None if record is None else self._judge(record.principal())
        if not fill.superseded:
            self._keep(digest, key, began)
        return key

    async def _ask(self, digest: str, client: str, began: float) -> KeyRecord | None:
        """What the store knows; an answer that may be too old is none, unless it tells of a revocation."""
        record = await self._store.find(digest, client)
        if self._clock() - began > LATE_SECONDS and (record is None or not record.revoked):
            raise StoreUnavailableError(reason="the key store answers too late")
        return record

    def _judge(self, key: ApiKey) -> ApiKey:
        """The key as it is known here, once revoked always revoked."""
        if key.revoked:
            self._remember_revoked(key.id)
        return replace(key, revoked=True) if key.id in self._revoked else key

    def _keep(self, digest: str, key: ApiKey | None, asked: float) -> None:
        self._entries.pop(digest, None)
        self._known.pop(digest, None)
        if key is None:
            return
        if len(self._entries) >= self._max_entries:
            del self._entries[next(iter(self._entries))]
        self._entries[digest] = _Entry(key, asked, asked + KEPT_SECONDS)
        if len(self._known) >= self._max_entries:
            del self._known[next(iter(self._known))]
        self._known[digest] = None
