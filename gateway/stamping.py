"""Provenance: the caller's key id written into a JSON body, every other value byte for byte.

Rules kept here:
- A stamped body is valid UTF-8 and exactly one JSON object (RFC 8259) with nothing around it but blanks.
- Core's decoder (Go's encoding/json) folds member names and merges repeated ones, so a folded spelling
  of a reserved name is refused, and of an exact name sent twice only the last leaves.
- Literals are never read as numbers or strings: a value leaves in the bytes in which it came.
- The work is bounded before it is done: items are counted by a decoder that stops at the limit, and
  names are taken apart one by one only where there are few of them.
- How deep a body may be nested is said here; the interpreter's own limit differs from version to version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import msgspec

from gateway.errors import Code, GatewayError
from gateway.policy.routes import Stamp

STAMP_NAME = "BLNK_GENERATED_BY"
MAX_ITEMS = 10_000
# Colons that may stand in an object whose names are taken apart one by one (about 1 us each).
MAX_NAMES = 10_000
# Levels of nesting that pass: below what every supported CPython reads (1,000 in 3.11, less its stack).
MAX_DEPTH = 800
# Items longer than this many bytes are stamped in steps of their own.
_LARGE = 64 * 1024
# Everything but brackets and quotes; and a bracket as the signed byte that it adds to the depth.
_NO_MARKS = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_DEPTHS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_BLANKS = b" \t\r\n"
_MISSING = (b"", b"null")
# What a name of ASCII letters and underscores, written with escapes, cannot do without.
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
_ABSENT = msgspec.Raw(b"")
_STAMP = b'"%b"' % STAMP_NAME.encode()


class _Record(msgspec.Struct, rename={"value": "meta_data"}):
    value: msgspec.Raw = _ABSENT


class _Batch(msgspec.Struct, rename={"value": "transactions"}):
    value: msgspec.Raw = _ABSENT


class _MetaData(msgspec.Struct, rename={"value": STAMP_NAME}):
    value: msgspec.Raw = _ABSENT


class _Name(str):
    """A member's name that equals only itself, so that a mapping keeps repeated members apart."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


# An array as a struct of MAX_ITEMS optional fields: the only shape that msgspec stops reading at a limit.
# As a list, 5 MB of `{},` are 1.7 million objects before their number is known.
_Items = msgspec.defstruct(
    "_Items",
    [(f"item_{n}", msgspec.Raw, _ABSENT) for n in range(MAX_ITEMS)],
    array_like=True,
    forbid_unknown_fields=True,
)

_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_COUNTED_ITEMS = msgspec.json.Decoder(_Items)
_META_DATA = msgspec.json.Decoder(_MetaData)
_MEMBERS = msgspec.json.Decoder(dict[_Name, msgspec.Raw], dec_hook=lambda _, name: _Name(name))
_encode = msgspec.json.encode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class _Level:
    """An object of the body in which Core binds names to fields, and the one member edited there."""

    decoder: msgspec.json.Decoder[Any]
    name: str
    quoted: bytes
    reserved: frozenset[str]


_RECORD = _Level(msgspec.json.Decoder(_Record), "meta_data", b'"meta_data"', frozenset({"meta_data"}))
_BATCH = _Level(
    msgspec.json.Decoder(_Batch),
    "transactions",
    b'"transactions"',
    frozenset({"transactions", "meta_data"}),
)

# An object's text before and after the value of one member, and whether a reserved member was repeated.
_Split = tuple[bytes, bytes, bool]
# What meta_data, the client's stamp taken out, becomes with the caller's.
_Edit = Callable[[bytes, bytes], bytes]


def stamp(body: bytes, how: Stamp, key_id: str, *, body_optional: bool = False, max_length: int) -> bytes:
    """The body that leaves for Core, at most `max_length` bytes long.

    An empty or blank body leaves as it is, except where `body_optional` lets a creating route make one.
    Takes some 5 us for 300 bytes but up to a second for 5 MB made to be slow: `stamp_in_steps` is for those.

    Raises GatewayError: MALFORMED_BODY, BULK_LIMIT, BODY_TOO_LARGE.
    """
    text = body.strip(_BLANKS)
    if text and how in _EDITS and _is_shallow(text):
        try:
            if not text.isascii():
                text.decode()
            stamped = _record(text, _EDITS[how], _member(key_id))
        except _UNREADABLE as error:
            raise GatewayError(Code.MALFORMED_BODY) from error
        return _limited(body if stamped is text else stamped, max_length)
    return _finished(stamp_in_steps(body, how, key_id, body_optional=body_optional, max_length=max_length))


