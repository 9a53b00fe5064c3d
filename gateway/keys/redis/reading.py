"""Read records from Redis over the connections of one client.

Rules kept here:
- The record alone is authoritative: what an index names is believed only if the record is there.
- A record that cannot be read fails the whole read, and so does an id that leads to the record of another
  key, or to no digest. Such a key is left out only where somebody takes note of it.
- No other value of the right type fails a read, whatever another writer has put there: an index entry that
  leads nowhere is left out, and a last use that is no time counts as never.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from redis.exceptions import ResponseError

from gateway.keys.minting import is_key_id
from gateway.keys.record import KeyRecord
from gateway.keys.record_json import decode_record
from gateway.keys.redis import names as names
from gateway.keys.redis.errors import (
    UnreadableRecordError,
    is_wrong_type,
    misleading_index,
    redis_errors,
    unreadable_key,
)
from gateway.keys.store import FoundKeys, LeftOut, UnreadableKey

BATCH: Final = 1000
"""The most names that one command reads."""
RECORDS: Final = 100
"""The most records that are decoded at once: 1 ms of the event loop, 5 ms if all are as large as can be."""

Stored = list[KeyRecord | None]
Readable = KeyRecord | UnreadableRecordError
"""What a value in Redis is: a record, or no record that can be read."""

_NO_TIME: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""Unix seconds beyond which a last use is none."""


class _Id(msgspec.Struct):
    """What a record has in every version."""

    id: str


_ID: Final = msgspec.json.Decoder(_Id)
_UNREADABLE: Final = (ValueError, RecursionError)
"""What a JSON text raises that is no record: nested too deeply, it raises the latter."""


class BatchReader:
    """Reads many records.

    Args:
        client: of redis-py (`Any`: it types every command as perhaps awaitable).
        left_out: takes note of a record that cannot be read; None if such a one is to fail the read.
    """

    def __init__(self, client: Any, left_out: LeftOut | None = None) -> None:
        self._client = client
        self._left_out = left_out

    def noting(self, left_out: LeftOut) -> BatchReader:
        """Return the same reader, of which `left_out` takes note, too."""
        before = self._left_out

        def note(key: UnreadableKey) -> None:
            if before is not None:
                before(key)
            left_out(key)

        return BatchReader(self._client, note)

    async def get_many(self, key_ids: Sequence[str]) -> list[KeyRecord]:
        """Return the records of keys by their ids, with their last use; unknown ones are left out."""
        found = (await self.find_many(key_ids)).records
        return [found[key_id] for key_id in key_ids if key_id in found]

    async def find_many(self, key_ids: Sequence[str]) -> FoundKeys:
        """Return the same by id, with the ids of those that are there and cannot be read."""
        found = await self.by_ids(key_ids)
        unread = {key_id: each for key_id, each in found.items() if not isinstance(each, KeyRecord)}
        for key_id, error in unread.items():
            self._note(error, key_id)
        records = {key_id: each for key_id, each in found.items() if isinstance(each, KeyRecord)}
        return FoundKeys(records, frozenset(unread))

    async def by_ids(self, key_ids: Sequence[str]) -> dict[str, Readable]:
        """Return the records of keys by their ids, or why one cannot be read; nobody takes note of that."""
        found = await self._by_ids(key_ids)
        # A pending record moves once, to the digest of its key, and may have done so in between.
        again = [key_id for key_id in key_ids if key_id not in found]
        return found | await self._by_ids(again) if again else found

    async def by_digests(self, digests: Sequence[str]) -> list[KeyRecord]:
        """Return the records that are there, each with its last use, in the order of the digests."""
        records = []
        for each in (await self.read(digests)).values():
            if isinstance(each, KeyRecord):
                records.append(each)
            else:
                self._note(each)
        return records

    async def read(self, digests: Sequence[str]) -> dict[str, Readable]:
        """Return what is there under the digests, in their order: a record with its last use, or why not."""
        read: dict[str, Readable] = {}
        for start in range(0, len(digests), RECORDS):
            batch = digests[start : start + RECORDS]
            async with redis_errors():
                texts = await _texts(self._client, batch)
            found = {
                digest: _readable(digest, text)
                for digest, text in zip(batch, texts, strict=True)
                if text is not None
            }
            records = {digest: each for digest, each in found.items() if isinstance(each, KeyRecord)}
            times = await self.last_used([record.id for record in records.values()])
            used = [record.with_last_use(at) for record, at in zip(records.values(), times, strict=True)]
            read |= found | dict(zip(records, used, strict=True))
        return read

    async def last_used(self, key_ids: Sequence[str]) -> list[float]:
        """Return when each key was last used, in Unix seconds; 0 for never, and where Redis holds no time."""
        if not key_ids:
            return []
        async with redis_errors():
            try:
                scores = await self._client.zmscore(names.LAST_USED, key_ids)
            except ResponseError as error:
                if not is_wrong_type(error):
                    raise
                scores = [None] * len(key_ids)
        times = ((score or 0.0) / 1e6 for score in scores)
        return [at if 0 < at < _NO_TIME else 0.0 for at in times]

    async def members(self, name: bytes) -> list[str]:
        """Return the ids in an index."""
        async with redis_errors():
            return list(map(names.read_text, await self._client.smembers(name)))

    def _note(self, error: UnreadableRecordError, key_id: str = "") -> None:
        """Take note of a record that cannot be read, of the key with this id if that is known.

        Raises UnreadableKeyError if nobody takes note.
        """
        if self._left_out is None:
            raise unreadable_key(error)
        known = key_id if is_key_id(key_id) else error.key_id
        self._left_out(UnreadableKey(known, str(error)))

    async def _by_ids(self, key_ids: Sequence[str]) -> dict[str, Readable]:
        """Return what is there under the digests to which the ids lead, by id."""
        digests: dict[str, str] = {}
        for start in range(0, len(key_ids), BATCH):
            batch = key_ids[start : start + BATCH]
            async with redis_errors():
                found = await self._client.mget(list(map(names.id_name, batch)))
            digests |= {
                key_id: names.read_text(digest)
                for key_id, digest in zip(batch, found, strict=True)
                if digest is not None
            }
        read = await self.read([digest for digest in digests.values() if names.is_digest(digest)])
        misled = {
            key_id: misleading_index(key_id)
            for key_id, digest in digests.items()
            if is_misled(key_id, digest, read.get(digest))
        }
        return {key_id: read[digest] for key_id, digest in digests.items() if digest in read} | misled


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
    except _UNREADABLE:
        record = None
    if record is None or record.digest != digest:
        raise UnreadableRecordError(names.shown(names.key_name(digest)), _id_in(text))
    return record


def _readable(digest: str, text: bytes) -> Readable:
    try:
        return read_record(digest, text)
    except UnreadableRecordError as error:
        return error


def is_misled(key_id: str, digest: str, found: Readable | None) -> bool:
    """Return whether an id leads to no digest, or to the record of another key, which `found` may be."""
    return not names.is_digest(digest) or (isinstance(found, KeyRecord) and found.id != key_id)


async def _texts(client: Any, digests: Sequence[str]) -> list[bytes | None]:
    return await client.mget([names.key_name(digest) for digest in digests]) if digests else []


def _id_in(text: bytes) -> str:
    """Return the id in the text of a record that cannot be read; "" if there is none."""
    try:
        found = _ID.decode(text).id
    except _UNREADABLE:
        return ""
    return found if is_key_id(found) else ""
