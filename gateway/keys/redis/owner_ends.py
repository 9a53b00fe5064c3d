"""The index of when an owner's keys end, made anew for keys that an older version wrote without it."""

from __future__ import annotations

from typing import Any

from gateway.keys.redis import names as names
from gateway.keys.redis.errors import UnreadableRecordError
from gateway.keys.redis.reading import RECORDS, BatchReader, Readable


async def index_ends(client: Any, owner: str) -> None:
    """Note when each key of an owner ends of which that is not noted, by way of a client of redis-py."""
    name = names.ends_name(owner)
    noted = set(await client.zrange(name, 0, -1, desc=True))
    owned = await client.zrange(names.owner_name(owner), 0, -1, desc=True)
    missing = [member for member in owned if member not in noted]
    reader = BatchReader(client)
    for start in range(0, len(missing), RECORDS):
        batch = missing[start : start + RECORDS]
        found = await reader.read(list(map(names.read_text, batch)))
        ends = {member: _end(found.get(names.read_text(member)), owner) for member in batch}
        # Not over what was written meanwhile: the key may have been revoked since it was read.
        await client.zadd(name, ends, nx=True)


def _end(found: Readable | None, owner: str) -> float:
    """Return when a key ends (Unix seconds); 0 for one that is not this owner's."""
    if isinstance(found, UnreadableRecordError):
        # It counts against the quota, for it may be live.
        return float("inf")
    return 0.0 if found is None or found.owner != owner else found.ends
