"""Rotates a key: the successor, the end of the old key, and the one write that stores both.

Rules kept here:
- The end of the old key and its successor are stored in one step.
- A key is rotated once: whoever tries again is told the successor.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.cli.keys.new_key import NewKey, store_new_key
from gateway.cli.keys.operator import operator_name
from gateway.gocompat.times import Instant
from gateway.keys.new_record import Creation
from gateway.keys.record import ROTATED, Event, KeyRecord, RefusedRecordError
from gateway.keys.store import KeyChildren, RecordReviser, Revision


@dataclass(frozen=True, slots=True)
class Rotation:
    """A wish to replace a key.

    Args:
        old_ends_at: when the old key ends, if it does not end earlier anyway.
        expires_at: when the new key ends; None to give it as long a life as the old one was made to have.
        reason: kept in the old key's record.
    """

    old_ends_at: Instant
    expires_at: Instant | None
    reason: str


def successor_of(old: KeyRecord, rotation: Rotation, at: datetime) -> Creation:
    """Return the wish for the new key: the old key's name, owner, scopes and terms."""
    expires_at = rotation.expires_at
    if expires_at is None:
        lifetime = max(old.expires_at.unix - old.created_at.unix, 1)
        expires_at = Instant.after(at, timedelta(seconds=lifetime))
    return Creation(old.name, old.scopes, old.owner, expires_at, old.terms)


def end_of_old_key(rotation: Rotation, at: datetime, *, awaiting_core: bool = False) -> Revision:
    """Return the change of the old key's record; it raises RefusedRecordError for a key that is not live.

    With `awaiting_core`, Core is to revoke the old key once it has ended.
    """
    event = Event(Instant.of(at), ROTATED, operator_name(), rotation.reason)
    return lambda record: record.as_rotated(rotation.old_ends_at, event, awaiting_core=awaiting_core)


async def store_rotation(store: RecordReviser, key_id: str, end_old_key: Revision, made: NewKey) -> NewKey:
    """Store the new key and the end of the one it replaces in one step.

    Raises:
        RefusedRecordError: the old key may not be replaced, or its record is gone.
        GatewayError: the store failed, and did not store it.
    """

    async def change() -> None:
        if await store.revise(key_id, end_old_key, successor=made.record) is None:
            raise RefusedRecordError(f"{key_id} is gone from the store")

    return await store_new_key(made, change())


async def successors_of(store: KeyChildren, key_id: str) -> list[KeyRecord]:
    """Return the records of the keys that replaced this one in a rotation."""
    return [record for record in await store.children(key_id) if record.replaces == key_id]


async def refuse_second_rotation(store: KeyChildren, old: KeyRecord) -> None:
    """Raise RefusedRecordError, with the successor to rotate instead, if this key was rotated already."""
    if old.rotated and not old.revoked:
        unrevoked = [key.id for key in await successors_of(store, old.id) if not key.revoked]
        advice = (
            f"rotate {', '.join(unrevoked)}" if unrevoked else "its successor is revoked: create a new key"
        )
        raise RefusedRecordError(f"{old.id} was rotated already: {advice}")
