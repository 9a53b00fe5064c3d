"""`GET /scopes` of the admin listener: the scopes that each key used since the start, and never used.

Rules kept here:
- A key is named by its id; the key itself is never shown.
- The page shows the keys that were used in this process, at most 1,000 at once. `?key_id=` asks for one key,
  used or not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final

from gateway.admin.errors import PageError
from gateway.config import Config
from gateway.errors import Code
from gateway.keys.store import KeysById
from gateway.telemetry.access_log import Timestamps
from gateway.telemetry.scope_use import ScopeUse

MOST_KEYS: Final = 1_000


class ScopesPage:
    """Shows the counts of one process, by the live routes and the keys' records."""

    def __init__(self, use: ScopeUse, keys: KeysById, config: Callable[[], Config], *, since: float) -> None:
        """`since` is when the counting began, in Unix seconds."""
        self._use = use
        self._known = keys
        self._config = config
        self._since = since

    async def page(self, query: Mapping[str, str]) -> dict[str, object]:
        """Return the members of the page. Raises PageError for an unknown key, or what the store raises."""
        if "key_id" in query:
            key = await self._key(query["key_id"])
            if key is None:
                raise PageError(Code.KEY_NOT_FOUND)
            return self._members([key], left_out=0)
        seen = self._use.keys()
        keys = [await self._key(key_id) for key_id in seen[:MOST_KEYS]]
        known = [key for key in keys if key is not None]
        return self._members(known, left_out=max(0, len(seen) - MOST_KEYS))

    def _members(self, keys: list[dict[str, object]], *, left_out: int) -> dict[str, object]:
        return {
            "since": Timestamps().at(self._since),
            "complete": self._use.complete and not left_out,
            "left_out": left_out,
            "keys": keys,
        }

    async def _key(self, key_id: str) -> dict[str, object] | None:
        record = await self._known.get(key_id)
        if record is None:
            return None
        scopes = self._use.of(record.id, record.scopes, self._config().routes)
        known = {"key_id": record.id, "owner": record.owner, "holds": record.scopes}
        return known | dataclasses.asdict(scopes)
