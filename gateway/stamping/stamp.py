r"""Stamps a JSON body: writes the caller's key id into it and leaves every other byte as it was received.

Rules kept here:
- A stamped body is valid UTF-8 and exactly one JSON object (RFC 8259), with nothing but blanks around it.
- A body is read by place and edited by place: bytes that no edit touches are sent as they were received.
- Go reads a lone surrogate (`"\ud83d"`) as U+FFFD, so it is allowed; what is parsed is `json_text.readable`.
- A body that takes more than CHEAP_SECONDS to stamp is stamped in steps of 2 ms at most. Most records take
  far less than that, because their names need no look.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

import msgspec

from gateway.policy.routes import Stamp
from gateway.stamping import json_text
from gateway.stamping.batches import edit_batch, edit_batch_in_steps
from gateway.stamping.edits import Edit, pieces_in_steps, pieces_of
from gateway.stamping.errors import BadBodyError, StampedTooLargeError
from gateway.stamping.json_text import Span
from gateway.stamping.records import edit_plain_record, edit_record, edit_record_in_steps
from gateway.stamping.reserved_names import STAMP

CHEAP_SECONDS: Final = 200e-6
"""A body that is estimated to take no longer is stamped at once; a small request costs as much anyway."""

# Upper estimates, in seconds: a byte, an escape, a pair of brackets, an element of an array, a name that is
# looked at, an item that is stamped.
_BYTE: Final = 3e-9
_ESCAPE: Final = 1e-7
_PAIR: Final = 1e-7
_ELEMENT: Final = 1e-6
_NAME: Final = 1.5e-6
_ITEM: Final = 6e-6
# A record of so few bytes is cheap, whatever they are.
_SMALL: Final = 512
# Most records have no more objects: themselves, their meta_data, and one or two within.
_FEW: Final = 4
# Work of one step that takes next to no time for each blank.
_BLANKS_AT_ONCE: Final = 1 << 16
_NOT_OPENING: Final = bytes(byte for byte in range(256) if byte not in b"[{")
_encode: Final = msgspec.json.encode


def stamp_at_once(
    body: bytes, how: Stamp, key_id: str, *, body_optional: bool = False, max_length: int
) -> bytes | None:
    """Return what `stamp` does; None if that takes longer than about CHEAP_SECONDS, estimated by counting.

    Raises as `stamp`.
    """
    if len(body) <= _SMALL and how is not Stamp.BULK:
        return stamp(body, how, key_id, body_optional=body_optional, max_length=max_length)
    seconds = len(body) * _BYTE
    if seconds > CHEAP_SECONDS:
        # Each of the other counts is a pass over the body.
        return None
    containers = _containers(body)
    seconds += containers * _PAIR
    if body.find(b"\\") >= 0:
        seconds += body.count(b"\\") * _ESCAPE
    if how is Stamp.BULK:
        objects = body.count(b"{")
        # Behind any other comma is an object, or a name: those count for more.
        elements = max(0, body.count(b",") - objects - body.count(b":"))
        seconds += objects * _ITEM + elements * _ELEMENT
    if seconds > CHEAP_SECONDS:
        return None
    if how is not Stamp.BULK:
        stamped = _stamp_plain(body, how, key_id, containers, max_length)
        if stamped is not None:
            return stamped
    if seconds + body.count(b":") * _NAME > CHEAP_SECONDS:
        return None
    return stamp(body, how, key_id, body_optional=body_optional, max_length=max_length)


def stamp(body: bytes, how: Stamp, key_id: str, *, body_optional: bool = False, max_length: int) -> bytes:
    """Return the body to send to Core, at most `max_length` bytes long.

    An empty or blank body is returned as it is, unless `body_optional` lets a creating route make one.
    Takes some 3 us for 300 bytes, and seconds for a large body: see `stamp_at_once` and `stamp_in_steps`.

    Raises BadBodyError, TooManyItemsError, StampedTooLargeError.
    """
    if how is Stamp.NONE:
        return body
    if body.find(b"{") < 0 and not body.strip(json_text.BLANKS):
        return _stamp_blank(body, how, key_id, body_optional=body_optional)
    member = _member(key_id)
    try:
        _check_text(body, _containers(body) if len(body) > json_text.MAX_DEPTH else 0)
        edits = edit_batch(body, member) if how is Stamp.BULK else edit_record(body, 0, how, member)
    except json_text.UNREADABLE as error:
        raise BadBodyError from error
    return _edited(body, edits, max_length)


def _stamp_plain(body: bytes, how: Stamp, key_id: str, containers: int, max_length: int) -> bytes | None:
    """Return what `stamp` does for a record; None if it has to look at names, or if there is no record."""
    if how is Stamp.NONE or body.find(b"{") < 0:
        return None
    try:
        _check_text(body, containers)
        edits = edit_plain_record(body, how, _member(key_id))
    except json_text.UNREADABLE as error:
        raise BadBodyError from error
    return None if edits is None else _edited(body, edits, max_length)


def stamp_in_steps(
    body: bytes, how: Stamp, key_id: str, *, body_optional: bool = False, max_length: int
) -> Generator[None, None, bytes]:
    """Stamp as `stamp` does, in steps of 2 ms at most, so that others can run in between."""
    if how is Stamp.NONE:
        return body
    if (yield from _is_blank_in_steps(body)):
        return _stamp_blank(body, how, key_id, body_optional=body_optional)
    member = _member(key_id)
    try:
        yield from json_text.decode_in_steps(body)
        yield from json_text.check_in_steps(body)
        if how is Stamp.BULK:
            edits = yield from edit_batch_in_steps(body, _object_in(body), member)
        else:
            edits = yield from edit_record_in_steps(body, _object_in(body), how, member)
    except json_text.UNREADABLE as error:
        raise BadBodyError from error
    if not edits:
        _check_length(body, len(body), max_length)
        return body
    pieces = yield from pieces_in_steps(body, edits)
    _check_length(body, sum(map(len, pieces)), max_length)
    yield
    return b"".join(pieces)


def _containers(body: bytes) -> int:
    """Return an upper bound of the number of objects and arrays."""
    if body.find(b"[") < 0:
        # Few objects are found in a tenth of the time that it takes to count them.
        at = body.find(b"{")
        for _ in range(_FEW):
            if at < 0:
                return _FEW
            at = body.find(b"{", at + 1)
    # In one pass, and so in half the time of two counts.
    return len(body.translate(None, _NOT_OPENING))


def _check_text(body: bytes, containers: int) -> None:
    """Raise one of UNREADABLE if the body is not UTF-8, or is nested too deep."""
    if not body.isascii():
        body.decode()
    if containers > json_text.MAX_DEPTH:
        _finish(json_text.check_in_steps(body))


def _edited(body: bytes, edits: list[Edit], max_length: int) -> bytes:
    """Return the body with its edits; the same object if there are none. Raises StampedTooLargeError."""
    if not edits:
        _check_length(body, len(body), max_length)
        return body
    stamped = b"".join([*pieces_of(body, 0, edits), body[edits[-1][1] :]])
    _check_length(body, len(stamped), max_length)
    return stamped


def _finish(steps: Generator[None, None, Any]) -> None:
    for _ in steps:
        pass


def _is_blank_in_steps(body: bytes) -> Generator[None, None, bool]:
    if b"{" in body:
        return False
    for start in range(0, len(body), _BLANKS_AT_ONCE):
        if body[start : start + _BLANKS_AT_ONCE].strip(json_text.BLANKS):
            return False
        yield
    return True


def _stamp_blank(body: bytes, how: Stamp, key_id: str, *, body_optional: bool) -> bytes:
    if body_optional and how is Stamp.CREATE:
        return b'{"meta_data":{%b}}' % _member(key_id)
    return body


def _member(key_id: str) -> bytes:
    """Return the stamp as a member of meta_data."""
    return STAMP + b":" + _encode(key_id)


def _object_in(text: bytes) -> Span:
    """Return the place of the one object of a whole text."""
    return Span(text.index(b"{"), text.rindex(b"}") + 1)


def _check_length(body: bytes, length: int, most: int) -> None:
    """Raise StampedTooLargeError if `length`, in bytes, is more than Core takes."""
    if length > most:
        stamped = f", {length} with the stamp" if length != len(body) else ""
        raise StampedTooLargeError(
            f"{StampedTooLargeError.summary}: {len(body)} bytes{stamped}; Blnk Core takes at most {most}",
        )
