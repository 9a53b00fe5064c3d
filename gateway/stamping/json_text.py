"""Reads JSON texts by place: returns where members and elements are; reads a large text in short steps.

Rules kept here:
- No value is built from a text: a member is a place in the text, so an edit changes nothing else.
- A step reads about BLOCK bytes, whatever they are: a text is checked as a sequence of small JSON texts
  (see `check_in_steps`).
- MAX_DEPTH bounds the nesting of a text, because the interpreter's own limit differs between versions.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Generator, Iterator
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec

from gateway.stamping.decoders import ELEMENTS, MEMBERS, NAME, VALUE

# Levels of nesting that pass: below what every supported CPython reads (1,000 in 3.11, less its stack).
MAX_DEPTH: Final = 800
# Bytes of one step: dense ones (`[],[],`) take some 250 ns a bracket.
BLOCK: Final = 4096
_DECODED: Final = 1 << 18
# A block may be so many bytes longer than BLOCK, so that no escape is cut apart.
_ESCAPE: Final = 5

BLANKS: Final = b" \t\r\n"
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
# Bytes that mean nothing outside of a string either.
_PLAIN: Final = bytes(byte for byte in range(256) if byte not in b"[]{},:")
_BRACKET: Final = re.compile(rb"[\[\]{}]")
_OPENING: Final = b"[{"
# A bracket as the signed byte that it adds to the depth.
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_CLOSERS: Final = bytes.maketrans(b"[{", b"]}")
_NAME: Final = re.compile(
    rb'[ \t\r\n]*(,?)[ \t\r\n]*"[^"\\]*(?:\\.[^"\\]*)*"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL
)
_BETWEEN: Final = re.compile(rb"[ \t\r\n,]*")

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The errors that the functions below raise for a text that is no JSON or is nested too deep."""


class TooManyError(Exception):
    """A container has more elements than are allowed."""


class Span(NamedTuple):
    """A place in a text: from `start` to before `end`."""

    start: int
    end: int


class Member(NamedTuple):
    """A member of an object and its places.

    `lead` is the place of the comma before the member, or the beginning of the first member. `after` is the
    place behind the comma that follows the value, or behind the value of the last member.
    """

    name: str
    lead: int
    value: Span
    after: int


class Parts(NamedTuple):
    """A container in parts that are separated by commas.

    A part that `is_large` is a single element. `elements` counts the elements of all parts.
    """

    spans: list[Span]
    elements: int


def readable(text: bytes) -> bytes:
    r"""Return `text` in a form that a strict reader takes: of the same length, without surrogates.

    Go reads a lone surrogate as U+FFFD, msgspec refuses it. `\ud83d` becomes `\uf83d`, also if it is one of a
    pair or the backslash itself is escaped: no value is taken from this text, and no name that matters holds
    such an escape.
    """
    if text.find(b"\\") >= 0 and (rb"\ud" in text or rb"\uD" in text):
        return text.replace(rb"\ud", rb"\uf").replace(rb"\uD", rb"\uF")
    return text


def members(text: bytes, at: int = 0) -> list[Member]:
    """Return every member of the small object `text`, also repeated ones; `at` is added to each place."""
    found = []
    read = MEMBERS.decode(readable(text)).items()
    place = text.index(b"{") + 1
    for name, raw in read:
        match = _NAME.match(text, place)
        if match is None:
            raise msgspec.DecodeError("no name")
        start = match.end()
        place = start + memoryview(raw).nbytes
        found.append((str(name), at + match.start(1), Span(at + start, at + place)))
    after = [lead + 1 for _, lead, _ in found[1:]] + [at + place]
    return [Member(*member, behind) for member, behind in zip(found, after, strict=False)]


def elements(text: bytes, at: int = 0) -> list[Span]:
    """Return every element of the small array `text`; `at` is added to each place."""
    found = []
    read = ELEMENTS.decode(readable(text))
    place = text.index(b"[") + 1
    for raw in read:
        match = _BETWEEN.match(text, place)
        start = place if match is None else match.end()
        place = start + memoryview(raw).nbytes
        found.append(Span(at + start, at + place))
    return found


def is_large(part: Span) -> bool:
    """Return whether the part is too long to be read in one step."""
    return part.end - part.start > BLOCK + _ESCAPE


def decode_in_steps(text: bytes) -> Generator[None, None, None]:
    """Raise UnicodeDecodeError if the text is not UTF-8."""
    if text.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(text), _DECODED):
        decoder.decode(text[start : start + _DECODED])
        yield
    decoder.decode(b"", final=True)


def check_in_steps(text: bytes) -> Generator[None, None, None]:
    """Raise one of UNREADABLE if the text is not one JSON object nested at most MAX_DEPTH deep.

    The text is cut at commas. A piece between two commas is valid exactly if it is valid JSON after the
    containers that are open there are opened before it and closed behind it: of `{"a":[1,2],"b":3}`, cut at
    its commas, `{"a":[1,0]}`, `{"":[0,2],"":0}` and `{"":0,"b":3}` are read.
    """
    open_, first = bytearray(), b""
    unread = [b""]
    for start, masked in _masked(text, Span(0, len(text))):
        block = readable(text[start : start + len(masked)])
        # Strings, numbers and blanks may be as long as the text: a block of one is read, and left out.
        if not masked.strip(b"\0"):
            VALUE.decode(b'"%b"' % block)
            yield
            continue
        if block.isdigit() or not block.strip(BLANKS):
            block = block[:2]
        cut = masked.rfind(b",") + 1
        brackets = masked[:cut].translate(None, _NO_BRACKETS)
        _nest(open_, brackets)
        first = first or brackets[:1]
        if cut:
            VALUE.decode(b"".join((*unread, block[:cut], _closed(open_))))
            unread = [bytes(open_).replace(b"{", b'{"":'), b"0,"]
        unread.append(block[cut:])
        brackets = masked[cut:].translate(None, _NO_BRACKETS)
        _nest(open_, brackets)
        first = first or brackets[:1]
        yield
    VALUE.decode(b"".join(unread))
    if first != b"{":
        raise msgspec.DecodeError("not an object")


