"""Look up the keys that clients send: many in one round trip, apart from all other reads of Redis.

Rules kept here:
- There are three queues, each with one read at a time: keys that are known here, keys that are not, and
  prefixes of the latter. So known keys never wait behind a flood of unknown ones.
- Unknown keys are served by turns of the clients' addresses (`shares.network_of`), because anybody can send
  them. None waits for so long that the result of its read would be too old to use (`cache.LATE_SECONDS`).
- A record that cannot be read fails only the look-ups of that record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.errors import GatewayError
from gateway.fairness.shares import network_of
from gateway.keys.command_times import CommandKind
from gateway.keys.dataloader import BatchLimits, BatchLoader
from gateway.keys.record import KeyRecord
from gateway.keys.redis import names as names
from gateway.keys.redis.connection import RedisLink
from gateway.keys.redis.errors import UnreadableRecordError, or_empty, unreadable_key
from gateway.keys.redis.reading import BatchReader, Readable, read_record

COMMAND_SECONDS: Final = 1.0
"""The time for one read, connecting included: the result would be too old to use after it."""

_KNOWN: Final = BatchLimits(size=256, waiting=50_000)
# All clients of one read get their response in one turn of the event loop: 64 of them hold it for 10 ms.
_UNKNOWN: Final = BatchLimits(size=64, waiting=8192, patience=0.6)


class Lookups:
    """Look-ups over one link; close them before it."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._client: Any = link.look_ups
        self._reader = BatchReader(self._client)
        self._known: BatchLoader[KeyRecord] = BatchLoader(self._read_digests, _KNOWN)
        self._unknown: BatchLoader[KeyRecord] = BatchLoader(self._read_digests, _UNKNOWN)
        self._prefixes: BatchLoader[list[KeyRecord]] = BatchLoader(self._read_prefixes, _UNKNOWN)

    async def get_by_digest(self, digest: str, client: str) -> KeyRecord | None:
        """Return the record of a key by its digest; without a `client`, of one that is known here."""
        if client:
            return await self._unknown.get(digest, network_of(client))
        return await self._known.get(digest)

    async def get_by_prefix(self, prefix: str, client: str) -> list[KeyRecord]:
        """Return the records that were pending at first, of keys that begin with `prefix`."""
        return await self._prefixes.get(prefix, network_of(client)) or []

    async def close(self) -> None:
        """Fail every look-up that still waits."""
        for each in (self._known, self._unknown, self._prefixes):
            await each.close()

    async def _read_digests(self, digests: list[str]) -> Mapping[str, KeyRecord | GatewayError]:
        async with self._link.command(CommandKind.LOOK_UP), asyncio.timeout(COMMAND_SECONDS):
            texts = await self._client.mget(list(map(names.key_name, digests)))
            found = zip(digests, texts, strict=True)
        return {digest: _record(digest, text) for digest, text in found if text is not None}

    async def _read_prefixes(self, prefixes: list[str]) -> Mapping[str, list[KeyRecord] | GatewayError]:
        places = list(map(names.prefix_name, prefixes))
        async with self._link.command(CommandKind.LOOK_UP), asyncio.timeout(COMMAND_SECONDS):
            # Random keys have no record, and one command says so for all of them.
            if not await self._client.exists(*places):
                return {}
            async with self._client.pipeline(transaction=False) as pipe:
                for place in places:
                    pipe.smembers(place)
                replies = await pipe.execute(raise_on_error=False)
            members = [set(map(names.read_text, or_empty(reply, ()))) for reply in replies]
        ids = dict(zip(prefixes, members, strict=True))
        found = await self._reader.by_ids(list(set().union(*members)))
        return {prefix: _of_prefix(prefix, [found[i] for i in ids[prefix] if i in found]) for prefix in ids}


def _record(digest: str, text: bytes) -> KeyRecord | GatewayError:
    try:
        return read_record(digest, text)
    except UnreadableRecordError as error:
        return unreadable_key(error)


def _of_prefix(prefix: str, found: Sequence[Readable]) -> list[KeyRecord] | GatewayError:
    """Return the records of a prefix, or why one of them cannot be read."""
    for each in found:
        if isinstance(each, UnreadableRecordError):
            return unreadable_key(each)
    # The index may be wrong; the record names its prefix.
    return [each for each in found if isinstance(each, KeyRecord) and each.prefix == prefix]
