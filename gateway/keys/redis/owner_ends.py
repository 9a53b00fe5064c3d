"""The index of when an owner's keys end, made anew for keys that an older version wrote without it."""

from __future__ import annotations

from typing import Any

from gateway.keys.redis import names as names
from gateway.keys.redis.reading import RECORDS, read_all


async def index_ends(client: Any, owner: str) -> None:
    """Note when each key of an owner ends of which that is not noted, by way of a client of redis-py."""
    name = names.ends_name(owner)
    noted = set(await client.zrange(name, 0, -1, desc=True))
    owned = await client.zrange(names.owner_name(owner), 0, -1, desc=True)
    missing = [member.decode() for member in owned if member not in noted]
    for start in range(0, len(missing), RECORDS):
        batch = missing[start : start + RECORDS]
        found = zip(batch, await read_all(client, batch), strict=True)
        ends = {
            digest: 0.0 if record is None or record.owner != owner else record.ends
            for digest, record in found
        }
        # Not over what was written meanwhile: the key may have been revoked since it was read.
        await client.zadd(name, ends, nx=True)
