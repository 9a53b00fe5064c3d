"""The records of keys in Redis or Valkey, read and written.

Rules kept here:
- The record alone is authoritative: what an index names is believed only if the record says so too.
- A look-up by digest is one round trip, shared by all who ask at the same time (`redis_look_ups`).
- Look-ups, lists and changes have connections of their own, and new keys do not hold up what revokes keys.
- Records, their indexes and their entries in the stream are written in one MULTI/EXEC, under WATCH, so
  that of two writers the second sees what the first wrote.
- Where the primary has replicas, as many as are connected, and at least as many as are configured, have
  acknowledged a write before it counts as done. It stands all the same if they have not.
- A last use is never written over a later one, whichever replica saw it (ZADD GT).
- An owner's keys are counted within the write, by two indexes that nobody watches. So creations at the same
  time exceed a quota by fewer than write at the same time: `_WRITERS` on each replica.
- Any outage of whatever kind is `KEY_STORE_UNAVAILABLE`. So is a record that cannot be read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from gateway.keys.errors import StoreUnavailableError
from gateway.keys.minting import is_key_id
from gateway.keys.quota import NO_QUOTA, Quota
from gateway.keys.record import PENDING, KeyRecord
from gateway.keys.redis import names as names
from gateway.keys.redis.connection import RedisLink, abandon, commit
from gateway.keys.redis.errors import redis_errors
from gateway.keys.redis.indexes import queue_move, queue_records, queue_removal
from gateway.keys.redis.lookups import Lookups
from gateway.keys.redis.reading import BATCH, RECORDS, Reader, Stored, read_all
from gateway.keys.store import CreatorRevokedError, DuplicateKeyError, RefusedRecordError, Revision

_WRITE_ATTEMPTS: Final = 8
_WRITERS: Final = 4
_ADDERS: Final = 2
"""How many of the writers at once may add a key."""

Verdict = Callable[[Stored], list[KeyRecord]]
"""Which records to write, given those that are stored. Called again if another writer came first."""
Plan = Callable[[Any, int], Awaitable[Any]]
"""What to commit, as a pipeline that holds it, or None for nothing.

