"""The keys that are report-only, and the end of that time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class KeyDates:
    """Key ids, each with the time (Unix seconds) from which a missing scope is refused again."""

    dates: tuple[tuple[str, float], ...] = ()

    def until(self, key_id: str) -> float:
        """Return the end of report-only for `key_id` (Unix seconds); 0 for a key that is not listed."""
        # Few keys are listed, and only requests without the required scope come here.
        return next((until for listed, until in self.dates if listed == key_id), 0.0)


NO_DATES: Final = KeyDates()
