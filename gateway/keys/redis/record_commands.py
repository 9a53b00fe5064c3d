"""Make the commands that write records and remove them, with their indexes and entries in the stream.

Rules kept here:
- Commands only: nothing is read here, and nothing sent.
- Indexes come first, then the stream, and the record last: if a command is refused, those before it have left
  nothing but index entries, which are not believed without a record and are taken back if the record is new,
  and entries of the stream, which make caches read the record again.
- What takes memory comes first when records are written, so that a full Redis refuses the change as a whole.
  A removal begins with what frees memory, so that a full Redis can be pruned.
- Each index is one command for many records: an import writes 100,000.
- A removal is in the stream, too, so that a cache which still holds the key forgets it.
- The audit entry of a change is written with it, before the record: no change is without one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from gateway.audit.author import Author
from gateway.audit.entry import AuditEntry
from gateway.keys.audit import entry_of
from gateway.keys.minting import is_key_id
from gateway.keys.record import KeyRecord
from gateway.keys.record_json import encode_record
from gateway.keys.redis import names as names
from gateway.keys.redis.audit_commands import append_entries
from gateway.keys.redis.change_feed import change_entry
from gateway.keys.redis.script import Command, Word

_WORDS: Final = 2000
"""How many words one command has at most. Lua takes fewer than 8,000 on its stack."""


class RecordCommands:
    """Makes the commands.

    Args:
        changes_kept: about how many entries the stream of changes keeps.
        audit_kept: returns about how many entries the audit stream keeps, None to trim none.
        author: who makes the changes.
    """

    def __init__(self, changes_kept: int, audit_kept: Callable[[], int | None], author: Author) -> None:
        self._changes_kept = changes_kept
        self._audit_kept = audit_kept
        self._author = author

    def acting_as(self, author: Author) -> RecordCommands:
        """Return what makes the same commands for changes of another author."""
        return RecordCommands(self._changes_kept, self._audit_kept, author)

    def write(self, records: Sequence[KeyRecord], before: Mapping[str, KeyRecord]) -> list[Command]:
        """Return what writes records, and what undoes the index entries of new ones.

        Args:
            records: the records.
            before: those that are stored already, by id.
        """
        entries = {record.id: entry_of(before.get(record.id), record, self._author) for record in records}
        scores: defaultdict[bytes, list[Word]] = defaultdict(list)
        members: defaultdict[bytes, list[Word]] = defaultdict(list)
        for record in records:
            scores[names.owner_name(record.owner)] += (round(record.created_at.unix * 1e6), record.digest)
            scores[names.ends_name(record.owner)] += (record.ends, record.digest)
            if record.awaiting_core_revocation:
                scores[names.RETIRING] += (record.ends, record.id)
            for index in _sets_of(record):
                members[index].append(record.id)
        revoked_in_core: list[Word] = [
            record.id for record in records if record.revoked and not record.awaiting_core_revocation
        ]
        return [
            *_each("ZADD", scores),
            *_each("SADD", members),
            *_each("ZREM", {names.RETIRING: revoked_in_core}),
            *(
                change_entry(
                    record, self._changes_kept, entries[record.id], newly=_is_newly_revoked(record, before)
                )
                for record in records
            ),
            *self._audit(entries.values()),
            *(Command("SET", names.id_name(record.id), (record.digest,)) for record in records),
            *(Command("SET", names.key_name(record.digest), (encode_record(record),)) for record in records),
            *(
                replace(command, undoes=True)
                for command in _remove_from_indexes([record for record in records if record.id not in before])
            ),
        ]

    def replace(self, pending: KeyRecord, written: Sequence[Command]) -> list[Command]:
        """Return what `written` is, and removes the pending record that it replaces."""
        return [
            *written,
            Command("ZREM", names.owner_name(pending.owner), (pending.digest,)),
            Command("ZREM", names.ends_name(pending.owner), (pending.digest,)),
            Command("DEL", names.key_name(pending.digest)),
        ]

    def remove(self, records: Sequence[KeyRecord]) -> list[Command]:
        """Return what removes records. What a key created stays listed under its id."""
        entries = {record.id: entry_of(record, None, self._author) for record in records}
        return [
            *_remove_from_indexes(records),
            *(
                change_entry(record, self._changes_kept, entries[record.id], newly=False)
                for record in records
            ),
            *self._audit(entries.values()),
            *(Command("DEL", names.id_name(record.id)) for record in records),
            *(Command("DEL", names.key_name(record.digest)) for record in records),
        ]

    def _audit(self, entries: Iterable[AuditEntry | None]) -> list[Command]:
        return append_entries([entry for entry in entries if entry is not None], self._audit_kept())


def _is_newly_revoked(record: KeyRecord, before: Mapping[str, KeyRecord]) -> bool:
    """Return whether the write revokes a key that was stored as not revoked."""
    return record.id in before and record.revoked and not before[record.id].revoked


def _remove_from_indexes(records: Sequence[KeyRecord]) -> Iterator[Command]:
    scored: defaultdict[bytes, list[Word]] = defaultdict(list)
    members: defaultdict[bytes, list[Word]] = defaultdict(list)
    for record in records:
        for name in (names.owner_name(record.owner), names.ends_name(record.owner)):
            scored[name].append(record.digest)
        for name in (names.LAST_USED, names.RETIRING):
            scored[name].append(record.id)
        for index in _sets_of(record):
            members[index].append(record.id)
    yield from _each("ZREM", scored)
    yield from _each("SREM", members)


def _each(keyword: str, words: Mapping[bytes, list[Word]]) -> Iterator[Command]:
    """Yield commands of one kind, for each name as many as its words need."""
    for name, all_words in words.items():
        for start in range(0, len(all_words), _WORDS):
            yield Command(keyword, name, tuple(all_words[start : start + _WORDS]))


def _sets_of(record: KeyRecord) -> Iterable[bytes]:
    """Return the names of the sets that a record's id is in."""
    parents = filter(is_key_id, (record.created_by, record.replaces))
    found: list[bytes] = [names.children_name(parent) for parent in parents]
    return [*found, names.prefix_name(record.prefix)] if record.prefix else found