def stamp_in_steps(
    body: bytes, how: Stamp, key_id: str, *, body_optional: bool = False, max_length: int
) -> Generator[None, None, bytes]:
    """`stamp` in short steps, for a caller that lets others run once its time is up; returns the body.

    A batch has a step for each item. Raises GatewayError as `stamp` does.
    """
    text = body.strip(_BLANKS)
    if how is Stamp.NONE:
        return body
    if not text:
        made = body_optional and how is Stamp.CREATE
        return _limited(b'{"meta_data":{%b}}' % _member(key_id) if made else body, max_length)
    yield
    try:
        if not text.isascii():
            text.decode()
            yield
        if not _is_shallow(text):
            yield from _refuse_deep_in_steps(text)
        if how is Stamp.BULK:
            stamped = yield from _batch_in_steps(text, _member(key_id))
        else:
            stamped = yield from _record_in_steps(text, _EDITS[how], _member(key_id))
    except _UNREADABLE as error:
        raise GatewayError(Code.MALFORMED_BODY) from error
    return _limited(body if stamped is text else stamped, max_length)


def _finished(steps: Generator[None, None, bytes]) -> bytes:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return bytes(done.value)


def _is_shallow(text: bytes) -> bool:
    """Whether there are too few brackets to nest too deep."""
    return len(text) <= MAX_DEPTH or text.count(b"[") + text.count(b"{") <= MAX_DEPTH


def _refuse_deep_in_steps(text: bytes) -> Generator[None, None, None]:
    """Raises GatewayError where JSON is nested deeper than MAX_DEPTH; what is no JSON may pass."""
    depth, inside, start = 0, 0, 0
    while start < len(text):
        part = text[start : start + _LARGE]
        if (len(part) - len(part.rstrip(b"\\"))) % 2:
            part = text[start : start + _LARGE + 1]  # no escape is cut apart
        start += len(part)
        marks = part.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_MARKS)
        # Without two quotes side by side, all that is left stays inside or outside of strings as it was.
        runs = marks.replace(b'""', b"").split(b'"')
        steps = b"".join(runs[inside::2]).translate(_DEPTHS)
        inside ^= (len(runs) - 1) & 1
        depths = list(accumulate(memoryview(steps).cast("b"), initial=depth))
        if max(depths) > MAX_DEPTH:
            raise GatewayError(Code.MALFORMED_BODY)
        depth = depths[-1]
        yield


def _member(key_id: str) -> bytes:
    return _STAMP + b":" + _encode(key_id)


def _limited(stamped: bytes, max_length: int) -> bytes:
    if len(stamped) > max_length:
        raise GatewayError(Code.BODY_TOO_LARGE)
    return stamped


def _batch_in_steps(text: bytes, member: bytes) -> Generator[None, None, bytes]:
    array = _value(text, _BATCH)
    yield
    split = _examined(text, array, _BATCH)
    if not array:
        return text
    yield
    items = _items(array)
    yield
    stamped = []
    for item in items:
        record = bytes(item)
        if not record.startswith(b"{"):
            raise _malformed("transactions must be an array of objects")
        if len(record) > _LARGE:
            stamped.append((yield from _record_in_steps(record, _created, member)))
        else:
            stamped.append(_record(record, _created, member))
        yield
    return _joined(text, split, array, b"[%b]" % b",".join(stamped) if stamped else array)


def _items(array: bytes) -> list[msgspec.Raw]:
    if not array.startswith(b"["):
        raise _malformed("transactions must be an array of objects")
    if array.count(b",") < MAX_ITEMS:
        return _ITEMS.decode(array)
    try:
        counted = _COUNTED_ITEMS.decode(array)
    except msgspec.ValidationError as error:
        raise GatewayError(Code.BULK_LIMIT) from error
    return [item for item in msgspec.structs.astuple(counted) if item is not _ABSENT]


def _record(text: bytes, edit: _Edit, member: bytes) -> bytes:
    value = _value(text, _RECORD)
    split = _split(text, value)
    return _joined(text, split, value, edit(_finished(_unstamped_in_steps(value)), member))


def _record_in_steps(text: bytes, edit: _Edit, member: bytes) -> Generator[None, None, bytes]:
    value = _value(text, _RECORD)
    yield
    split = _split(text, value)
    yield
    unstamped = yield from _unstamped_in_steps(value)
    yield
    return _joined(text, split, value, edit(unstamped, member))


def _joined(text: bytes, split: _Split, value: bytes, edited: bytes) -> bytes:
    """`text` with `edited` in the place of `value`; `text` itself where nothing changes."""
    head, tail, repeated = split
    return text if edited == value and not repeated else head + edited + tail


