"""Records of keys that ended long ago: which of them can go, and their way out of the store.

Rules kept here:
- A key whose record is gone is refused like any key that nobody knows. So a record goes only once its key has
  ended for whoever may be asked about it.
- What revoking a key with its descendants walks along stays: the record of a key while that of a key which it
  created stays, and of a key that descends from another one while that of its successor stays.
- A record goes only as it was exported: one that somebody changed in between stays.
- Batch by batch, so that it can be broken off, and done again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore

BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class Link:
    """What ties one record to others; `ended`: its key has been dead for long enough."""

    id: str
    created_by: str
    replaces: str
    ended: bool


@dataclass(frozen=True, slots=True)
class Removable:
    """The ids of the records that can go, and how many stay only for those that descend from them."""

    ids: tuple[str, ...]
    needed: int


def link_of(record: KeyRecord, *, ended: bool) -> Link:
    """What ties a record to others."""
    return Link(record.id, record.created_by, record.replaces, ended)


def removable(links: Iterable[Link]) -> Removable:
    """Which records can go; `links` are those of all records that may be tied to each other."""
    by_id = {link.id: link for link in links}
    descends = _descending(by_id)
    ended = {link.id: None for link in by_id.values() if link.ended}
    going = dict(ended)
    staying = [link for link in by_id.values() if not link.ended]
    while staying:
        child = staying.pop()
        parents = [child.created_by, child.replaces if child.replaces in descends else ""]
        for parent in parents:
            if parent in going:
                del going[parent]
                staying.append(by_id[parent])
    return Removable(tuple(going), len(ended) - len(going))


def _descending(by_id: Mapping[str, Link]) -> set[str]:
    """The ids of keys that a key created, and of what those were rotated into."""
    successors: dict[str, list[str]] = {}
    for link in by_id.values():
        successors.setdefault(link.replaces, []).append(link.id)
    found: set[str] = set()
    unread = [link.id for link in by_id.values() if link.created_by in by_id]
    while unread:
        key_id = unread.pop()
        if key_id not in found:
            found.add(key_id)
            unread += successors.get(key_id, ())
    return found


async def remove(
    store: KeyStore,
    ids: Sequence[str],
    ended: Callable[[Sequence[KeyRecord]], Awaitable[set[str]]],
    export: Callable[[Sequence[KeyRecord]], None],
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Remove records; returns how many went.

    Args:
        store: where they are.
        ids: of the records.
        ended: tells of records, as they are now, the ids of those whose keys have ended.
        export: keeps records for good; called before they are removed.
        progress: told how many were dealt with, batch by batch.

    Raises:
        GatewayError: the store failed; whole batches may be removed by then.
        OSError: `export` did.
    """
    removed = 0
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        records = await store.get_all(batch)
        still = await ended(records)
        going = [record for record in records if record.id in still]
        if going:
            export(going)
            removed += len(await store.remove_all(going))
        progress(len(batch))
    return removed
