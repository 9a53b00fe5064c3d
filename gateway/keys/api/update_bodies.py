"""Reads the body of `PATCH /api-keys/{id}`, which Core does not have.

Rules kept here:
- Members bind by exact name, and an unknown one is refused: a misspelled `expires_at` must not leave a key
  as it was behind a 200. No text of the body is repeated.
- Of a repeated member the last counts, and nothing may follow the object, as for POST.
- null removes a term. Name, scopes and expiry cannot be removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.errors import Code
from gateway.gocompat.json_errors import syntax_fault
from gateway.gocompat.times import Instant, read_instant
from gateway.keys.key_update import KeyUpdate
from gateway.keys.quota import MAX_TEXT
from gateway.policy.term_changes import TermChanges
from gateway.policy.terms import (
    MOST,
    NO_TERMS,
    KeyTerms,
    read_certificate,
    read_networks,
    read_rate,
)
from gateway.policy.values import Deny

_NO_CHANGE: Final = "name a member to change"


@dataclass(frozen=True, slots=True)
class RequestedUpdate:
    """An update that a body asks for, and its reason, kept in the record."""

    update: KeyUpdate
    reason: str


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(f"write a string of at most {MAX_TEXT} characters")
    return value


def _name(value: object) -> str:
    if not (text := _text(value)):
        raise ValueError("write at least one character")
    return text


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("write a list of strings")
    return tuple(value)


def _instant(value: object) -> Instant:
    try:
        instant = read_instant(_text(value))
    except ValueError:
        raise ValueError("write a time in RFC 3339, as 2027-01-31T00:00:00Z") from None
    if not instant.listable:
        raise ValueError("write a time before the year 10000 in UTC")
    return instant


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MOST:
        raise ValueError(f"write a whole number from 1 to {MOST}, or null")
    return value


_PROPERTIES: Final[dict[str, Callable[[object], object]]] = {
    "name": _name,
    "scopes": _texts,
    "expires_at": _instant,
}
_TERMS: Final[dict[str, Callable[[object], object]]] = {
    "rate": lambda value: read_rate(_text(value)),
    "burst": _count,
    "concurrency": _count,
    "allow_from": lambda value: read_networks(_texts(value)),
    "certificate": lambda value: read_certificate(_text(value)),
}
_REASON: Final = "reason"
_KNOWN: Final = (*_PROPERTIES, *_TERMS, _REASON)

_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])


def read_update(body: bytes) -> RequestedUpdate | Deny:
    """Return the update that a body asks for, or 400 GEN_MALFORMED_REQUEST with what to write instead."""
    try:
        body.decode()
        members = _OBJECT.decode(body)
    except msgspec.ValidationError:
        return _malformed(Code.MALFORMED_BODY.message)
    except (UnicodeDecodeError, RecursionError, msgspec.DecodeError):
        return _malformed(syntax_fault(body) or Code.MALFORMED_BODY.message)
    if not members.keys() <= set(_KNOWN):
        return _malformed(f"a member is not one of {', '.join(_KNOWN)}")
    faults: list[str] = []
    properties = _read(members, _PROPERTIES, faults)
    terms = _read(members, _TERMS, faults, removed=NO_TERMS)
    reason = _read(members, {_REASON: _text}, faults)
    if not faults and not properties and not terms:
        faults.append(_NO_CHANGE)
    if faults:
        return _malformed("\n".join(faults))
    update = KeyUpdate(**properties, terms=TermChanges(KeyTerms(**terms), frozenset(terms)))
    return RequestedUpdate(update, reason.get(_REASON, ""))


def _read(
    members: dict[str, Any],
    readers: dict[str, Callable[[object], object]],
    faults: list[str],
    *,
    removed: KeyTerms | None = None,
) -> dict[str, Any]:
    """Return the values of the members that are sent; with `removed`, null is the value that it has there."""
    values: dict[str, Any] = {}
    for name in filter(members.__contains__, readers):
        if members[name] is None and removed is not None:
            values[name] = getattr(removed, name)
            continue
        try:
            values[name] = readers[name](members[name])
        except ValueError as error:
            faults.append(f"{name}: {error}")
    return values


def _malformed(message: str) -> Deny:
    return Deny(Code.MALFORMED_BODY, message)
