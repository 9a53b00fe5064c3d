"""Principals: the caller is an API key with its owner and scopes, or the master key.

Rules kept here:
- A key is live before its expiry, unless it is revoked (Core's `IsValid`) or disabled (which Core does not
  have).
- A principal holds neither the key nor its digest, so it can be logged.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from gateway.policy.terms import NO_TERMS, KeyTerms


class KeyState(enum.Enum):
    """The state of a key at a given time."""

    LIVE = "live"
    EXPIRED = "expired"
    REVOKED = "revoked"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that the store knows; `expires_at` is in Unix seconds."""

    id: str
    owner: str
    scopes: tuple[str, ...]
    expires_at: float
    revoked: bool = False
    disabled: bool = False
    terms: KeyTerms = NO_TERMS

    def state(self, now: float) -> KeyState:
        """Return the key's state at `now` (Unix seconds); it is expired from the instant of its expiry."""
        if self.revoked:
            return KeyState.REVOKED
        if self.disabled:
            return KeyState.DISABLED
        # In this order of the comparison, a key whose expiry is not a number is expired.
        return KeyState.LIVE if now < self.expires_at else KeyState.EXPIRED


@dataclass(frozen=True, slots=True)
class Master:
    """The caller that sent Core's master key."""


MASTER: Final = Master()

Principal = ApiKey | Master
