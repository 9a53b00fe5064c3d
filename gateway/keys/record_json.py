"""Records of keys as JSON: what stores keep, `keys export` writes and `keys import` reads.

Rules kept here:
- Members have the names and the order that every version has written; one that is missing has its default.
- Times are RFC 3339 as Go writes them. The first moment of the year 1 as a last use is never, and an empty
  time of a revocation is one that nobody knows.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateway.gocompat.times import ZERO, read_instant
from gateway.keys.record import Event, KeyRecord, Revocation


class EventJson(msgspec.Struct):
    """An event of a key's history."""

    at: str
    what: str
    by: str
    reason: str = ""


class RecordJson(msgspec.Struct, kw_only=True):
    """A record."""

    id: str
    digest: str
    name: str
    owner: str
    scopes: tuple[str, ...]
    expires_at: str
    created_at: str
    created_by: str
    last_used_at: str = ZERO
    revoked_at: str | None = None
    revoked_by: str = ""
    revoked_reason: str = ""
    disabled: bool = False
    replaces: str = ""
    retiring: bool = False
    prefix: str = ""
    bcrypt: str = ""
    history: tuple[EventJson, ...] = ()


_DECODER: Final = msgspec.json.Decoder(RecordJson)
_ENCODER: Final = msgspec.json.Encoder()


def decode_record(text: bytes) -> KeyRecord:
    """Return the record in a JSON text.

    Raises:
        ValueError: the text holds no record, or a time that is not RFC 3339 (`msgspec.DecodeError` is one).
    """
    return from_json(_DECODER.decode(text))


def encode_record(record: KeyRecord) -> bytes:
    """Return a record as a JSON text."""
    return _ENCODER.encode(to_json(record))


def from_members(members: dict[str, Any]) -> KeyRecord:
    """Return the record of the members of a JSON object.

    Raises:
        msgspec.ValidationError: a member is missing, or of another type; the text does not quote it.
        ValueError: a time is not RFC 3339; the text quotes it.
    """
    return from_json(msgspec.convert(members, RecordJson))


def to_members(record: KeyRecord) -> dict[str, Any]:
    """Return a record as the members of a JSON object."""
    members: dict[str, Any] = msgspec.to_builtins(to_json(record))
    return members


def from_json(found: RecordJson) -> KeyRecord:
    """Return the record that a JSON object holds. Raises ValueError where a time is not RFC 3339."""
    revocation = None
    if found.revoked_at is not None:
        at = read_instant(found.revoked_at) if found.revoked_at else None
        revocation = Revocation(at, found.revoked_by, found.revoked_reason)
    return KeyRecord(
        id=found.id,
        digest=found.digest,
        name=found.name,
        owner=found.owner,
        scopes=found.scopes,
        expires_at=read_instant(found.expires_at),
        created_at=read_instant(found.created_at),
        created_by=found.created_by,
        last_used_at=None if found.last_used_at == ZERO else read_instant(found.last_used_at),
        revocation=revocation,
        disabled=found.disabled,
        replaces=found.replaces,
        awaiting_core_revocation=found.retiring,
        prefix=found.prefix,
        bcrypt=found.bcrypt,
        history=tuple(
            [Event(read_instant(event.at), event.what, event.by, event.reason) for event in found.history]
        ),
    )


def to_json(record: KeyRecord) -> RecordJson:
    """Return the JSON object of a record."""
    revocation = record.revocation
    return RecordJson(
        id=record.id,
        digest=record.digest,
        name=record.name,
        owner=record.owner,
        scopes=record.scopes,
        expires_at=str(record.expires_at),
        created_at=str(record.created_at),
        created_by=record.created_by,
        last_used_at=ZERO if record.last_used_at is None else str(record.last_used_at),
        revoked_at=None if revocation is None else revocation.written_at,
        revoked_by="" if revocation is None else revocation.by,
        revoked_reason="" if revocation is None else revocation.reason,
        disabled=record.disabled,
        replaces=record.replaces,
        retiring=record.awaiting_core_revocation,
        prefix=record.prefix,
        bcrypt=record.bcrypt,
        history=tuple(
            [EventJson(str(event.at), event.what, event.by, event.reason) for event in record.history]
        ),
    )
