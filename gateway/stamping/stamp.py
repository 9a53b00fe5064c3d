r"""Provenance: the caller's key id written into a JSON body, every other byte as it came.

Rules kept here:
- A stamped body is valid UTF-8 and exactly one JSON object (RFC 8259) with nothing around it but blanks.
- Core's decoder (Go's encoding/json) folds member names and merges repeated ones, so a folded spelling
  of a reserved name is refused, and of an exact name sent twice only the last leaves.
- A body is read by place and edited by place: what is no edit leaves in the bytes in which it came.
- Go reads a lone surrogate (`"\ud83d"`) as U+FFFD, so it passes; what is read is `json_text.readable`.
- A body that takes more than CHEAP_SECONDS to stamp is stamped in steps of 2 ms at most.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from gateway.errors import GatewayError
from gateway.policy.routes import Stamp
from gateway.stamping import json_text
from gateway.stamping.errors import BadBodyError, StampedTooLargeError, TooManyItemsError
from gateway.stamping.json_text import Member, Span

STAMP_NAME: Final = "BLNK_GENERATED_BY"
MAX_ITEMS: Final = 10_000
# How often an object may have members of reserved names, all but the last of which are taken out.
MAX_REPEATED: Final = 1_000
# A body that is estimated to take no longer is stamped at once. It is what a small request costs anyway.
CHEAP_SECONDS: Final = 200e-6
# Upper estimates, in seconds: a byte, a pair of brackets, a name that is looked at, an item that is stamped.
_BYTE: Final = 3e-9
_PAIR: Final = 1e-7
_NAME: Final = 1.5e-6
_ITEM: Final = 6e-6
# A record of so few bytes is cheap, whatever they are.
_SMALL: Final = 512
# What one step may do of work that takes next to no time for each.
_EDITS_AT_ONCE: Final = 1_000
_BLANKS_AT_ONCE: Final = 1 << 16
# What a name of ASCII letters and underscores, written with escapes, cannot do without.
_ESCAPED_LETTER: Final = re.compile(rb"\\u00[4-7]")
_META_DATA: Final = b'"meta_data"'
_STAMP: Final = b'"%b"' % STAMP_NAME.encode()
_ABSENT: Final = msgspec.Raw(b"")
_encode = msgspec.json.encode


class _Record(msgspec.Struct, rename={"value": "meta_data"}):
    value: msgspec.Raw = _ABSENT


_RECORD: Final = msgspec.json.Decoder(_Record)


@dataclass(frozen=True, slots=True)
class _Level:
    """An object of the body in which names matter: which, and what shows that one of them may be there."""

    reserved: frozenset[str]
    folds: bool
    hints: tuple[bytes, ...]

    def holds(self, name: str) -> bool:
        """Whether the name is reserved. Raises GatewayError for another spelling of one that is."""
        if name in self.reserved:
            return True
        if self.folds and _folded(name) in self.reserved:
            raise _malformed("Ambiguous spelling of a reserved field")
        return False

    def may_hold(self, text: bytes) -> bool:
        """Whether any name in `text` can be reserved, or another spelling of one that is."""
        if _has_escaped_letter(text):
            return True
        lowered = text.lower() if self.folds else text
        return any(hint in lowered for hint in self.hints)


# No rune beyond ASCII folds to a letter of meta_data; U+017F folds to an s.
_OF_RECORD: Final = _Level(frozenset({"meta_data"}), folds=True, hints=(b"meta_data",))
_OF_BATCH: Final = _Level(
    frozenset({"transactions", "meta_data"}),
    folds=True,
    hints=(b"transactions", b"meta_data", "\u017f".encode(), rb"\u017f"),
)
# Names in meta_data have case.
_OF_META_DATA: Final = _Level(frozenset({STAMP_NAME}), folds=False, hints=(_STAMP,))


_Edit = tuple[int, int, bytes]
"""A place in the body, from and to, and what takes the place of its bytes."""


class _Reserved(NamedTuple):
    """The reserved members of an object, and whether it has others."""

    members: list[Member]
    others: bool


def is_cheap(body: bytes, how: Stamp) -> bool:
    """Whether `stamp` takes no longer than about CHEAP_SECONDS, estimated by counting."""
    if len(body) <= _SMALL and how is not Stamp.BULK:
        return True
    seconds = len(body) * _BYTE
    if seconds > CHEAP_SECONDS:
        return False
    objects = body.count(b"{")
    seconds += body.count(b":") * _NAME + (objects + body.count(b"[")) * _PAIR
    if how is Stamp.BULK:
        seconds += objects * _ITEM
    return seconds <= CHEAP_SECONDS


def stamp(body: bytes, how: Stamp, key_id: str, *, body_optional: bool = False, max_length: int) -> bytes:
    """The body that leaves for Core, at most `max_length` bytes long.

    An empty or blank body leaves as it is, except where `body_optional` lets a creating route make one.
    Takes some 5 us for 300 bytes. For what is not cheap there is `stamp_in_steps`.

    Raises GatewayError: MALFORMED_BODY, BULK_LIMIT, BODY_TOO_LARGE.
    """
    if how is Stamp.NONE:
        return body
    if b"{" not in body and not body.strip(json_text.BLANKS):
        return _made(body, how, key_id, body_optional=body_optional)
    member = _member(key_id)
    try:
        if not body.isascii():
            body.decode()
        if not _is_shallow(body):
            _finish(json_text.check_in_steps(body))
        edits = _batch(body, member) if how is Stamp.BULK else _record(body, 0, how, member)
    except json_text.UNREADABLE as error:
        raise BadBodyError from error
    if not edits:
        _limit(body, len(body), max_length)
        return body
    stamped = b"".join([*_pieces(body, 0, edits), body[edits[-1][1] :]])
    _limit(body, len(stamped), max_length)
    return stamped


def stamp_in_steps(
    body: bytes, how: Stamp, key_id: str, *, body_optional: bool = False, max_length: int
) -> Generator[None, None, bytes]:
    """`stamp` in steps of 2 ms at most, for a caller that lets others run in between; returns the body.

    Raises GatewayError as `stamp` does.
    """
    if how is Stamp.NONE:
        return body
    if (yield from _is_blank_in_steps(body)):
        return _made(body, how, key_id, body_optional=body_optional)
    member = _member(key_id)
    try:
        yield from json_text.decode_in_steps(body)
        yield from json_text.check_in_steps(body)
        if how is Stamp.BULK:
            edits = yield from _batch_in_steps(body, member)
        else:
            edits = yield from _record_in_steps(body, _object_in(body), how, member)
    except json_text.UNREADABLE as error:
        raise BadBodyError from error
    if not edits:
        _limit(body, len(body), max_length)
        return body
    pieces = yield from _pieces_in_steps(body, edits)
    _limit(body, sum(map(len, pieces)), max_length)
    yield
    return b"".join(pieces)


def _finish(steps: Generator[None, None, Any]) -> None:
    for _ in steps:
        pass


def _is_shallow(text: bytes) -> bool:
    """Whether there are too few brackets to nest too deep."""
    most = json_text.MAX_DEPTH
    return len(text) <= most or text.count(b"[") + text.count(b"{") <= most


def _is_blank_in_steps(body: bytes) -> Generator[None, None, bool]:
    if b"{" in body:
        return False
    for start in range(0, len(body), _BLANKS_AT_ONCE):
        if body[start : start + _BLANKS_AT_ONCE].strip(json_text.BLANKS):
            return False
        yield
    return True


def _made(body: bytes, how: Stamp, key_id: str, *, body_optional: bool) -> bytes:
    """What leaves for a blank body."""
    if body_optional and how is Stamp.CREATE:
        return b'{"meta_data":{%b}}' % _member(key_id)
    return body


def _member(key_id: str) -> bytes:
    return _STAMP + b":" + _encode(key_id)


def _object_in(text: bytes) -> Span:
    """Where the one object of a whole text is."""
    return Span(text.index(b"{"), text.rindex(b"}") + 1)


# What leaves.


def _limit(body: bytes, length: int, most: int) -> None:
    """Raises GatewayError where what leaves for `body` is longer than Core takes; sizes in bytes."""
    if length > most:
        stamped = f", {length} with the stamp" if length != len(body) else ""
        raise StampedTooLargeError(
            f"{StampedTooLargeError.summary}: {len(body)} bytes{stamped}; Blnk Core takes at most {most}",
        )


def _pieces(body: bytes | memoryview, at: int, edits: list[_Edit]) -> list[bytes | memoryview]:
    """What the body from `at` to the end of the last of the edits becomes."""
    pieces: list[bytes | memoryview] = []
    for start, end, new in edits:
        pieces += body[at:start], new
        at = end
    return pieces


def _pieces_in_steps(body: bytes, edits: list[_Edit]) -> Generator[None, None, list[bytes | memoryview]]:
    """What leaves, in order."""
    edits.sort()
    view, at = memoryview(body), 0
    pieces: list[bytes | memoryview] = []
    for first in range(0, len(edits), _EDITS_AT_ONCE):
        some = edits[first : first + _EDITS_AT_ONCE]
        pieces += _pieces(view, at, some)
        at = some[-1][1]
        yield
    pieces.append(view[at:])
    return pieces


# Batches.


def _batch(text: bytes, member: bytes) -> list[_Edit]:
    array, edits = _settled(text, _reserved(text, _OF_BATCH).members, "transactions")
    if array is None:
        return []
    spans = json_text.elements(_array(text, array), array.start)
    if len(spans) > MAX_ITEMS:
        raise TooManyItemsError
    for span in spans:
        edits += _item(text, span, member)
    return sorted(edits)


def _batch_in_steps(text: bytes, member: bytes) -> Generator[None, None, list[_Edit]]:
    reserved = yield from _reserved_in_steps(text, _object_in(text), _OF_BATCH)
    array, edits = _settled(text, reserved.members, "transactions")
    if array is None:
        return []
    if text[array.start : array.start + 1] != b"[":
        raise _malformed("transactions must be an array of objects")
    try:
        parts = yield from json_text.parts_in_steps(text, array, MAX_ITEMS)
    except json_text.TooManyError as error:
        raise TooManyItemsError from error
    for part in parts.spans:
        if json_text.is_large(part):
            item = yield from json_text.trimmed_in_steps(text, part)
            if text[item.start : item.start + 1] != b"{":
                raise _malformed("transactions must be an array of objects")
            edits += yield from _record_in_steps(text, item, Stamp.CREATE, member)
            continue
        for span in json_text.elements(b"[%b]" % text[part.start : part.end], part.start - 1):
            edits += _item(text, span, member)
            yield
    return edits


def _array(text: bytes, span: Span) -> bytes:
    array = text[span.start : span.end]
    if not array.startswith(b"["):
        raise _malformed("transactions must be an array of objects")
    return array


def _item(text: bytes, span: Span, member: bytes) -> list[_Edit]:
    item = text[span.start : span.end]
    if not item.startswith(b"{"):
        raise _malformed("transactions must be an array of objects")
    return _record(item, span.start, Stamp.CREATE, member)


# Records.


def _record(text: bytes, at: int, how: Stamp, member: bytes) -> list[_Edit]:
    """The edits of a small record; `at` is added to each place."""
    text = json_text.readable(text)
    value = bytes(_RECORD.decode(text).value)
    if _is_plain(text, value):
        if not value:
            return _meta_data_added(text, at, how, member)
        # Behind the name are blanks and a colon, and no value begins with one of them.
        start = text.index(value, text.index(_META_DATA) + len(_META_DATA))
        return _meta_data(value, at + start, how, member)
    found = _reserved(text, _OF_RECORD)
    span, edits = _settled(text, found.members, "meta_data")
    if span is None:
        edits = _meta_data_added(text, 0, how, member)
    else:
        edits += _meta_data(text[span.start : span.end], span.start, how, member)
    return [(at + start, at + end, new) for start, end, new in edits]


def _record_in_steps(
    text: bytes, span: Span, how: Stamp, member: bytes
) -> Generator[None, None, list[_Edit]]:
    reserved = yield from _reserved_in_steps(text, span, _OF_RECORD)
    value, edits = _settled(text, reserved.members, "meta_data")
    if value is None:
        if how is Stamp.CREATE:
            added = b'"meta_data":{%b}' % member
            edits.append(_inserted(span.end - 1, added, behind=reserved.others))
    elif not json_text.is_large(value):
        edits += _meta_data(text[value.start : value.end], value.start, how, member)
    elif text[value.start : value.start + 1] != b"{":
        raise _malformed("meta_data must be a JSON object")
    else:
        forged = yield from _reserved_in_steps(text, value, _OF_META_DATA)
        edits += _stamped(text, value, forged, how, member)
    return edits


def _meta_data_added(text: bytes, at: int, how: Stamp, member: bytes) -> list[_Edit]:
    """A record without meta_data; one without a quote has no member at all."""
    if how is not Stamp.CREATE:
        return []
    added = b'"meta_data":{%b}' % member
    return [_inserted(at + text.rindex(b"}"), added, behind=b'"' in text)]


def _meta_data(value: bytes, at: int, how: Stamp, member: bytes) -> list[_Edit]:
    """The edits of a small meta_data that was sent."""
    if value == b"null":
        return [(at, at + len(value), b"{%b}" % member)] if how is Stamp.CREATE else []
    if not value.startswith(b"{"):
        raise _malformed("meta_data must be a JSON object")
    if _STAMP not in value and not _has_escaped_letter(value):
        if how is Stamp.MERGE:
            return []
        return [_inserted(at + len(value) - 1, member, behind=b'"' in value)]
    forged = _reserved(value, _OF_META_DATA)
    edits = _stamped(value, Span(0, len(value)), forged, how, member)
    return [(at + start, at + end, new) for start, end, new in edits]


def _stamped(text: bytes, meta_data: Span, forged: _Reserved, how: Stamp, member: bytes) -> list[_Edit]:
    """meta_data without any stamp of the client's, and with the caller's."""
    edits = _without(text, forged.members)
    if how is not Stamp.MERGE:
        edits.append(_inserted(meta_data.end - 1, member, behind=forged.others))
    return edits


def _inserted(place: int, member: bytes, *, behind: bool) -> _Edit:
    """A member before the end of an object, `behind` others."""
    return place, place, b"," + member if behind else member


def _is_plain(text: bytes, value: bytes) -> bool:
    """Whether a record can hold, outside the `value` of meta_data, no other spelling of that name.

    No rune beyond ASCII folds to a letter of it, so a spelling shows in the lowered bytes or is escaped.
    """
    if _has_escaped_letter(text):
        return False
    expected = bool(value)
    found = text.lower().count(b"meta_data")
    return found == expected or found - value.lower().count(b"meta_data") == expected


# Reserved names.


def _reserved(text: bytes, level: _Level) -> _Reserved:
    """The reserved members of the small object `text`, found by looking at each name."""
    members = json_text.members(text)
    found = [member for member in members if level.holds(member.name)]
    _bound(found)
    return _Reserved(found, others=len(members) > len(found))


def _reserved_in_steps(text: bytes, span: Span, level: _Level) -> Generator[None, None, _Reserved]:
    """The reserved members of an object of a text that was checked."""
    parts = yield from json_text.parts_in_steps(text, span)
    found: list[Member] = []
    for part in parts.spans:
        if json_text.is_large(part):
            members = [(yield from json_text.member_in_steps(text, part))]
        elif level.may_hold(some := text[part.start : part.end]):
            members = json_text.members(b"{%b}" % some, part.start - 1)
        else:
            members = []
        if members and part.start > span.start + 1:
            members[0] = members[0]._replace(lead=part.start - 1)
        if members and part.end < span.end - 1:
            members[-1] = members[-1]._replace(after=part.end + 1)
        found += [member for member in members if level.holds(member.name)]
        _bound(found)
        yield
    return _Reserved(found, others=parts.elements > len(found))


def _settled(text: bytes, members: list[Member], name: str) -> tuple[Span | None, list[_Edit]]:
    """The value of the last member of that name; of each reserved name all but the last are taken out."""
    last = {member.name: member for member in members}
    repeated = [member for member in members if last[member.name] is not member]
    return last[name].value if name in last else None, _without(text, repeated)


def _without(text: bytes, members: list[Member]) -> list[_Edit]:
    """Take members out, each with the comma before it; the first of an object with the one behind it."""
    edits: list[_Edit] = []
    gone = 0
    for member in members:
        start = max(member.lead, gone)
        gone = member.value.end if text[start : start + 1] == b"," else member.after
        edits.append((start, gone, b""))
    return edits


def _bound(members: list[Member]) -> None:
    if len(members) > MAX_REPEATED:
        raise _malformed("Too many repetitions of a reserved field")


def _has_escaped_letter(text: bytes) -> bool:
    return b"\\" in text and _ESCAPED_LETTER.search(text) is not None


def _folded(name: str) -> str:
    """The name as encoding/json's foldName compares it, as far as ASCII names are concerned."""
    return name.replace("\u017f", "s").lower()


def _malformed(message: str) -> GatewayError:
    return BadBodyError(message)
