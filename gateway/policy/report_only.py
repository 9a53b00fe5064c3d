"""Which keys are report-only, and until when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class KeyDates:
    """Key ids with the moment, in Unix seconds, at which each is refused again what it lacks a scope for."""

    dates: tuple[tuple[str, float], ...] = ()

    def until(self, key_id: str) -> float:
        """When `key_id` is refused again; 0 for a key that is not listed."""
        # Few keys are listed, and only a request that lacks its scope asks.
        return next((until for listed, until in self.dates if listed == key_id), 0.0)


NO_DATES: Final = KeyDates()
