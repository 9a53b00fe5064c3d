"""What is written to Redis with a record, and removed with it: its indexes, and its entry in the stream.

Rules kept here:
- Everything is queued on the pipeline of one transaction; nothing is read, and nothing sent.
- One MSET, and each index once: an import writes 100,000 records.
- The stream tells of a removal too, so that a cache which still holds the key forgets it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from gateway.keys.minting import is_key_id
from gateway.keys.record import KeyRecord
from gateway.keys.redis import names as names

_REVOKED: Final = b"1"
NEWLY_REVOKED: Final = b"2"
"""In an entry of the stream: revoked by this very change, not one that an import brings or that settles."""


def queue_records(pipe: Any, records: Sequence[KeyRecord], live: Collection[str], changes_kept: int) -> None:
    """Queue records to be written; `live` holds the ids of those that were not revoked before.

    `changes_kept` is about how many entries the stream keeps.
    """
    texts: dict[str | bytes, str | bytes] = {}
    sorted_by: defaultdict[bytes, dict[str, float]] = defaultdict(dict)
    listed: defaultdict[str | bytes, list[str]] = defaultdict(list)
    for record in records:
        texts[names.key_name(record.digest)] = msgspec.json.encode(record)
        texts[names.id_name(record.id)] = record.digest
        sorted_by[names.owner_name(record.owner)][record.digest] = round(record.created.unix * 1e6)
        sorted_by[names.ends_name(record.owner)][record.digest] = record.ends
        for index in _lists_of(record):
            listed[index].append(record.id)
        if record.retiring:
            pipe.zadd(names.RETIRING, {record.id: record.ends})
    if ended := [record.id for record in records if record.revoked and not record.retiring]:
        pipe.zrem(names.RETIRING, *ended)
    pipe.mset(texts)
    for name, scores in sorted_by.items():
        pipe.zadd(name, scores)
    for index, ids in listed.items():
        pipe.sadd(index, *ids)
    for record in records:
        _tell(pipe, record, NEWLY_REVOKED if record.id in live else _REVOKED, changes_kept)


def queue_move(pipe: Any, pending: KeyRecord) -> None:
    """Queue that a pending record goes, in whose place one under the digest of its key is written."""
    pipe.delete(names.key_name(pending.digest))
    pipe.zrem(names.owner_name(pending.owner), pending.digest)
    pipe.zrem(names.ends_name(pending.owner), pending.digest)


def queue_removal(pipe: Any, records: Sequence[KeyRecord], changes_kept: int) -> None:
    """Queue that records go, with all that leads to them. What a key created stays listed under its id."""
    sorted_by: defaultdict[bytes, list[str]] = defaultdict(list)
    listed: defaultdict[str | bytes, list[str]] = defaultdict(list)
    for record in records:
        for name in (names.owner_name(record.owner), names.ends_name(record.owner)):
            sorted_by[name].append(record.digest)
        for index in _lists_of(record):
            listed[index].append(record.id)
        _tell(pipe, record, _REVOKED, changes_kept)
    pipe.delete(*(names.key_name(record.digest) for record in records))
    pipe.delete(*(names.id_name(record.id) for record in records))
    pipe.zrem(names.LAST_USED, *(record.id for record in records))
    pipe.zrem(names.RETIRING, *(record.id for record in records))
    for name, digests in sorted_by.items():
        pipe.zrem(name, *digests)
    for index, ids in listed.items():
        pipe.srem(index, *ids)


def _lists_of(record: KeyRecord) -> list[str | bytes]:
    """The sets that a record's id is in."""
    parents = filter(is_key_id, (record.created_by, record.replaces))
    found: list[str | bytes] = [names.offspring_name(parent) for parent in parents]
    return [*found, names.prefix_name(record.prefix)] if record.prefix else found


def _tell(pipe: Any, record: KeyRecord, revoked: bytes, changes_kept: int) -> None:
    """Queue an entry in the stream; `revoked` is what it says of a record that is."""
    fields = {"digest": record.digest, "id": record.id, "revoked": revoked if record.revoked else b"0"}
    pipe.xadd(names.CHANGES, fields, maxlen=changes_kept, approximate=True)
