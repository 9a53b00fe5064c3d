"""The audit entry of a change to the record of a key: what it was, what it is, and who made the change.

Rules kept here:
- An entry has the members that differ, and none that reveals something about the key. They are compared
  whole, and shortened then; a list that is too long begins with the items that the other one does not have.
- The last use of a key is no change of it.
- The history of a record is not repeated: its new event is the kind and the reason of the entry.
"""

from __future__ import annotations

from typing import Final

from gateway.audit.author import Author
from gateway.audit.entry import AuditEntry, Kind, shortened, shortened_text
from gateway.keys.key_update import differing_first
from gateway.keys.record import Event, KeyRecord, without_use
from gateway.keys.record_json import to_members

_LEFT_OUT: Final = frozenset({"id", "digest", "prefix", "bcrypt", "history", "last_used_at"})
_KIND_OF_EVENT: Final = {
    "rotated": Kind.KEY_ROTATED,
    "disabled": Kind.KEY_DISABLED,
    "enabled": Kind.KEY_ENABLED,
}


def entry_of(before: KeyRecord | None, after: KeyRecord | None, author: Author) -> AuditEntry | None:
    """Return the entry of a change; None if nothing has changed.

    Args:
        before: the record before the change; None for a new key.
        after: the record after it; None if it was removed.
        author: who makes the change.
    """
    record = after or before
    if record is None or _unused(before) == _unused(after):
        return None
    was, is_now = _members(before), _members(after)
    return AuditEntry(
        kind=_kind(before, after),
        by=author.by,
        way=author.way,
        reason=shortened_text(_reason(before, after)),
        request_id=author.request_id,
        client=shortened_text(author.client),
        key_id=record.id,
        owner=shortened_text(record.owner),
        before=_different(was, is_now),
        after=_different(is_now, was),
    )


def _unused(record: KeyRecord | None) -> KeyRecord | None:
    return None if record is None else without_use(record)


def _kind(before: KeyRecord | None, after: KeyRecord | None) -> Kind:
    if before is None:
        return Kind.KEY_CREATED
    if after is None:
        return Kind.KEY_REMOVED
    if after.revoked and not before.revoked:
        return Kind.KEY_REVOKED
    event = _new_event(before, after)
    if event is not None:
        return _KIND_OF_EVENT.get(event.what, Kind.KEY_UPDATED)
    return Kind.KEY_UPDATED if _members(before) != _members(after) else Kind.KEY_BOUND


def _reason(before: KeyRecord | None, after: KeyRecord | None) -> str:
    """Return the reason that the change has added to the record."""
    if after is None:
        return ""
    if after.revocation is not None and (before is None or not before.revoked):
        return after.revocation.reason
    event = _new_event(before, after)
    return "" if event is None else event.reason


def _new_event(before: KeyRecord | None, after: KeyRecord) -> Event | None:
    """Return the event that the change has added to the history, whose oldest ones may be gone meanwhile."""
    if not after.history:
        return None
    known = before.history[-1:] if before is not None else ()
    return None if known == after.history[-1:] else after.history[-1]


def _members(record: KeyRecord | None) -> dict[str, object]:
    """Return the members of a record that an entry may have; none without a record."""
    if record is None:
        return {}
    members = to_members(record)
    # What is not set is left out, as false and an empty text are what a record without the member means.
    return {name: value for name, value in members.items() if value and name not in _LEFT_OUT}


def _different(members: dict[str, object], others: dict[str, object]) -> dict[str, object]:
    """Return the members that the others do not have, or have with another value, each shortened."""
    return {
        name: shortened(_differing_first(value, others.get(name)))
        for name, value in members.items()
        if others.get(name) != value
    }


def _differing_first(value: object, other: object) -> object:
    """Return a value whose long lists begin with what the other one does not have."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {name: _differing_first(item, other.get(name)) for name, item in value.items()}
    if not isinstance(value, list | tuple) or not isinstance(other, list | tuple):
        return value
    whole = shortened(value) == list(value) and shortened(other) == list(other)
    return value if whole else differing_first(value, other)
