"""The records of keys in Redis or Valkey, found and listed.

Rules kept here:
- The record alone is authoritative: what an index names is believed only if the record says so too.
- A look-up by digest is one round trip, shared by all who ask at the same time (`lookups`).
- Look-ups, lists and changes have connections of their own.
- Lists of many keys (`owned`, `scan`, `get_many`, `find_many`, `awaiting_core_revocation`) leave out what
  cannot be read, if somebody takes note of it. All other reads fail.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from gateway.keys.record import KeyRecord
from gateway.keys.redis import names as names
from gateway.keys.redis.connection import RedisLink
from gateway.keys.redis.errors import or_empty, redis_errors
from gateway.keys.redis.lookups import Lookups
from gateway.keys.redis.reading import BATCH, BatchReader
from gateway.keys.store import FoundKeys, LeftOut


class RedisRecordReader:
    """Finds records over one link; `left_out` takes note of those that lists leave out, None for none."""

    def __init__(self, link: RedisLink, left_out: LeftOut | None = None) -> None:
        self.link = link
        self._single = BatchReader(link.changes)
        self._lists = BatchReader(link.lists, left_out)
        self._due = BatchReader(link.changes, left_out)
        self._look_ups = Lookups(link)

    async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
        """Return the record of a key by its digest; with `client`, of one that is not known here."""
        return await self._look_ups.get_by_digest(digest, client)

    async def get_by_prefix(self, prefix: str, client: str = "") -> list[KeyRecord]:
        """Return the records that were pending at first, of keys that begin with `prefix`."""
        return await self._look_ups.get_by_prefix(prefix, client)

    async def get(self, key_id: str) -> KeyRecord | None:
        """Return the record of a key by its id."""
        records = await self._single.get_many([key_id])
        return records[0] if records else None

    async def get_many(self, key_ids: Sequence[str]) -> list[KeyRecord]:
        """Return the records of keys by their ids; those that are unknown are left out."""
        return await self._lists.get_many(key_ids)

    async def find_many(self, key_ids: Sequence[str]) -> FoundKeys:
        """Return the records of keys by their ids, and which of them cannot be read."""
        return await self._lists.find_many(key_ids)

    async def children(self, key_id: str) -> list[KeyRecord]:
        """Return the records that a key created, and its successors, revoked ones included."""
        records = await self._single.get_many(await self._single.members(names.children_name(key_id)))
        return [record for record in records if key_id in (record.created_by, record.replaces)]

    async def owned(self, owner: str) -> list[KeyRecord]:
        """Return the records of an owner, newest first, revoked ones included."""
        async with redis_errors():
            members = await self.link.lists.zrange(names.owner_name(owner), 0, -1, desc=True)
        records = await self._lists.by_digests(list(map(names.read_text, members)))
        return [record for record in records if record.owner == owner]

    async def scan(self, left_out: LeftOut | None = None) -> AsyncIterator[list[KeyRecord]]:
        """Yield all records, in batches and in no order; one that moves meanwhile may come twice."""
        reader = self._lists if left_out is None else self._lists.noting(left_out)
        seen: set[str] = set()
        cursor: int | None = None
        while cursor != 0:
            async with redis_errors():
                cursor, found = await self.link.lists.scan(cursor or 0, match=names.EVERY_KEY, count=BATCH)
            # A scan may name a record twice.
            digests = {names.digest_in(name) for name in found} - seen
            seen |= digests
            yield await reader.by_digests(list(digests))

    async def awaiting_core_revocation(self, until: float = float("inf")) -> list[KeyRecord]:
        """Return the records of keys that Core is still to revoke, in the order in which they end."""
        async with redis_errors():
            members = await self.link.changes.zrangebyscore(names.RETIRING, "-inf", until)
        records = await self._due.get_many(list(map(names.read_text, members)))
        return [record for record in records if record.awaiting_core_revocation and record.ends <= until]

    async def count_owned(self, owner: str) -> int:
        """Return how many records of an owner there are, dead keys included."""
        async with redis_errors():
            return int(await self.link.changes.zcard(names.owner_name(owner)))

    async def count_ends(self, after: float, until: float) -> AsyncIterator[int]:
        """Yield, in steps of about a thousand names, how many keys end in this time (Unix seconds)."""
        cursor: int | None = None
        while cursor != 0:
            async with redis_errors():
                cursor, found = await self.link.lists.scan(cursor or 0, match=names.EVERY_ENDS, count=BATCH)
                async with self.link.lists.pipeline(transaction=False) as pipe:
                    for name in found:
                        pipe.zcount(name, after, until)
                    counts = await pipe.execute(raise_on_error=False)
                yield sum(or_empty(count, 0) for count in counts)

    async def close_look_ups(self) -> None:
        """Fail all who wait for a look-up."""
        await self._look_ups.close()
