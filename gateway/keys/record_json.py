"""Records of keys as JSON: what stores keep, `keys export` writes and `keys import` reads.

Rules kept here:
- Members have the names and the order that every version has written; one that is missing has its default.
- Times are RFC 3339 as Go writes them. The first moment of the year 1 as a last use is never, and an empty
  time of a revocation is one that nobody knows.
- A term that is not known makes the record unreadable: if it were skipped, the key would not be bound by it.
- A record without terms is written without their members, and an event without changes without those, as
  every version before them wrote it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateway.gocompat.times import ZERO, read_instant
from gateway.keys.record import Change, Event, KeyRecord, Revocation
from gateway.policy.terms import (
    NO_TERMS,
    KeyTerms,
    checked_count,
    read_certificate,
    read_network,
    read_rate,
)


class TermsError(ValueError):
    """A term cannot be read; the text says what to write, and quotes nothing."""


class ChangeJson(msgspec.Struct):
    """A change of one member."""

    member: str
    before: str
    after: str


class EventJson(msgspec.Struct):
    """An event of a key's history."""

    at: str
    what: str
    by: str
    reason: str = ""
    changes: tuple[ChangeJson, ...] | msgspec.UnsetType = msgspec.UNSET


class TermsJson(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The terms of a key. One that is not known could bound the key, so it is never skipped."""

    rate: str = ""
    burst: int = 0
    concurrency: int = 0
    allow_from: tuple[str, ...] = ()
    certificate: str = ""
    shared_with: str = ""


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
    terms: TermsJson | msgspec.UnsetType = msgspec.UNSET


_DECODER: Final = msgspec.json.Decoder(RecordJson)
_ENCODER: Final = msgspec.json.Encoder()


def decode_record(text: bytes) -> KeyRecord:
    """Return the record in a JSON text.

    Raises:
        ValueError: the text holds no record, a time that is not RFC 3339, or a term that is none
            (`msgspec.DecodeError` is one).
    """
    return from_json(_DECODER.decode(text))


def encode_record(record: KeyRecord) -> bytes:
    """Return a record as a JSON text."""
    return _ENCODER.encode(to_json(record))


def from_members(members: dict[str, Any]) -> KeyRecord:
    """Return the record of the members of a JSON object.

    Raises:
        msgspec.ValidationError: a member is missing, or of another type; the text does not quote it.
        TermsError: a term cannot be read.
        ValueError: a time is not RFC 3339, and the text quotes it.
    """
    return from_json(msgspec.convert(members, RecordJson))


def to_members(record: KeyRecord) -> dict[str, Any]:
    """Return a record as the members of a JSON object."""
    members: dict[str, Any] = msgspec.to_builtins(to_json(record))
    return members


def from_json(found: RecordJson) -> KeyRecord:
    """Return the record that a JSON object holds. Raises ValueError as `decode_record` does."""
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
        history=tuple([_event(event) for event in found.history]),
        terms=_terms(found.terms),
    )


def _event(found: EventJson) -> Event:
    changes = () if found.changes is msgspec.UNSET else found.changes
    return Event(
        read_instant(found.at),
        found.what,
        found.by,
        found.reason,
        tuple([Change(change.member, change.before, change.after) for change in changes]),
    )


def _event_json(event: Event) -> EventJson:
    changes = tuple([ChangeJson(change.member, change.before, change.after) for change in event.changes])
    return EventJson(str(event.at), event.what, event.by, event.reason, changes or msgspec.UNSET)


def _terms(found: TermsJson | msgspec.UnsetType) -> KeyTerms:
    if found is msgspec.UNSET:
        return NO_TERMS
    try:
        terms = KeyTerms(
            rate=read_rate(found.rate) if found.rate else None,
            burst=checked_count(found.burst),
            concurrency=checked_count(found.concurrency),
            allow_from=tuple(map(read_network, found.allow_from)),
            certificate=read_certificate(found.certificate) if found.certificate else "",
            shared_with=found.shared_with,
        )
    except ValueError as error:
        raise TermsError(str(error)) from None
    return NO_TERMS if terms == NO_TERMS else terms


def _terms_json(terms: KeyTerms) -> TermsJson | msgspec.UnsetType:
    if terms == NO_TERMS:
        return msgspec.UNSET
    return TermsJson(
        rate="" if terms.rate is None else str(terms.rate),
        burst=terms.burst,
        concurrency=terms.concurrency,
        allow_from=tuple(map(str, terms.allow_from)),
        certificate=terms.certificate,
        shared_with=terms.shared_with,
    )


def terms_members(terms: KeyTerms) -> dict[str, Any]:
    """Return those terms that bound something, as the members of a JSON object."""
    members: dict[str, Any] = msgspec.to_builtins(_terms_json(terms))
    return members


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
        history=tuple([_event_json(event) for event in record.history]),
        terms=_terms_json(record.terms),
    )
