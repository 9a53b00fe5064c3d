"""Find the records of keys that ended long ago and can be removed, and remove them from the store.

Rules kept here:
- A key whose record was removed is refused like any unknown key. So a record is removed only once its key has
  ended for every authority.
- The records that a revocation with descendants reads are kept: that of a key while a key that it created has
  one, and that of a key which descends from another one while its successor has one.
- A record is removed only as it was exported: one that somebody changed in between is kept.
- Records are removed in batches, so that the work can be stopped and repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.keys.record import KeyRecord
from gateway.keys.store import RecordRemover

BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class Link:
    """The ties of one record to others; `ended`: its key ended long enough ago."""

    id: str
    created_by: str
    replaces: str
    ended: bool


@dataclass(frozen=True, slots=True)
class Removable:
    """The ids of the records that can be removed, and how many are kept only for their descendants."""

    ids: tuple[str, ...]
    needed: int


def link_of(record: KeyRecord, *, ended: bool) -> Link:
    """Return the ties of a record to others."""
    return Link(record.id, record.created_by, record.replaces, ended)


def removable(links: Iterable[Link]) -> Removable:
    """Return the records that can be removed; `links` are those of all records that may be tied."""
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
    """Return the ids of keys that a key created, and of their successors."""
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
    store: RecordRemover,
    ids: Sequence[str],
    ended: Callable[[Sequence[KeyRecord]], Awaitable[set[str]]],
    export: Callable[[Sequence[KeyRecord]], None],
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Remove records; return how many were removed.

    Args:
        store: where the records are.
        ids: of the records.
        ended: returns, of the records as they are now, the ids of those whose keys have ended.
        export: saves records; called before they are removed.
        progress: gets the size of each batch that is done.

    Raises:
        GatewayError: the store failed; whole batches may be removed by then.
        OSError: `export` did.
    """
    removed = 0
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        records = await store.get_many(batch)
        still = await ended(records)
        going = [record for record in records if record.id in still]
        if going:
            export(going)
            removed += len(await store.remove_all(going))
        progress(len(batch))
    return removed