def parts_in_steps(text: bytes, container: Span, most: int | None = None) -> Generator[None, None, Parts]:
    """Return the container at a place of a text that was checked, in parts.

    Raises TooManyError if it has more than `most` elements.
    """
    inside = Span(container.start + 1, container.end - 1)
    spans, depth, begun, commas, empty = [], 0, inside.start, 0, True
    for start, masked in _masked(text, inside):
        empty = empty and not masked.strip(BLANKS)
        brackets = masked.translate(None, _NO_BRACKETS).translate(_STEPS)
        depths = list(accumulate(memoryview(brackets).cast("b"), initial=depth))
        if min(depths):
            depth = depths[-1]
            yield
            continue
        found: list[int] = []
        place = 0
        for bracket in _BRACKET.finditer(masked):
            if not depth:
                commas += _note_commas(masked, place, bracket.start(), found)
            depth += 1 if bracket[0] in _OPENING else -1
            place = bracket.end()
        if not depth:
            commas += _note_commas(masked, place, len(masked), found)
        if most is not None and commas >= most:
            raise TooManyError
        # Cut at the first and the last comma: an element longer than a block is a part of its own.
        for cut in dict.fromkeys((start + found[0], start + found[-1])) if found else ():
            spans.append(Span(begun, cut))
            begun = cut + 1
        yield
    return Parts([], 0) if empty else Parts([*spans, Span(begun, inside.end)], commas + 1)


def member_in_steps(text: bytes, part: Span) -> Generator[None, None, Member]:
    """Return the one member of which a part of an object consists; it may be large.

    A name longer than a block is not read, and left empty: no name that matters is so long.
    """
    colon = -1
    for start, masked in _masked(text, part):
        if b":" in masked:
            colon = start + masked.index(b":")
            break
        yield
    name = yield from trimmed_in_steps(text, Span(part.start, colon))
    value = yield from trimmed_in_steps(text, Span(colon + 1, part.end))
    short = name.end - name.start <= BLOCK
    read = NAME.decode(readable(text[name.start : name.end])) if short else ""
    return Member(read, name.start, value, value.end)


def trimmed_in_steps(text: bytes, span: Span) -> Generator[None, None, Span]:
    """Return `span` without the blanks at its ends, which may be long."""
    start, end = span
    while start < end and not text[start : min(start + BLOCK, end)].strip(BLANKS):
        start = min(start + BLOCK, end)
        yield
    while start < end and not text[max(end - BLOCK, start) : end].strip(BLANKS):
        end = max(end - BLOCK, start)
        yield
    head, tail = text[start : min(start + BLOCK, end)], text[max(end - BLOCK, start) : end]
    return Span(start + len(head) - len(head.lstrip(BLANKS)), end - len(tail) + len(tail.rstrip(BLANKS)))


def _note_commas(masked: bytes, start: int, end: int, found: list[int]) -> int:
    """Append the first and the last comma between two places; return how many commas there are."""
    first = masked.find(b",", start, end)
    if first < 0:
        return 0
    found += (first, masked.rfind(b",", start, end))
    return masked.count(b",", start, end)


def _nest(open_: bytearray, brackets: bytes) -> None:
    """Open and close containers in the stack `open_`."""
    for bracket in brackets:
        if bracket in _OPENING:
            open_.append(bracket)
            if len(open_) > MAX_DEPTH:
                raise msgspec.DecodeError("nested too deep")
        elif not open_:
            raise msgspec.DecodeError("closed but not open")
        else:
            open_.pop()


def _closed(open_: bytearray) -> bytes:
    """Return the bytes that complete a text that ends behind a comma to valid JSON."""
    if not open_:
        raise msgspec.DecodeError("a comma outside")
    element = b"0" if open_[-1] == _OPENING[0] else b'"":0'
    return element + bytes(reversed(open_)).translate(_CLOSERS)


def _masked(text: bytes, span: Span) -> Iterator[tuple[int, bytes]]:
    """Yield blocks of a text with their places; every byte between two quotes is replaced by NUL."""
    inside, start = 0, span.start
    while start < span.end:
        block = text[start : _uncut(text, start, min(start + BLOCK, span.end))]
        plain = block.replace(b"\\\\", b"__").replace(b'\\"', b"__") if b"\\" in block else block
        runs = plain.split(b'"')
        strings = runs[1 - inside :: 2]
        if b"".join(strings).translate(None, _PLAIN) or inside > len(runs) - 1:
            runs[1 - inside :: 2] = map(bytes, map(len, strings))
            yield start, b'"'.join(runs)
        else:
            yield start, plain
        inside ^= (len(runs) - 1) & 1
        start += len(block)


def _uncut(text: bytes, start: int, end: int) -> int:
    """Return the end of a block, at `end` or a little later, so that no escape is cut apart."""
    last = text.rfind(b"\\", max(start, end - _ESCAPE), end)
    if last < 0 or (last - start - len(text[start:last].rstrip(b"\\"))) % 2:
        return end
    return max(end, last + (6 if text[last + 1 : last + 2] == b"u" else 2))
