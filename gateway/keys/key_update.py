"""Changes a key that exists: its name, its scopes, its end and its terms.

Rules kept here:
- A key that was revoked or has expired is not changed: its clients were told that it ended, and a key that
  lives again would surprise whoever relies on that.
- No end is moved into the past, for a revocation says who ended a key and why. The end of a rotated key is
  not moved beyond its overlap, for its successor has taken its place.
- Each change adds an event with the values before and after. An update that changes nothing adds none. A
  list that is too long for it begins with the items that differ.
- A record keeps the latest MAX_UPDATES of these events, so that it stays bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.gocompat.times import Instant
from gateway.keys.quota import text_faults
from gateway.keys.record import UPDATED, Change, Event, KeyRecord, RefusedRecordError
from gateway.policy.principals import KeyState
from gateway.policy.term_changes import NO_CHANGES, TermChanges
from gateway.policy.terms import KeyTerms

MAX_UPDATES: Final = 32
"""The most events of updates in one record."""
_MAX_SHOWN: Final = 256
"""Characters of a value in an event."""
_NEVER_AGAIN: Final = "create a new key"


@dataclass(frozen=True, slots=True)
class KeyUpdate:
    """What is to be changed of a key; None for what stays."""

    name: str | None = None
    scopes: tuple[str, ...] | None = None
    expires_at: Instant | None = None
    terms: TermChanges = NO_CHANGES

    @property
    def empty(self) -> bool:
        """True if it changes nothing of any key."""
        return self == KeyUpdate()

    @property
    def terms_only(self) -> bool:
        """True if it changes nothing that Core's table has of a key."""
        return self.name is None and self.scopes is None and self.expires_at is None


def updated(record: KeyRecord, update: KeyUpdate, event: Event) -> KeyRecord:
    """Return the record after an update, with the event, which gets the changes; itself if nothing changes.

    Raises:
        RefusedRecordError: the key has ended, the new end is not possible, a burst has no rate, or the texts
            are too long.
    """
    state = record.state(event.at.unix)
    if state in (KeyState.REVOKED, KeyState.EXPIRED):
        raise RefusedRecordError(f"{record.id} is {state.value}, and stays so: {_NEVER_AGAIN}")
    changed = replace(
        record,
        name=record.name if update.name is None else update.name,
        scopes=record.scopes if update.scopes is None else update.scopes,
        expires_at=_new_end(record, update.expires_at, event.at),
        terms=_new_terms(record, update.terms),
    )
    if too_long := text_faults(changed.name, changed.owner, changed.scopes):
        raise RefusedRecordError("; ".join(too_long))
    changes = tuple(_changes(record, changed))
    if not changes:
        return record
    return replace(changed, history=_bounded((*record.history, replace(event, changes=changes))))


def _new_end(record: KeyRecord, wanted: Instant | None, at: Instant) -> Instant:
    if wanted is None:
        return record.expires_at
    if wanted.unix <= at.unix:
        raise RefusedRecordError("the new expiry is in the past: revoke the key instead")
    if record.rotated and wanted.unix > record.expires_at.unix:
        raise RefusedRecordError(f"{record.id} was rotated: its overlap is not extended, use its successor")
    return wanted


def _new_terms(record: KeyRecord, changes: TermChanges) -> KeyTerms:
    try:
        return changes.applied_to(record.terms)
    except ValueError as error:
        raise RefusedRecordError(str(error)) from None


def _changes(before: KeyRecord, after: KeyRecord) -> Iterator[Change]:
    old, new = _values(before), _values(after)
    for member, value in old.items():
        if value != new[member]:
            yield Change(member, *_shown(value, new[member]))


def _values(record: KeyRecord) -> dict[str, tuple[str, ...]]:
    """Return the values that an update can change, as texts; empty for a term that bounds nothing."""
    terms = record.terms
    return {
        "name": (record.name,),
        "scopes": record.scopes,
        "expires_at": (str(record.expires_at),),
        "rate": ("" if terms.rate is None else str(terms.rate),),
        "burst": (str(terms.burst or ""),),
        "concurrency": (str(terms.concurrency or ""),),
        "allow_from": tuple(map(str, terms.allow_from)),
        "certificate": (terms.certificate,),
    }


def _shown(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, str]:
    """Return both values as an event has them."""
    whole = ",".join(old), ",".join(new)
    if max(map(len, whole)) <= _MAX_SHOWN:
        return whole
    return _cut(",".join(differing_first(old, new))), _cut(",".join(differing_first(new, old)))


def differing_first(items: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the items in their order, but first those that are not among the others."""
    known = frozenset(others)
    return sorted(items, key=known.__contains__)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def _bounded(history: tuple[Event, ...]) -> tuple[Event, ...]:
    """Return the history without the oldest updates beyond MAX_UPDATES."""
    surplus = sum(event.what == UPDATED for event in history) - MAX_UPDATES
    if surplus <= 0:
        return history
    oldest = [event for event in history if event.what == UPDATED][:surplus]
    return tuple(event for event in history if not any(event is old for old in oldest))
