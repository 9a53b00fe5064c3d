"""When a reason that lasts is logged again.

Rules kept here:
- A reason is logged when it is new, and then every `REPEAT_SECONDS`.
- At most so many reasons are logged in this time; of more, those that come last are not.
"""

from __future__ import annotations

from typing import Final

REPEAT_SECONDS: Final = 60.0
"""The time after which a reason that lasts is logged again."""


class Reminder:
    """Decides whether a reason is logged; `most` is how many are in `REPEAT_SECONDS`."""

    def __init__(self, most: float = float("inf")) -> None:
        self._most = most
        # In the order in which they were said.
        self._said: dict[str, float] = {}

    def due(self, reason: str, now: float) -> bool:
        """Return True if the reason is to be logged now, and note that it was.

        `now` is in seconds of any clock that does not step.
        """
        self._forget(now - REPEAT_SECONDS)
        if reason in self._said or len(self._said) >= self._most:
            return False
        self._said[reason] = now
        return True

    def _forget(self, until: float) -> None:
        """Forget what was said by then."""
        while self._said and (first := next(iter(self._said.items())))[1] <= until:
            del self._said[first[0]]
