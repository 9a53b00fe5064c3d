"""Who is calling: an API key with its owner and scopes, or the master key.

Rules kept here:
- A key is live while it is not revoked and the moment is before its expiry (Core's `IsValid`), and while
  it is not disabled, which Core has no word for.
- A principal holds neither the key nor its digest, so it can be logged.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class KeyState(enum.Enum):
    """What a key is worth at a given time."""

    LIVE = "live"
    EXPIRED = "expired"
    REVOKED = "revoked"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that the store knows; `expires_at` in Unix seconds."""

    id: str
    owner: str
    scopes: tuple[str, ...]
    expires_at: float
    revoked: bool = False
    disabled: bool = False

    def state(self, now: float) -> KeyState:
        """The key's state at `now`, in Unix seconds; at the instant of its expiry it is expired."""
        if self.revoked:
            return KeyState.REVOKED
        if self.disabled:
            return KeyState.DISABLED
        # Asked this way round, an expiry that is not a number is expired.
        return KeyState.LIVE if now < self.expires_at else KeyState.EXPIRED


@dataclass(frozen=True, slots=True)
class Master:
    """The caller that presented Core's master key."""


MASTER: Final = Master()

Principal = ApiKey | Master
