"""Keep in Redis when keys were last used.

Rules kept here:
- A last use is never written over a later one, whichever replica saw it (ZADD GT).
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.keys.redis import names as names
from gateway.keys.redis.connection import RedisLink
from gateway.keys.redis.errors import redis_errors
from gateway.keys.redis.reading import BATCH


class KeyUsage:
    """Writes when keys were last used, over one link."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link

    async def record_uses(self, times: Mapping[str, float]) -> None:
        """Store when keys, by id, were last used (Unix seconds): one command for up to 1,000 keys."""
        scores = [(key_id, round(at * 1e6)) for key_id, at in times.items()]
        for start in range(0, len(scores), BATCH):
            async with redis_errors():
                await self.link.changes.zadd(names.LAST_USED, dict(scores[start : start + BATCH]), gt=True)
