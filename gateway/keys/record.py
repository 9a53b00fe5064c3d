"""The record of a key, and the changes that may be made to it.

Rules kept here:
- A record outlives its key: who created it and who revoked it, when and why, stays readable until an
  operator removes records of keys that ended long ago.
- A revocation is final: revoking again changes nothing, not even its time, and nothing takes it back.
- A key can be disabled and enabled again; each time adds an event to the history of the record.
- Every member that an old record may lack has a default, so that old records can still be read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from gateway.gocompat.times import Instant
from gateway.policy.principals import ApiKey, KeyState
from gateway.policy.terms import NO_TERMS, KeyTerms

PENDING: Final = "pending:"
ROTATED: Final = "rotated"
UPDATED: Final = "updated"
EVENTS: Final = (ROTATED, "disabled", "enabled", UPDATED)
"""The kinds of events in the history of a key."""
MAX_COST: Final = 14
"""The highest cost of a bcrypt hash: 2^14 rounds take 2 s. Core writes 2^10, which take 0.1 s."""

_BCRYPT: Final = re.compile(r"\$2[abxy]\$([0-9]{2})\$[./A-Za-z0-9]{53}")


def is_bcrypt(text: str) -> bool:
    """Return whether a text is a bcrypt hash of at most 2^MAX_COST rounds."""
    shape = _BCRYPT.fullmatch(text)
    return shape is not None and 4 <= int(shape[1]) <= MAX_COST


class RefusedRecordError(Exception):
    """A record cannot be stored, or cannot be changed as requested; the text says why."""


@dataclass(frozen=True, slots=True)
class Change:
    """A member of a record that an update changed, and its values before and after, shortened."""

    member: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done to a key: when, what, by whom, and why if that was given.

    `changes` are those of an update.
    """

    at: Instant
    what: str
    by: str
    reason: str = ""
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Revocation:
    """A revocation: when, by whom and why; `at` is None if nobody knows when."""

    at: Instant | None
    by: str = ""
    reason: str = ""

    @property
    def written_at(self) -> str:
        """Return when in RFC 3339; empty if nobody knows."""
        return "" if self.at is None else str(self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A key as it is stored.

    `created_by`, and `by` of events and of the revocation, name who did it: a key id, `master`, or `cli:` and
    a login. `last_used_at` is None for never. `replaces` is the id of the key that this one was rotated from.
    `awaiting_core_revocation`: the key's row in Core is still to be revoked, once the key has ended here.

    A pending record was made from a row of Core's table: it has the prefix and the bcrypt hash of a key whose
    digest is not known yet. Its `digest` is `pending:` and its id, which is the digest of no key.
    """

    id: str
    digest: str
    name: str
    owner: str
    scopes: tuple[str, ...]
    expires_at: Instant
    created_at: Instant
    created_by: str
    last_used_at: Instant | None = None
    revocation: Revocation | None = None
    disabled: bool = False
    replaces: str = ""
    awaiting_core_revocation: bool = False
    prefix: str = ""
    bcrypt: str = ""
    history: tuple[Event, ...] = ()
    terms: KeyTerms = NO_TERMS

    @property
    def revoked(self) -> bool:
        """True if the key was revoked."""
        return self.revocation is not None

    @property
    def rotated(self) -> bool:
        """True if a successor took the key's place; the key ends when it expires."""
        return any(event.what == ROTATED for event in self.history)

    @property
    def ends(self) -> float:
        """The Unix seconds at which the key expires; 0 once it is revoked."""
        return 0.0 if self.revoked else self.expires_at.unix

    @property
    def ended_at(self) -> float:
        """The Unix seconds of the revocation or of the expiry, whichever comes first.

        Where nobody knows when the key was revoked, the expiry counts.
        """
        expires_at = self.expires_at.unix
        if self.revocation is None or self.revocation.at is None:
            return expires_at
        return min(self.revocation.at.unix, expires_at)

    @property
    def pending(self) -> bool:
        """True if the digest is not known yet; the first request with the key shows it."""
        return self.digest.startswith(PENDING)

    def principal(self) -> ApiKey:
        """Return the principal of a request with this key."""
        return ApiKey(
            id=self.id,
            owner=self.owner,
            scopes=self.scopes,
            expires_at=self.expires_at.unix,
            revoked=self.revocation is not None,
            disabled=self.disabled,
            terms=self.terms,
        )

    def state(self, now: float) -> KeyState:
        """Return the state of the key at `now`, in Unix seconds."""
        return self.principal().state(now)

    # Copies of the record after a change.

    def as_revoked(self, revocation: Revocation, *, awaiting_core: bool = False) -> KeyRecord:
        """Return the record revoked; the first revocation stays.

        With `awaiting_core` the key's row in Core is still to be revoked.
        """
        revoked = self if self.revoked else replace(self, revocation=revocation)
        return replace(revoked, awaiting_core_revocation=True) if awaiting_core else revoked

    def as_disabled(self, at: Instant, by: str, reason: str = "") -> KeyRecord:
        """Return the record disabled; the same record if it is disabled already, or revoked."""
        if self.disabled or self.revoked:
            return self
        return replace(self, disabled=True, history=(*self.history, Event(at, "disabled", by, reason)))

    def as_enabled(self, at: Instant, by: str, reason: str = "") -> KeyRecord:
        """Return the record enabled; the same record if it was not disabled, or is revoked."""
        if not self.disabled or self.revoked:
            return self
        return replace(self, disabled=False, history=(*self.history, Event(at, "enabled", by, reason)))

    def as_rotated(self, ends_at: Instant, event: Event, *, awaiting_core: bool = False) -> KeyRecord:
        """Return the record with its expiry moved to `ends_at`, unless it expires earlier anyway.

        With `awaiting_core`, the key's row in Core is to be revoked then.

        Raises:
            RefusedRecordError: the key is not live at the time of the event, and a successor would bring it
                back; or it has a successor already.
        """
        state = self.state(event.at.unix)
        if self.rotated and not self.revoked:
            raise RefusedRecordError(f"{self.id} was rotated already: rotate the key that took its place")
        if state is not KeyState.LIVE:
            raise RefusedRecordError(f"{self.id} is {state.value}")
        return replace(
            self,
            expires_at=ends_at if ends_at.unix < self.expires_at.unix else self.expires_at,
            awaiting_core_revocation=awaiting_core or self.awaiting_core_revocation,
            history=(*self.history, event),
        )

    def as_overlap_ended(self, at: Instant) -> KeyRecord:
        """Return the rotated record revoked by whoever rotated it, unless somebody revoked it before."""
        rotated_by = next((event.by for event in self.history if event.what == ROTATED), "")
        return self.as_revoked(Revocation(at, rotated_by, ROTATED))

    def as_revoked_in_core(self) -> KeyRecord:
        """Return the record of a key whose row in Core is revoked, or gone."""
        return replace(self, awaiting_core_revocation=False)

    def as_bound(self, digest: str) -> KeyRecord:
        """Return the pending record under the digest of its key, which is known now."""
        return replace(self, digest=digest, bcrypt="")

    def with_last_use(self, at: float) -> KeyRecord:
        """Return the record last used at `at` (Unix seconds, 0 for never), if that is later than it says."""
        if not at or (self.last_used_at is not None and at <= self.last_used_at.unix):
            return self
        return replace(self, last_used_at=Instant.of(datetime.fromtimestamp(at, UTC)))


def without_use(record: KeyRecord) -> KeyRecord:
    """Return a record without its last use, which does not count as a change of it."""
    return replace(record, last_used_at=None)
