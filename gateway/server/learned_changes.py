"""Logs the changes of keys that this process learns from the stream of changes.

Rules kept here:
- A line says which key was changed, how, by whom and by which way.
- Of many changes that are read at once, as in an import, the first few have a line each, and all others one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway.keys.store import KeyChange

MOST_LINES: Final = 20
EVENT: Final = "learned of a change of a key"
MANY: Final = "learned of further changes of keys"


class LearnedChanges:
    """Logs changes to `log`."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log

    def take(self, changes: Sequence[KeyChange]) -> None:
        """Log the changes of one read; those that no version with an audit stream wrote are left out."""
        told = [change for change in changes if change.what]
        for change in told[:MOST_LINES]:
            self._log.info(EVENT, key_id=change.key_id, what=change.what, by=change.by, way=change.way)
        if further := told[MOST_LINES:]:
            counts = Counter(change.what for change in further)
            self._log.info(MANY, count=len(further), **counts)
