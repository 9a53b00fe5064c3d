"""`GET /console/audit`: the last entries of the audit stream, the newest first.

Rules kept here:
- An entry is shown as the stream has it: it is bounded, and holds nothing secret (`audit.entry`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.keys.store import LatestEntries

MOST_ENTRIES: Final = 30


class AuditPage:
    """Shows the end of one stream."""

    def __init__(self, stream: LatestEntries) -> None:
        self._stream = stream

    async def page(self, _: Mapping[str, str]) -> dict[str, object]:
        """Return the members of the page. Raises what the store raises."""
        return {"entries": await self._stream.latest_entries(MOST_ENTRIES)}
