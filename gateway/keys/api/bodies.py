"""Read and write the JSON of `/api-keys` as Core does with Go's `encoding/json` and gin.

Rules kept here:
- Faults are reported in Core's order: the JSON itself, a bad `expires_at`, the first member of a wrong
  type, then every missing member in the order of Core's struct; texts are Core's (recorded from a live
  Core).
- Texts and the number of scopes are bounded (`quota`), which they are not in Core, so that a list is
  bounded.
- Members bind by exact name: Go folds case and takes the last, so `Owner` would override the `owner` that
  was checked. Of a repeated member the last counts. Nothing may follow the object.
- `is_disabled` and `terms` are the gateway's own members, sent only for a key that is disabled, or has terms.
- Strings are written as Go escapes them, `<`, `>`, `&`, U+2028 and U+2029 included; no newline at the end.
- A list is written a slice at a time, so that an owner with 30,000 keys delays no other request.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from gateway.errors import Code, go_json
from gateway.gocompat.json_errors import syntax_fault
from gateway.gocompat.times import ZERO, Instant, read_instant
from gateway.keys.new_record import Creation
from gateway.keys.quota import text_faults
from gateway.keys.record import KeyRecord
from gateway.keys.record_json import terms_members
from gateway.policy.terms import NO_TERMS
from gateway.policy.values import Deny

Item = TypeVar("Item")

_TYPE: Final = "CreateAPIKeyRequest"
# About 1 ms of work, and 5 ms of the largest keys that a client can make.
_SLICE: Final = 100
_MEMBERS: Final = {"name": "Name", "scopes": "Scopes", "owner": "Owner", "expires_at": "ExpiresAt"}

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_TEXTS: Final = msgspec.json.Decoder(list[str | None])
_STRING: Final = msgspec.json.Decoder(str)
_ANY: Final = msgspec.json.Decoder(msgspec.Raw)

_KINDS: Final = {b'"': "string", b"[": "array", b"{": "object", b"t": "bool", b"f": "bool", b"n": "null"}


class _MistypedError(ValueError):
    """A member is of another type than Core's struct."""


def read_creation(body: bytes) -> Creation | Deny:
    """Return the request to create a key, or 400 GEN_MALFORMED_REQUEST with Core's text."""
    try:
        # msgspec does not look into the strings of members that it leaves raw.
        body.decode()
        members = _read_members(body)
        values = {name: _READERS[name](members[name]) for name in _reading_order(members)}
    except (UnicodeDecodeError, RecursionError, msgspec.DecodeError):
        return _malformed(syntax_fault(body) or Code.MALFORMED_BODY.message)
    except ValueError as error:
        return _malformed(str(error))
    return _bind(values)


def _read_members(body: bytes) -> dict[str, bytes]:
    """Return the known members of the body, each as it is written; null is an object without any."""
    kind = _kind(_ANY.decode(body))
    if kind == "null":
        return {}
    if kind != "object":
        raise _MistypedError(f"json: cannot unmarshal {kind} into Go value of type model.{_TYPE}")
    raw = _OBJECT.decode(body)
    return {name: bytes(raw[name]) for name in raw if name in _MEMBERS}


def _reading_order(members: dict[str, bytes]) -> list[str]:
    """Return the body's order, but `expires_at` first: Go stops there, and reports other types at the end."""
    return sorted(members, key=lambda name: name != "expires_at")


def _read_text(member: str, raw: bytes) -> str:
    if (kind := _kind(raw)) not in ("string", "null"):
        raise _mistyped(member, kind, "string")
    return "" if kind == "null" else _STRING.decode(raw)


def _read_scopes(raw: bytes) -> tuple[str, ...] | None:
    if (kind := _kind(raw)) not in ("array", "null"):
        raise _mistyped("scopes", kind, "[]string")
    if kind == "null":
        return None
    try:
        # All at once, for there may be 20,000 of them; one by one only where one of them is no text.
        return tuple(text or "" for text in _TEXTS.decode(raw))
    except msgspec.ValidationError:
        return tuple(_read_text("scopes", bytes(item)) for item in _LIST.decode(raw))


