"""Read records from Redis over the connections of one client.

Rules kept here:
- The record alone is authoritative: what an index names is believed only if the record is there.
- A record that cannot be read fails the whole read. It is left out only where somebody takes note of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.keys.minting import is_key_id
from gateway.keys.record import KeyRecord
from gateway.keys.record_json import decode_record
from gateway.keys.redis import names as names
from gateway.keys.redis.errors import UnreadableRecordError, redis_errors
from gateway.keys.store import LeftOut, UnreadableKey

BATCH: Final = 1000
"""The most names that one command reads."""
RECORDS: Final = 100
"""The most records that are decoded at once: 1 ms of the event loop, 5 ms if all are as large as can be."""

Stored = list[KeyRecord | None]


class _Id(msgspec.Struct):
    """What a record has in every version."""

    id: str


_ID: Final = msgspec.json.Decoder(_Id)


class BatchReader:
    """Reads many records.

    Args:
        client: of redis-py (`Any`: it types every command as perhaps awaitable).
        left_out: takes note of a record that cannot be read; None if such a one is to fail the read.
    """

    def __init__(self, client: Any, left_out: LeftOut | None = None) -> None:
        self._client = client
        self._left_out = left_out

    async def get_many(self, key_ids: Sequence[str]) -> list[KeyRecord]:
        """Return the records of keys by their ids, with their last use; unknown ones are left out."""
        found = await self._by_ids(key_ids)
        if len(found) == len(key_ids):
            return found
        # A pending record moves once, to the digest of its key, and may have done so in between.
        missing = set(key_ids) - {record.id for record in found}
        moved = await self._by_ids([key_id for key_id in key_ids if key_id in missing])
        by_id = {record.id: record for record in found + moved}
        return [by_id[key_id] for key_id in key_ids if key_id in by_id]

    async def by_digests(self, digests: Sequence[str]) -> list[KeyRecord]:
        """Return the records that are there, each with its last use, in the order of the digests."""
        records: list[KeyRecord] = []
        for start in range(0, len(digests), RECORDS):
            batch = digests[start : start + RECORDS]
            async with redis_errors():
                texts = await _texts(self._client, batch)
                found = self._readable(batch, texts)
            times = await self.last_used([record.id for record in found])
            records += [record.with_last_use(at) for record, at in zip(found, times, strict=True)]
        return records

    async def last_used(self, key_ids: Sequence[str]) -> list[float]:
        """Return when each key was last used, in Unix seconds; 0 for never."""
        async with redis_errors():
            scores = await self._client.zmscore(names.LAST_USED, key_ids) if key_ids else []
            return [(score or 0.0) / 1e6 for score in scores]

    async def members(self, name: bytes) -> list[str]:
        """Return the ids in an index."""
        async with redis_errors():
            return [member.decode() for member in await self._client.smembers(name)]

    def _readable(self, digests: Sequence[str], texts: Sequence[bytes | None]) -> list[KeyRecord]:
        """Return the records that are there. Raises UnreadableRecordError if nobody takes note of it."""
        found = []
        for digest, text in zip(digests, texts, strict=True):
            if text is None:
                continue
            try:
                found.append(read_record(digest, text))
            except UnreadableRecordError as error:
                if self._left_out is None:
                    raise
                self._left_out(UnreadableKey(error.key_id, str(error)))
        return found

    async def _by_ids(self, key_ids: Sequence[str]) -> list[KeyRecord]:
        digests: list[str] = []
        for start in range(0, len(key_ids), BATCH):
            async with redis_errors():
                found = await self._client.mget([names.id_name(i) for i in key_ids[start : start + BATCH]])
            digests += [digest.decode() for digest in found if digest is not None]
        return await self.by_digests(digests)


async def read_all(client: Any, digests: Sequence[str]) -> Stored:
    """Return the records under the digests, in order.

    Raises:
        UnreadableRecordError: one of them cannot be read.
    """
    return read_records(digests, await _texts(client, digests))


def read_records(digests: Sequence[str], texts: Sequence[bytes | None]) -> Stored:
    """Return the records in texts that stand under digests, in order; None where there is no text.

    Raises:
        UnreadableRecordError: one of them cannot be read.
    """
    return [
        None if text is None else read_record(digest, text)
        for digest, text in zip(digests, texts, strict=True)
    ]


def read_record(digest: str, text: bytes) -> KeyRecord:
    """Return the record in a text that stands under a digest. Raises UnreadableRecordError."""
    try:
        record = decode_record(text)
    except ValueError:
        record = None
    if record is None or record.digest != digest:
        raise UnreadableRecordError(names.key_name(digest).decode(), _id_in(text))
    return record


async def _texts(client: Any, digests: Sequence[str]) -> list[bytes | None]:
    return await client.mget([names.key_name(digest) for digest in digests]) if digests else []


def _id_in(text: bytes) -> str:
    """Return the id in the text of a record that cannot be read; "" if there is none."""
    try:
        found = _ID.decode(text).id
    except ValueError:
        return ""
    return found if is_key_id(found) else ""
