"""Logs the keys that lists leave out, because their records cannot be read.

Rules kept here:
- A key is logged at most once a minute, however often it is left out, and at most `MOST` keys are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway.keys.store import UnreadableKey
from gateway.server.reminder import Reminder

MOST: Final = 1000
EVENT: Final = "a list left out a key, whose record cannot be read"


class UnreadableKeys:
    """Logs the keys of one store; `clock` gives seconds that do not step."""

    def __init__(self, log: FilteringBoundLogger, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._reminder = Reminder(MOST)

    def add(self, key: UnreadableKey) -> None:
        """Log a key, unless that was done, or too many were logged, a short time ago."""
        if self._reminder.due(key.reason, self._clock()):
            self._log.warning(EVENT, key_id=key.key_id, reason=key.reason)
