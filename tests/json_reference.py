"""JSON as Core reads it, and the stamp as it is specified, in plain Python with the module json.

It is slow and simple on purpose: tests compare `gateway.stamping.stamp` with it.
"""

from __future__ import annotations

import json
import re

STAMP_NAME = "BLNK_GENERATED_BY"
NOT_AN_OBJECT = "Request body must be one JSON object"
NOT_META_DATA = "meta_data must be a JSON object"
NOT_ITEMS = "transactions must be an array of objects"
AMBIGUOUS = "Ambiguous spelling of a reserved field"
TOO_MANY = "too many transactions; max is 10000"

Members = list[tuple[str, str]]
_BLANKS = re.compile(r"[ \t\r\n]*")


class RefusedError(Exception):
    """The reference refuses the body, with the catalogue's message."""


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _reader() -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=list, parse_int=str, parse_float=str, parse_constant=_no_constant
    )


def _skip(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return match.end() if match else at


def members(text: str) -> Members:
    """Return the members of a valid object in order: names decoded, values as they are written."""
    found: Members = []
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        name, at = _reader().raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, end = _reader().raw_decode(text, start)
        found.append((name, text[start:end]))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def elements(text: str) -> list[str]:
    """Return the elements of a valid array as they are written."""
    found = []
    at = _skip(text, 1)
    while text[at] != "]":
        _, end = _reader().raw_decode(text, at)
        found.append(text[at:end])
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def valid(body: bytes) -> str:
    """Return the body as text if it is UTF-8 and one JSON object; a lone surrogate in it is a character."""
    try:
        text = body.decode()
        if not text.strip(" \t\r\n").startswith("{"):
            raise RefusedError(NOT_AN_OBJECT)
        _reader().decode(text)
    except (ValueError, RecursionError) as error:
        raise RefusedError(NOT_AN_OBJECT) from error
    return text


def fold(name: str) -> str:
    """Return the name as foldName of encoding/json does: ASCII case, and two other runes become ASCII."""
    table = {0x17F: "s", 0x212A: "k"} | {upper: chr(upper + 32) for upper in range(65, 91)}
    return name.translate(table)


def settled(found: Members, reserved: set[str]) -> Members:
    """Return the members with only the last of each reserved name; refuse other spellings."""
    if any(fold(name) in reserved and name not in reserved for name, _ in found):
        raise RefusedError(AMBIGUOUS)
    last = {name: at for at, (name, _) in enumerate(found)}
    return [member for at, member in enumerate(found) if member[0] not in reserved or last[member[0]] == at]


def without_stamp(meta_data: str) -> Members:
    if not meta_data.startswith("{"):
        raise RefusedError(NOT_META_DATA)
    return [member for member in members(meta_data) if member[0] != STAMP_NAME]


def record(text: str, how: str, key_id: str) -> list[tuple[str, object]]:
    """Return the members of a stamped record; a meta_data that changed is a list of members itself."""
    found: list[tuple[str, object]] = list(settled(members(text), {"meta_data"}))
    names = [name for name, _ in found]
    at = names.index("meta_data") if "meta_data" in names else None
    value = found[at][1] if at is not None else None
    if how != "create" and value in (None, "null"):
        return found
    kept = [] if value in (None, "null") else without_stamp(str(value))
    stamped = kept if how == "merge" else [*kept, (STAMP_NAME, json.dumps(key_id))]
    if at is None:
        return [*found, ("meta_data", stamped)]
    found[at] = ("meta_data", stamped)
    return found


def batch(text: str, key_id: str) -> list[tuple[str, object]]:
    """Return the members of a stamped batch, with its items as lists of members."""
    found: list[tuple[str, object]] = list(settled(members(text), {"transactions", "meta_data"}))
    names = [name for name, _ in found]
    if "transactions" not in names:
        return list(members(text))
    at = names.index("transactions")
    array = str(found[at][1])
    if not array.startswith("["):
        raise RefusedError(NOT_ITEMS)
    items = elements(array)
    if len(items) > 10_000:
        raise RefusedError(TOO_MANY)
    stamped = []
    for item in items:
        if not item.startswith("{"):
            raise RefusedError(NOT_ITEMS)
        stamped.append(record(item, "create", key_id))
    found[at] = ("transactions", stamped)
    return found


def core_meta_data(found: Members) -> dict[str, str] | None:
    """Return meta_data as Core's decoder reads it: names fold, repeated objects merge, null erases."""
    merged: dict[str, str] | None = None
    for name, value in found:
        if fold(name) == "meta_data":
            merged = None if value == "null" else {**(merged or {}), **dict(members(value))}
    return merged


def core_items(text: str) -> list[dict[str, str] | None]:
    """Return meta_data of each item as Core's decoder reads it: a later list is read over an earlier one."""
    items: list[Members] = []
    for name, value in members(text):
        if fold(name) != "transactions":
            continue
        sent = elements(value)
        items = [(items[n] if n < len(items) else []) + members(item) for n, item in enumerate(sent)]
    return [core_meta_data(item) for item in items]