def _created(meta_data: bytes, member: bytes) -> bytes:
    return b"{%b}" % member if meta_data in _MISSING else _with_member(meta_data, member)


def _replaced(meta_data: bytes, member: bytes) -> bytes:
    return meta_data if meta_data in _MISSING else _with_member(meta_data, member)


def _merged(meta_data: bytes, _: bytes) -> bytes:
    return meta_data


_EDITS: dict[Stamp, _Edit] = {Stamp.CREATE: _created, Stamp.REPLACE: _replaced, Stamp.MERGE: _merged}


def _unstamped_in_steps(meta_data: bytes) -> Generator[None, None, bytes]:
    """meta_data without any stamp of the client's; itself where it has none, or is missing."""
    if meta_data in _MISSING:
        return meta_data
    if not meta_data.startswith(b"{"):
        raise _malformed("meta_data must be a JSON object")
    # Names in meta_data have case: only an escaped letter can hide the reserved one.
    if _STAMP not in meta_data and not _has_escaped_letter(meta_data):
        return meta_data
    yield
    if meta_data.count(b":") > MAX_NAMES and _META_DATA.decode(meta_data).value is _ABSENT:
        return meta_data
    members = _members(meta_data, b"")
    yield
    kept = [_written(name, value) for name, value in members if name != STAMP_NAME]
    return b"{%b}" % b",".join(kept) if len(kept) < len(members) else meta_data


def _value(text: bytes, level: _Level) -> bytes:
    """The last value of the member `level.name`, empty where there is none; reads the whole text."""
    return bytes(level.decoder.decode(text).value)


def _split(text: bytes, value: bytes) -> _Split:
    """A record around its meta_data, once every other spelling of that name is ruled out."""
    if not _is_plain(text, value):
        return _examined(text, value, _RECORD)
    quoted = _RECORD.quoted
    if not value:
        return _with_member(text, quoted + b":")[:-1], b"}", False
    head, _, rest = text.partition(quoted)
    return head + quoted + b":", rest.lstrip(b" \t\r\n:")[len(value) :], False


def _is_plain(text: bytes, value: bytes) -> bool:
    """Whether a record can hold, outside the `value` of meta_data, no other spelling of that name.

    No rune beyond ASCII folds to a letter of it, so a spelling shows in the lowered bytes or is escaped.
    """
    if _has_escaped_letter(text):
        return False
    expected = bool(value)
    found = text.lower().count(b"meta_data")
    return found == expected or found - value.lower().count(b"meta_data") == expected


def _examined(text: bytes, value: bytes, level: _Level) -> _Split:
    """The object around its one member `level.name`, found by looking at each name."""
    members = _members(text, value)
    last = {name: place for place, (name, _) in enumerate(members)}
    if any(name not in level.reserved and _folded(name) in level.reserved for name in last):
        raise _malformed("Ambiguous spelling of a reserved field")
    kept = [
        (name, raw)
        for place, (name, raw) in enumerate(members)
        if name not in level.reserved or last[name] == place
    ]
    names = [name for name, _ in kept]
    place = names.index(level.name) if value else len(kept)
    head = b"".join(b"%b," % _written(name, raw) for name, raw in kept[:place])
    tail = b"".join(b",%b" % _written(name, raw) for name, raw in kept[place + 1 :])
    return b"{%b%b:" % (head, level.quoted), tail + b"}", len(kept) < len(members)


def _has_escaped_letter(text: bytes) -> bool:
    return b"\\" in text and _ESCAPED_LETTER.search(text) is not None


def _members(text: bytes, value: bytes) -> list[tuple[str, msgspec.Raw]]:
    """Every member of an object in order, repeated ones too; colons inside `value` are not counted."""
    if text.count(b":") - value.count(b":") > MAX_NAMES:
        raise GatewayError(Code.BODY_TOO_LARGE)
    return [(str(name), raw) for name, raw in _MEMBERS.decode(text).items()]


def _folded(name: str) -> str:
    """The name as encoding/json's foldName compares it, as far as ASCII names are concerned."""
    return name.replace("\u017f", "s").lower()


def _written(name: str, value: msgspec.Raw) -> bytes:
    return b"%b:%b" % (_encode(name), value)


def _with_member(text: bytes, member: bytes) -> bytes:
    """The object `text` with a member after its last; an object without a quote has none."""
    return b"".join((text[:-1], b"," if b'"' in text else b"", member, b"}"))


def _malformed(message: str) -> GatewayError:
    return GatewayError(Code.MALFORMED_BODY, message)
