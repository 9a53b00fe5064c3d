"""When keys were last used, in Redis.

Rules kept here:
- A last use is never written over a later one, whichever replica saw it (ZADD GT).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.keys.redis import names as names
from gateway.keys.redis.connection import RedisLink
from gateway.keys.redis.errors import redis_errors
from gateway.keys.redis.reading import BATCH, BatchReader


class KeyUsage:
    """Notes and tells when keys were last used, over one link."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link

    async def used(self, times: Mapping[str, float]) -> None:
        """Note when keys, by id, were last used (Unix seconds): one command for up to 1,000 keys."""
        scores = [(key_id, round(at * 1e6)) for key_id, at in times.items()]
        for start in range(0, len(scores), BATCH):
            async with redis_errors():
                await self.link.changes.zadd(names.LAST_USED, dict(scores[start : start + BATCH]), gt=True)

    async def last_used(self, key_ids: Sequence[str]) -> list[float]:
        """Return when each key was last used, in Unix seconds; 0 for never."""
        return await BatchReader(self.link.lists).last_used(key_ids)