The first argument is the pipeline to read with, whose connection watches; the second, how many replicas are
to acknowledge what is committed.
"""


class RedisRecords:
    """Records over one link.

    `changes_kept` is about how many entries the stream keeps, `replicas` the least number of Redis replicas
    that must acknowledge a write.
    """

    def __init__(self, link: RedisLink, changes_kept: int, replicas: int) -> None:
        self.link = link
        self._client = link.changes
        self._changes = Reader(link.changes)
        self._lists = Reader(link.lists)
        self._look_ups = Lookups(link.look_ups)
        self._replicas = replicas
        self._changes_kept = changes_kept
        # A write may wait for replicas, and must not do so on the last connection that its reads need.
        self._writing = asyncio.Semaphore(_WRITERS)
        # Whoever may make keys can make them without end; what revokes keys must not wait for that.
        self._adding = asyncio.Semaphore(_ADDERS)

    # One record.

    async def find(self, digest: str, client: str = "") -> KeyRecord | None:
        """The record of a key by its digest; with `client`, of one that is not known here."""
        return await self._look_ups.find(digest, client)

    async def get(self, key_id: str) -> KeyRecord | None:
        """The record of a key by its id."""
        records = await self._changes.get_all([key_id])
        return records[0] if records else None

    async def add(self, record: KeyRecord, quota: Quota = NO_QUOTA) -> None:
        """Store a new record; raises `DuplicateKeyError`, `CreatorRevokedError` or `QuotaError`."""

        async def within(pipe: Any) -> None:
            await self._check_quota(pipe, record, quota)

        def new(stored: Stored) -> list[KeyRecord]:
            there, *minters, under_id = stored
            if there is not None or under_id is not None:
                raise DuplicateKeyError(record.id)
            if any(minter is not None and (minter.revoked or minter.disabled) for minter in minters):
                raise CreatorRevokedError(record.id)
            return [record]

        async with redis_errors(), self._adding:
            minter = await self._digest(record.created_by) if is_key_id(record.created_by) else None
            digests = [record.digest, *([minter] if minter else [])]
            await self._transact(digests, new, ids=[record.id], allowed=within if quota.live else None)

    async def revoke(
        self, key_id: str, at: str, by: str, reason: str = "", *, retiring: bool = False
    ) -> KeyRecord | None:
        """Revoke a key and return its record; None for an unknown id. Done when this returns."""
        return await self.revise(key_id, lambda record: record.revoke(at, by, reason, retiring=retiring))

    async def revise(
        self, key_id: str, revision: Revision, *, successor: KeyRecord | None = None
    ) -> KeyRecord | None:
        """Change a record and return it; None for an unknown id. `successor` is added with it, or neither."""
        revised: KeyRecord | None = None

        def change(stored: Stored) -> list[KeyRecord]:
            nonlocal revised
            revised = None if stored[0] is None else revision(stored[0])
            if revised is None:
                return []
            return [record for record in (revised, successor) if record is not None and record != stored[0]]

        async with redis_errors():
            asked, digest = None, await self._digest(key_id)
            while digest not in (None, asked):
                await self._transact([digest], change, again=True)
                if revised is not None:
                    break
                # A pending record moves once, to the digest of its key, and may have done so in between.
                asked, digest = digest, await self._digest(key_id)
        return revised

    # Many.

    async def get_all(self, key_ids: Sequence[str]) -> list[KeyRecord]:
        """The records of keys by their ids; those that are unknown are left out."""
        return await self._lists.get_all(key_ids)

    async def children(self, key_id: str) -> list[KeyRecord]:
        """The records that a key created, and what it was rotated into, revoked ones included."""
        records = await self._changes.get_all(await self._changes.members(names.offspring_name(key_id)))
        return [record for record in records if key_id in (record.created_by, record.replaces)]

    async def prefixed(self, prefix: str, client: str = "") -> list[KeyRecord]:
        """The records that were pending at first, of keys that begin with `prefix`."""
        return await self._look_ups.prefixed(prefix, client)

    async def owned(self, owner: str) -> list[KeyRecord]:
        """The records of an owner, newest first, revoked ones included."""
        async with redis_errors():
            members = await self.link.lists.zrange(names.owner_name(owner), 0, -1, desc=True)
        records = await self._lists.by_digests([member.decode() for member in members])
        return [record for record in records if record.owner == owner]

    async def every(self) -> AsyncIterator[list[KeyRecord]]:
        """All records, in batches and in no order; one that settles meanwhile may come twice."""
        seen: set[str] = set()
        cursor: int | None = None
        while cursor != 0:
            async with redis_errors():
                cursor, found = await self.link.lists.scan(cursor or 0, match=names.EVERY_KEY, count=BATCH)
            # A scan may name a record twice.
            digests = {names.digest_in(name) for name in found} - seen
            seen |= digests
            yield await self._lists.by_digests(list(digests))

    async def add_all(self, records: Sequence[KeyRecord], *, dry_run: bool = False) -> list[KeyRecord | None]:
        """Store what is new of a batch, all of it or nothing; returns what was there instead of each."""
        there: list[KeyRecord | None] = []

        def new(stored: Stored) -> list[KeyRecord]:
            count = len(records)
            there[:] = [
                by_id or by_digest for by_digest, by_id in zip(stored[:count], stored[count:], strict=True)
            ]
            fresh = (record for record, found in zip(records, there, strict=True) if found is None)
            return [] if dry_run else list(fresh)

        async with redis_errors():
            await self._transact(
                [record.digest for record in records],
                new,
                ids=[record.id for record in records],
                again=not dry_run,
            )
        return there

    async def kept(self, owner: str) -> int:
        """How many records of an owner there are, dead keys included."""
        async with redis_errors():
            return int(await self._client.zcard(names.owner_name(owner)))

    async def remove_all(self, records: Sequence[KeyRecord]) -> list[KeyRecord]:
        """Remove the records of dead keys that are still as given, all or none, and return those."""
        given = {record.digest: record.unused for record in records}
        ids = [record.id for record in records]
        removed: list[KeyRecord] = []

        async def remove(pipe: Any, _: int) -> Any:
            stored = await read_all(pipe, list(given))
            by_id = await self._read_by_id(pipe, ids, dict(zip(given, stored, strict=True)))
            removed[:] = [
                record for record in by_id if record is not None and record.unused == given.get(record.digest)
            ]
            if not removed:
                return None
            queued = self._client.pipeline()
            queue_removal(queued, removed, self._changes_kept)
            return queued

        async with redis_errors():
            await self._commit([*map(names.key_name, given), *map(names.id_name, ids)], remove)
        return removed

    async def settle(self, key_id: str, digest: str, *, moved: bool = False) -> KeyRecord | None:
        """Put a pending record under the digest of its key, unless that has a record."""

        def move(stored: Stored) -> list[KeyRecord]:
            pending, there = stored
            return [] if pending is None or there is not None else [pending.settle(digest)]

        async with redis_errors():
            before = await self._digest(key_id)
            if before not in (None, digest) and (moved or before.startswith(PENDING)):
                await self._transact([before, digest], move, gone=True)
            (stored,) = await read_all(self._client, [digest])
        return stored

    async def retiring(self, until: float = float("inf")) -> list[KeyRecord]:
        """The records of keys that Core is still to revoke, those that end first first."""
        async with redis_errors():
            members = await self._client.zrangebyscore(names.RETIRING, "-inf", until)
        records = await self._changes.get_all([member.decode() for member in members])
        return [record for record in records if record.retiring and record.ends <= until]

    async def lease(self, name: str, seconds: float) -> bool:
        """Take a name for so many seconds; it comes free by itself."""
        async with redis_errors():
            return bool(
                await self._client.set(names.lease_name(name), b"", nx=True, px=round(seconds * 1000))
            )

    # When keys were last used.

    async def used(self, times: Mapping[str, float]) -> None:
        """Note when keys were last used (Unix seconds): one command for up to 1,000 keys."""
        scores = [(key_id, round(at * 1e6)) for key_id, at in times.items()]
        for start in range(0, len(scores), BATCH):
            async with redis_errors():
                await self._client.zadd(names.LAST_USED, dict(scores[start : start + BATCH]), gt=True)

    async def last_used(self, key_ids: Sequence[str]) -> list[float]:
        """When each key was last used, in Unix seconds; 0 for never."""
        return await self._lists.last_used(key_ids)

    # Writing.

    async def _digest(self, key_id: str) -> str | None:
        digest = await self._client.get(names.id_name(key_id))
        return None if digest is None else digest.decode()

    async def _transact(
        self,
        digests: Sequence[str],
        verdict: Verdict,
        *,
        ids: Sequence[str] = (),
        gone: bool = False,
        again: bool = False,
        allowed: Callable[[Any], Awaitable[None]] | None = None,
    ) -> None:
        """Write what `verdict` says of the records under the digests, then of those under the ids.

        With `gone`, the first digest's record gives way to what is written. With `again`, where all is as it
        should be one record is written once more where there are replicas: nobody may know yet whether they
        acknowledged it the first time. Who has the latest write has those before it. `allowed` is asked last,
        on the connection that writes, and may refuse.
        """

        async def write(pipe: Any, replicas: int) -> Any:
            stored = await read_all(pipe, digests)
            by_id = await self._read_by_id(pipe, ids, dict(zip(digests, stored, strict=True)))
            written = verdict(stored + by_id)
            if not written and again and replicas:
                written = [record for record in stored if record is not None][:1]
            if not written:
                return None
            if allowed is not None:
                await allowed(pipe)
            queued = self._client.pipeline()
            if gone and stored[0] is not None:
                queue_move(queued, stored[0])
            live = {record.id for record in stored + by_id if record is not None and not record.revoked}
            queue_records(queued, written, live, self._changes_kept)
            return queued

        await self._commit([*map(names.key_name, digests), *map(names.id_name, ids)], write)

    async def _commit(self, watched: Sequence[str | bytes], plan: Plan) -> None:
        """Commit what `plan` queues, and plan it anew where another writer came first; nothing for None."""
        async with self._writing, self._watching() as pipe:
            for _ in range(_WRITE_ATTEMPTS):
                await pipe.watch(*watched)
                session = pipe.connection.session
                replicas = max(self._replicas, self.link.replicas(await pipe.execute_command("ROLE")))
                queued = await plan(pipe, replicas)
                if queued is None or await commit(pipe, queued, replicas, session):
                    return
        raise StoreUnavailableError(reason="too many others write the same key")

    @contextlib.asynccontextmanager
    async def _watching(self) -> AsyncIterator[Any]:
        """A pipeline for one transaction, whose connection does not outlive a failure."""
        async with self._client.pipeline(transaction=True) as pipe:
            try:
                yield pipe
            except RefusedRecordError:
                raise
            except BaseException:
                await abandon(pipe)
                raise

    async def _read_by_id(
        self, pipe: Any, ids: Sequence[str], read: Mapping[str, KeyRecord | None]
    ) -> Stored:
        """The records under the ids; those in `read`, by digest, are not read again."""
        if not ids:
            return []
        found = [digest and digest.decode() for digest in await pipe.mget(list(map(names.id_name, ids)))]
        others = list({digest for digest in found if digest is not None} - read.keys())
        records = {**read, **dict(zip(others, await read_all(pipe, others), strict=True))}
        return [records.get(digest) for digest in found]

    # Counting.

    async def _check_quota(self, pipe: Any, record: KeyRecord, quota: Quota) -> None:
        """Raises QuotaError if the owner of a new record may have no further key."""
        records = await pipe.zcard(names.owner_name(record.owner))
        quota.check_records(records)
        if records < quota.live:
            return
        ends = names.ends_name(record.owner)
        if await pipe.zcard(ends) < records:
            await self._index_ends(pipe, record.owner)
        quota.check_live(await pipe.zcount(ends, f"({record.created.unix!r}", "+inf"))

    async def _index_ends(self, pipe: Any, owner: str) -> None:
        """Note when the keys end whose records an older version wrote, which did not."""
        name = names.ends_name(owner)
        noted = set(await pipe.zrange(name, 0, -1, desc=True))
        owned = await pipe.zrange(names.owner_name(owner), 0, -1, desc=True)
        missing = [member.decode() for member in owned if member not in noted]
        for start in range(0, len(missing), RECORDS):
            batch = missing[start : start + RECORDS]
            found = zip(batch, await read_all(pipe, batch), strict=True)
            ends = {
                digest: 0.0 if record is None or record.owner != owner else record.ends
                for digest, record in found
            }
            # Not over what was written meanwhile: the key may have been revoked since it was read.
            await pipe.zadd(name, ends, nx=True)
