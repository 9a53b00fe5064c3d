"""What the gateway keeps of a key, and how that may change.

Rules kept here:
- A record outlives its key: who created it and who revoked it, when and why, stays readable until an operator
  removes records of keys that have long ended.
- A revocation is final: revoking again changes nothing, not even its time, and nothing takes it back.
- A key can be disabled and enabled again; each time leaves an entry in the record's history.
- What a record did not know when it was written has a default, so that old records are still read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from gateway.gocompat.times import ZERO, Instant, read_instant
from gateway.policy.principals import ApiKey, KeyState

PENDING: Final = "pending:"
ROTATED: Final = "rotated"
EVENTS: Final = (ROTATED, "disabled", "enabled")
"""What the history of a key is made of."""
MAX_COST: Final = 14
"""Of a bcrypt hash: 2^14 rounds take 2 s. Core writes 2^10, which take 0.1 s."""

_BCRYPT: Final = re.compile(r"\$2[abxy]\$([0-9]{2})\$[./A-Za-z0-9]{53}")


def is_bcrypt(text: str) -> bool:
    """Whether a text is a bcrypt hash, and not too dear to compare a key with."""
    shape = _BCRYPT.fullmatch(text)
    return shape is not None and 4 <= int(shape[1]) <= MAX_COST


class RefusedRecordError(Exception):
    """A record cannot be stored, or not be changed as asked; the text says why."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done to a key: when (RFC 3339), what, by whom, and why if that was said."""

    at: str
    what: str
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A key as it is stored; times are RFC 3339 as Core would write them.

    `created_by` and `revoked_by` name who did it: a key id, `master`, or `cli:` and a login. `revoked_at` is
    empty where nobody knows when.
    `replaces` is the id of the key that this one was rotated from. `retiring`: Core is still to be asked to
    revoke the key's row, once the key has ended here.

    A pending record has come from Core's table with the prefix and the bcrypt hash of a key whose
    digest nobody knows yet; its `digest` is `pending:` and its id, which is the digest of no key.

    Raises:
        ValueError: `expires_at` or `created_at` is not RFC 3339.
    """

    id: str
    digest: str
    name: str
    owner: str
    scopes: tuple[str, ...]
    expires_at: str
    created_at: str
    created_by: str
    last_used_at: str = ZERO
    revoked_at: str | None = None
    revoked_by: str = ""
    revoked_reason: str = ""
    disabled: bool = False
    replaces: str = ""
    retiring: bool = False
    prefix: str = ""
    bcrypt: str = ""
    history: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        for text in (self.expires_at, self.created_at):
            read_instant(text.encode())

    @property
    def created(self) -> Instant:
        """When it was created."""
        return read_instant(self.created_at.encode())

    @property
    def expires(self) -> Instant:
        """When it expires."""
        return read_instant(self.expires_at.encode())

    @property
    def revoked(self) -> bool:
        """Whether it was revoked."""
        return self.revoked_at is not None

    @property
    def rotated(self) -> bool:
        """Whether another key took its place; it ends when it expires."""
        return any(event.what == ROTATED for event in self.history)

    @property
    def ends(self) -> float:
        """When the key ends by itself (Unix seconds); 0 once it is revoked."""
        return 0.0 if self.revoked else self.expires.unix

    @property
    def ended_at(self) -> float:
        """When the key ended, or will: revoked or expired, whichever came first (Unix seconds).

        Of a revocation of which nobody knows when it was the expiry counts.
        """
        revoked_at = read_instant(self.revoked_at.encode()).unix if self.revoked_at else float("inf")
        return min(revoked_at, self.expires.unix)

    @property
    def unused(self) -> KeyRecord:
        """This record without its last use, which is no change of it."""
        return replace(self, last_used_at=ZERO)

    @property
    def pending(self) -> bool:
        """Whether its digest is still to be learned, from the first request with the key."""
        return self.digest.startswith(PENDING)

    def principal(self) -> ApiKey:
        """Whom a request with this key comes from."""
        return ApiKey(
            id=self.id,
            owner=self.owner,
            scopes=self.scopes,
            expires_at=self.expires.unix,
            revoked=self.revoked,
            disabled=self.disabled,
        )

    def state(self, now: float) -> KeyState:
        """What the key is worth at `now`, in Unix seconds."""
        return self.principal().state(now)

    def revoke(self, at: str, by: str, reason: str = "", *, retiring: bool = False) -> KeyRecord:
        """This record revoked, by whoever was first; with `retiring`, in Core it is still to be."""
        revoked = self if self.revoked else replace(self, revoked_at=at, revoked_by=by, revoked_reason=reason)
        return replace(revoked, retiring=True) if retiring else revoked

    def disable(self, at: str, by: str, reason: str = "") -> KeyRecord:
        """This record disabled; itself if it was already, or is revoked."""
        if self.disabled or self.revoked:
            return self
        return replace(self, disabled=True, history=(*self.history, Event(at, "disabled", by, reason)))

    def enable(self, at: str, by: str, reason: str = "") -> KeyRecord:
        """This record no longer disabled; itself if it was not. A revoked one stays revoked."""
        if not self.disabled or self.revoked:
            return self
        return replace(self, disabled=False, history=(*self.history, Event(at, "enabled", by, reason)))

    def retire(
        self, until: Instant, at: str, by: str, reason: str = "", *, retiring: bool = False
    ) -> KeyRecord:
        """This record with its expiry moved to `until`, unless it expires earlier anyway.

        With `retiring`, Core is to revoke it then.

        Raises:
            RefusedRecordError: it is not live at `at`, and a successor would bring it back; or it has one.
        """
        state = self.state(read_instant(at.encode()).unix)
        if self.rotated and not self.revoked:
            raise RefusedRecordError(f"{self.id} was rotated already: rotate the key that took its place")
        if state is not KeyState.LIVE:
            raise RefusedRecordError(f"{self.id} is {state.value}")
        expires_at = str(until) if until.unix < self.expires.unix else self.expires_at
        event = Event(at, ROTATED, by, reason)
        history = (*self.history, event)
        return replace(self, expires_at=expires_at, retiring=retiring or self.retiring, history=history)

    def ended(self, at: str) -> KeyRecord:
        """This record, whose overlap has ended: revoked by who rotated it, if nobody revoked it before."""
        rotated_by = next((event.by for event in self.history if event.what == ROTATED), "")
        return self.revoke(at, rotated_by, ROTATED)

    def retired(self) -> KeyRecord:
        """This revoked record, now that Core's row is revoked, too, or gone."""
        return replace(self, retiring=False)

    def settle(self, digest: str) -> KeyRecord:
        """This pending record under the digest of its key, now that it is known."""
        return replace(self, digest=digest, bcrypt="")

    def used(self, at: float) -> KeyRecord:
        """This record, last used at `at` (Unix seconds, 0 for never) if that is later than it says."""
        if not at or (self.last_used_at != ZERO and at <= read_instant(self.last_used_at.encode()).unix):
            return self
        return replace(self, last_used_at=str(Instant.of(datetime.fromtimestamp(at, UTC))))