def _read_expiry(raw: bytes) -> Instant | None:
    if (kind := _kind(raw)) not in ("string", "null"):
        raise _MistypedError("Time.UnmarshalJSON: input is not a JSON string")
    return None if kind == "null" else read_instant(_STRING.decode(raw))


_READERS: Final[dict[str, Callable[[bytes], object]]] = {
    "name": functools.partial(_read_text, "name"),
    "scopes": _read_scopes,
    "owner": functools.partial(_read_text, "owner"),
    "expires_at": _read_expiry,
}


def _kind(raw: bytes | msgspec.Raw) -> str:
    """Go's name for the type of a well-formed JSON value without blanks around it."""
    return _KINDS.get(bytes(raw)[:1], "number")


def _mistyped(member: str, kind: str, wanted: str) -> _MistypedError:
    return _MistypedError(
        f"json: cannot unmarshal {kind} into Go struct field {_TYPE}.{member} of type {wanted}"
    )


def _bind(values: dict[str, object]) -> Creation | Deny:
    match values:
        case {
            "name": str(name),
            "scopes": tuple(scopes),
            "owner": str(owner),
            "expires_at": Instant() as expires_at,
        } if name and owner and str(expires_at) != ZERO:
            creation = Creation(name, scopes, owner, expires_at)
            too_long = "\n".join(text_faults(name, owner, tuple(scopes)))
            return _malformed(too_long) if too_long else creation
        case _:
            missing = (field for name, field in _MEMBERS.items() if _is_missing(values.get(name)))
            return _malformed("\n".join(map(_required, missing)))


def _is_missing(value: object) -> bool:
    """Return whether gin's `required` takes it for missing: a zero value, but not an empty list."""
    return value is None or value == "" or (isinstance(value, Instant) and str(value) == ZERO)


def _required(field: str) -> str:
    return f"Key: '{_TYPE}.{field}' Error:Field validation for '{field}' failed on the 'required' tag"


def _malformed(message: str) -> Deny:
    return Deny(Code.MALFORMED_BODY, message)


def write_created(record: KeyRecord, key: str) -> bytes:
    """Return the body of 201, the only response that shows the key; times as they were sent."""
    return go_json(_members(record, key, record.expires_at, record.created_at))


def write_updated(record: KeyRecord) -> bytes:
    """Return the body of the 200 of an update: the key as in a list."""
    return go_json(_listed(record))


async def write_list(records: Sequence[KeyRecord]) -> bytes:
    """Return the body of a list, `null` if empty; never a key or a hash, times as PostgreSQL returns them."""
    return await write_slices(records, _listed)


async def write_slices(items: Sequence[Item], members: Callable[[Item], object]) -> bytes:
    """Return a list of what `members` makes of each item, `null` if empty; other tasks run in between."""
    if not items:
        return b"null"
    slices: list[bytes] = []
    for start in range(0, len(items), _SLICE):
        slices += (b",", go_json([members(item) for item in items[start : start + _SLICE]])[1:-1])
        await asyncio.sleep(0)
    # One copy: a list may have 20 MB.
    slices[0] = b"["
    return b"".join((*slices, b"]"))


def _listed(record: KeyRecord) -> dict[str, object]:
    return _members(record, "", record.expires_at.stored(), record.created_at.stored())


def _members(record: KeyRecord, key: str, expires_at: Instant, created_at: Instant) -> dict[str, object]:
    members: dict[str, object] = {
        "api_key_id": record.id,
        "key": key,
        "name": record.name,
        "owner_id": record.owner,
        "scopes": record.scopes,
        "expires_at": str(expires_at),
        "created_at": str(created_at),
        "last_used_at": ZERO if record.last_used_at is None else str(record.last_used_at),
        "is_revoked": record.revoked,
    }
    if record.revocation is not None:
        members["revoked_at"] = record.revocation.written_at
    if record.disabled:
        members["is_disabled"] = True
    if record.terms != NO_TERMS:
        members["terms"] = terms_members(record.terms)
    return members
