"""The records of keys in Redis or Valkey, read and written.

Rules kept here:
- The record alone is authoritative: what an index names is believed only if the record says so too.
- A look-up by digest is one round trip.
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

import msgspec

from gateway.errors import Code, GatewayError
from gateway.keys import redis_names as names
from gateway.keys.minting import is_key_id
from gateway.keys.quota import NO_QUOTA, Quota
from gateway.keys.record import PENDING, KeyRecord
from gateway.keys.redis_indexes import queue_move, queue_records, queue_removal
from gateway.keys.redis_link import COMMAND_SECONDS, RedisLink, abandon, commit
from gateway.keys.redis_reasons import NotAcknowledgedError, UnreadableRecordError, in_doubt, reason
from gateway.keys.store import (
    DeadMinterError,
    DuplicateKeyError,
    RefusedRecordError,
    Revision,
    UnacknowledgedError,
    UncertainError,
)

ANSWER_SECONDS: Final = 1.5
"""The longest that anything waits for Redis, connecting included, besides what it asks Redis to wait."""
_WRITE_ATTEMPTS: Final = 8
_WRITERS: Final = 4
_BATCH: Final = 1000
_READ: Final = 100
"""Records read at once: 1 ms of the event loop, some 5 ms of the largest that a client can make."""

Stored = list[KeyRecord | None]
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
        # Redis-py types every command as perhaps awaitable, for its synchronous clients too.
        self._client: Any = link.commands
        self._replicas = replicas
        self._changes_kept = changes_kept
        self._decoder = msgspec.json.Decoder(KeyRecord)
        # A write may wait for replicas, and must not do so on the last connection that look-ups have.
        self._writing = asyncio.Semaphore(_WRITERS)

    # One record.

    async def find(self, digest: str) -> KeyRecord | None:
        """The record of a key by its digest."""
        async with answering(), asyncio.timeout(COMMAND_SECONDS):
            return self._read(digest, await self._client.get(names.key_name(digest)))

    async def get(self, key_id: str) -> KeyRecord | None:
        """The record of a key by its id."""
        records = await self.get_all([key_id])
        return records[0] if records else None

    async def add(self, record: KeyRecord, quota: Quota = NO_QUOTA) -> None:
        """Store a new record; raises `DuplicateKeyError`, `DeadMinterError` or `QuotaError`."""

        async def within(pipe: Any) -> None:
            await self._check_quota(pipe, record, quota)

        def new(stored: Stored) -> list[KeyRecord]:
            there, *minters, under_id = stored
            if there is not None or under_id is not None:
                raise DuplicateKeyError(record.id)
            if any(minter is not None and (minter.revoked or minter.disabled) for minter in minters):
                raise DeadMinterError(record.id)
            return [record]

        async with answering():
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

        async with answering():
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
        found = await self._by_ids(key_ids)
        if len(found) == len(key_ids):
            return found
        # A pending record moves once, to the digest of its key, and may have done so in between.
        missing = set(key_ids) - {record.id for record in found}
        moved = await self._by_ids([key_id for key_id in key_ids if key_id in missing])
        by_id = {record.id: record for record in found + moved}
        return [by_id[key_id] for key_id in key_ids if key_id in by_id]

    async def _by_ids(self, key_ids: Sequence[str]) -> list[KeyRecord]:
        digests: list[str] = []
        for start in range(0, len(key_ids), _BATCH):
            async with answering():
                found = await self._client.mget([names.id_name(i) for i in key_ids[start : start + _BATCH]])
            digests += [digest.decode() for digest in found if digest is not None]
        return await self._by_digest(digests)

    async def offspring(self, key_id: str) -> list[KeyRecord]:
        """The records that a key created, and what it was rotated into, revoked ones included."""
        records = await self.get_all(await self._members(names.offspring_name(key_id)))
        return [record for record in records if key_id in (record.created_by, record.replaces)]

    async def prefixed(self, prefix: str) -> list[KeyRecord]:
        """The records that were pending at first, of keys that begin with `prefix`."""
        records = await self.get_all(await self._members(names.prefix_name(prefix)))
        return [record for record in records if record.prefix == prefix]

    async def owned(self, owner: str) -> list[KeyRecord]:
        """The records of an owner, newest first, revoked ones included."""
        async with answering():
            members = await self._client.zrange(names.owner_name(owner), 0, -1, desc=True)
        records = await self._by_digest([member.decode() for member in members])
        return [record for record in records if record.owner == owner]

    async def every(self) -> AsyncIterator[list[KeyRecord]]:
        """All records, in batches and in no order; one that settles meanwhile may come twice."""
        seen: set[str] = set()
        cursor: int | None = None
        while cursor != 0:
            async with answering():
                cursor, found = await self._client.scan(cursor or 0, match=names.EVERY_KEY, count=_BATCH)
            # A scan may name a record twice.
            digests = {names.digest_in(name) for name in found} - seen
            seen |= digests
            yield await self._by_digest(list(digests))

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

        async with answering():
            await self._transact(
                [record.digest for record in records],
                new,
                ids=[record.id for record in records],
                again=not dry_run,
            )
        return there

    async def kept(self, owner: str) -> int:
        """How many records of an owner there are, dead keys included."""
        async with answering():
            return int(await self._client.zcard(names.owner_name(owner)))

    async def remove_all(self, records: Sequence[KeyRecord]) -> list[KeyRecord]:
        """Remove the records of dead keys that are still as given, all or none, and return those."""
        given = {record.digest: record.unused for record in records}
        ids = [record.id for record in records]
        removed: list[KeyRecord] = []

        async def remove(pipe: Any, _: int) -> Any:
            stored = await self._read_all(pipe, list(given))
            by_id = await self._read_by_id(pipe, ids, dict(zip(given, stored, strict=True)))
            removed[:] = [
                record for record in by_id if record is not None and record.unused == given.get(record.digest)
            ]
            if not removed:
                return None
            queued = self._client.pipeline()
            queue_removal(queued, removed, self._changes_kept)
            return queued

        async with answering():
            await self._commit([*map(names.key_name, given), *map(names.id_name, ids)], remove)
        return removed

    async def settle(self, key_id: str, digest: str, *, moved: bool = False) -> KeyRecord | None:
        """Put a pending record under the digest of its key, unless that has a record."""

        def move(stored: Stored) -> list[KeyRecord]:
            pending, there = stored
            return [] if pending is None or there is not None else [pending.settle(digest)]

        async with answering():
            before = await self._digest(key_id)
            if before not in (None, digest) and (moved or before.startswith(PENDING)):
                await self._transact([before, digest], move, gone=True)
        return await self.find(digest)

    async def retiring(self, until: float = float("inf")) -> list[KeyRecord]:
        """The records of keys that Core is still to revoke, those that end first first."""
        async with answering():
            members = await self._client.zrangebyscore(names.RETIRING, "-inf", until)
        records = await self.get_all([member.decode() for member in members])
        return [record for record in records if record.retiring and record.ends <= until]

    async def lease(self, name: str, seconds: float) -> bool:
        """Take a name for so many seconds; it comes free by itself."""
        async with answering():
            return bool(
                await self._client.set(names.lease_name(name), b"", nx=True, px=round(seconds * 1000))
            )

    # When keys were last used.

    async def used(self, times: Mapping[str, float]) -> None:
        """Note when keys were last used (Unix seconds): one command for up to 1,000 keys."""
        scores = [(key_id, round(at * 1e6)) for key_id, at in times.items()]
        for start in range(0, len(scores), _BATCH):
            async with answering():
                await self._client.zadd(names.LAST_USED, dict(scores[start : start + _BATCH]), gt=True)

    async def last_used(self, key_ids: Sequence[str]) -> list[float]:
        """When each key was last used, in Unix seconds; 0 for never."""
        async with answering():
            scores = await self._client.zmscore(names.LAST_USED, key_ids) if key_ids else []
            return [(score or 0.0) / 1e6 for score in scores]

    # Reading.

    async def _digest(self, key_id: str) -> str | None:
        digest = await self._client.get(names.id_name(key_id))
        return None if digest is None else digest.decode()

    async def _members(self, name: str | bytes) -> list[str]:
        async with answering():
            return [member.decode() for member in await self._client.smembers(name)]

    async def _by_digest(self, digests: Sequence[str]) -> list[KeyRecord]:
        """The records that are there, each with its last use, in the order of the digests."""
        records: list[KeyRecord] = []
        for start in range(0, len(digests), _READ):
            batch = digests[start : start + _READ]
            async with answering():
                found = [record for record in await self._read_all(self._client, batch) if record is not None]
            times = await self.last_used([record.id for record in found])
            records += [record.used(at) for record, at in zip(found, times, strict=True)]
        return records

    async def _read_all(self, client: Any, digests: Sequence[str]) -> Stored:
        texts = await client.mget([names.key_name(digest) for digest in digests]) if digests else []
        return [self._read(digest, text) for digest, text in zip(digests, texts, strict=True)]

    def _read(self, digest: str, text: bytes | None) -> KeyRecord | None:
        if text is None:
            return None
        try:
            record = self._decoder.decode(text)
        except msgspec.DecodeError:
            record = None
        if record is None or record.digest != digest:
            raise UnreadableRecordError(names.key_name(digest))
        return record

    # Writing.

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
            stored = await self._read_all(pipe, digests)
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
        raise GatewayError(Code.KEY_STORE_UNAVAILABLE, reason="too many others write the same key")

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
        records = {**read, **dict(zip(others, await self._read_all(pipe, others), strict=True))}
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
        for start in range(0, len(missing), _READ):
            batch = missing[start : start + _READ]
            found = zip(batch, await self._read_all(pipe, batch), strict=True)
            ends = {
                digest: 0.0 if record is None or record.owner != owner else record.ends
                for digest, record in found
            }
            # Not over what was written meanwhile: the key may have been revoked since it was read.
            await pipe.zadd(name, ends, nx=True)


@contextlib.asynccontextmanager
async def answering(wait: float = 0.0) -> AsyncIterator[None]:
    """Bound what happens inside to 1.5 s and `wait`, and turn its every failure into one."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS + wait):
            yield
    except (GatewayError, RefusedRecordError):
        raise
    except NotAcknowledgedError as error:
        raise UnacknowledgedError(Code.KEY_STORE_UNAVAILABLE, reason=str(error)) from error
    except Exception as error:
        # redis-py lets through OSError, ValueError, IndexError and more, by what the peer sends.
        failure = UncertainError if in_doubt(error) else GatewayError
        raise failure(Code.KEY_STORE_UNAVAILABLE, reason=reason(error)) from error
