"""Logs the keys that lists leave out, because their records cannot be read.

Rules kept here:
- A key is logged at most once a minute, however often it is left out.
- At most `MOST` keys are logged a minute; of more, those that come last are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway.keys.store import UnreadableKey

AGAIN_SECONDS: Final = 60.0
MOST: Final = 1000
EVENT: Final = "a list left out a key, whose record cannot be read"


class UnreadableKeys:
    """Logs the keys of one store; `clock` gives seconds that do not step."""

    def __init__(self, log: FilteringBoundLogger, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._logged: dict[str, float] = {}

    def add(self, key: UnreadableKey) -> None:
        """Log a key, unless that was done, or too many were logged, a short time ago."""
        now = self._clock()
        self._forget(now - AGAIN_SECONDS)
        if key.reason in self._logged or len(self._logged) >= MOST:
            return
        self._logged[key.reason] = now
        self._log.warning(EVENT, key_id=key.key_id, reason=key.reason)

    def _forget(self, until: float) -> None:
        """Forget the keys that were logged by then; they are in the order in which they were logged."""
        while self._logged and (first := next(iter(self._logged.items())))[1] <= until:
            del self._logged[first[0]]
