"""Chooses records for a list: by state, by the end of the key, by its last use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from gateway.gocompat.times import Instant
from gateway.keys.record import ROTATED, KeyRecord
from gateway.policy.principals import KeyState

_PENDING: Final = "pending"
KEY_STATES: Final = (*[state.value for state in KeyState], ROTATED, _PENDING)


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """What a record must be to be listed; None for anything.

    `expires_within` is the longest time that a key which was not revoked may still have. `unused_since` is
    the time before which a key was used last, or created if it never was used.
    """

    state: str | None = None
    expires_within: timedelta | None = None
    unused_since: Instant | None = None

    def passes(self, record: KeyRecord, now: float) -> bool:
        """Return whether the record is all of it at `now` (Unix seconds)."""
        return (
            (self.state is None or self.state in _states(record, now))
            and (self.expires_within is None or _ends_within(record, self.expires_within, now))
            and (self.unused_since is None or _last_use(record).unix < self.unused_since.unix)
        )


def _states(record: KeyRecord, now: float) -> set[str]:
    """Return the words for the state of a key; a live one may be rotated or pending besides."""
    state = record.state(now)
    if state is not KeyState.LIVE:
        return {state.value}
    besides = ((ROTATED, record.rotated), (_PENDING, record.pending))
    return {state.value, *(word for word, holds in besides if holds)}


def _ends_within(record: KeyRecord, time: timedelta, now: float) -> bool:
    return not record.revoked and now < record.expires_at.unix <= now + time.total_seconds()


def _last_use(record: KeyRecord) -> Instant:
    return record.created_at if record.last_used_at is None else record.last_used_at
