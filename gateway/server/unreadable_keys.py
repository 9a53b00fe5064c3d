"""Logs the keys that lists leave out, because their records cannot be read.

Rules kept here:
- A key is logged at most once a minute, however often it is left out.
- Of more than `MOST` such keys, those that were logged longest ago are logged again earlier.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway.keys.bounded_dict import BoundedDict
from gateway.keys.store import UnreadableKey

AGAIN_SECONDS: Final = 60.0
MOST: Final = 1000
EVENT: Final = "a list left out a key, whose record cannot be read"


class UnreadableKeys:
    """Logs the keys of one store; `clock` gives seconds that do not step."""

    def __init__(self, log: FilteringBoundLogger, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._logged: BoundedDict[str, float] = BoundedDict(MOST)

    def add(self, key: UnreadableKey) -> None:
        """Log a key, unless that was done a short time ago."""
        now = self._clock()
        if now - self._logged.get(key.reason, float("-inf")) < AGAIN_SECONDS:
            return
        self._logged.put(key.reason, now)
        self._log.warning(EVENT, key_id=key.key_id, reason=key.reason)
