"""Describes the syntax error of a body that is not JSON, in the words of Go's `encoding/json`.

Rules kept here:
- Only the first value is checked: Core ignores what follows it.
- Bytes are named one by one, as Go does (a BOM is 'ï').
- It is called only after a parser has refused a body. A long body is not searched, because that would block
  the event loop.
"""

from __future__ import annotations

import re
from typing import Final

# Some 2.5 ms of work; long enough to reach Go's own limit of nesting.
MAX_SEARCHED: Final = 10_240
MAX_DEPTH: Final = 10_000

_BLANKS: Final = re.compile(rb"[ \t\r\n]*")
_STRING: Final = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*')
_ESCAPED: Final = re.compile(rb"\\(?:u[0-9A-Fa-f]{0,3})?")
_LITERALS: Final = {b"t": b"true", b"f": b"false", b"n": b"null"}
_NUMBER: Final = (
    # Each part of a number: its beginning, the digits that must follow, and Go's words for the place.
    (re.compile(rb"-?"), re.compile(rb"0|[1-9][0-9]*"), "in numeric literal"),
    (re.compile(rb"\."), re.compile(rb"[0-9]+"), "after decimal point in numeric literal"),
    (re.compile(rb"[eE][+-]?"), re.compile(rb"[0-9]+"), "in exponent of numeric literal"),
)
_NAMED: Final = {
    0x07: r"\a",
    0x08: r"\b",
    0x09: r"\t",
    0x0A: r"\n",
    0x0B: r"\v",
    0x0C: r"\f",
    0x0D: r"\r",
    0x27: r"\'",
    0x5C: r"\\",
}


class _FaultError(Exception):
    """The text is not JSON; the message has the reason."""


def syntax_fault(body: bytes) -> str | None:
    """Return Go's message about the first value of `body`; None if it is valid or `body` is over 10 KiB."""
    if len(body) > MAX_SEARCHED:
        return None
    try:
        _Search(body).value_at(0)
    except _FaultError as fault:
        return str(fault)
    return None


class _Search:
    """One walk over a text; every method takes a position and returns the next one."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def value_at(self, position: int) -> int:
        """Walk over one value, without recursion, so that deep nesting uses no stack."""
        position = self._skip(position)
        if position == len(self._text):
            raise _FaultError("EOF")
        closers: list[bytes] = []
        position = self._begin(position, closers)
        while closers:
            position = self._step(position, closers)
        return position

    def _begin(self, position: int, closers: list[bytes]) -> int:
        """Walk over a scalar, or over the opening of a list or object, whose end is pushed to `closers`."""
        first = self._text[position : position + 1]
        if first in (b"{", b"["):
            if len(closers) == MAX_DEPTH:
                raise self._fault(position, "exceeded max depth")
            closers.append(b"}" if first == b"{" else b"]")
            return position + 1
        if first == b'"':
            return self._string(position)
        if first in _LITERALS:
            return self._literal(position, _LITERALS[first])
        if first == b"-" or first.isdigit():
            return self._number(position)
        raise self._fault(position, "looking for beginning of value")

    def _step(self, position: int, closers: list[bytes]) -> int:
        """Walk, in a list or object, over its end or over the next value with the comma before it."""
        # No value ends with an opening bracket, so one right before means that the container is empty so far.
        opened = self._text[position - 1 : position] in (b"{", b"[")
        position = self._skip(position)
        if self._at(position, closers[-1]):
            closers.pop()
            return position + 1
        if not opened:
            if not self._at(position, b","):
                in_object = closers[-1] == b"}"
                where = "after object key:value pair" if in_object else "after array element"
                raise self._fault(position, where)
            position = self._skip(position + 1)
        return self._element(position, closers)

    def _element(self, position: int, closers: list[bytes]) -> int:
        """Walk over a value, and over its key if it is in an object."""
        if closers[-1] == b"}":
            if not self._at(position, b'"'):
                raise self._fault(position, "looking for beginning of object key string")
            position = self._skip(self._string(position))
            if not self._at(position, b":"):
                raise self._fault(position, "after object key")
            position = self._skip(position + 1)
        return self._begin(position, closers)

    def _string(self, position: int) -> int:
        position = self._over(_STRING, position)
        if self._at(position, b'"'):
            return position + 1
        if not self._at(position, b"\\"):
            raise self._fault(position, "in string literal")
        after = self._over(_ESCAPED, position)
        if after == position + 1:
            raise self._fault(after, "in string escape code")
        raise self._fault(after, "in \\u hexadecimal character escape")

    def _literal(self, position: int, literal: bytes) -> int:
        for offset in range(1, len(literal)):
            wanted = literal[offset : offset + 1]
            if not self._at(position + offset, wanted):
                where = f"in literal {literal.decode()} (expecting '{wanted.decode()}')"
                raise self._fault(position + offset, where)
        return position + len(literal)

    def _number(self, position: int) -> int:
        for beginning, digits, where in _NUMBER:
            begun = beginning.match(self._text, position)
            if begun is None:
                continue
            matched = digits.match(self._text, begun.end())
            if matched is None:
                raise self._fault(begun.end(), where)
            position = matched.end()
        return position

    def _skip(self, position: int) -> int:
        return self._over(_BLANKS, position)

    def _over(self, pattern: re.Pattern[bytes], position: int) -> int:
        """Return the position behind the match of the pattern."""
        match = pattern.match(self._text, position)
        return match.end() if match else position

    def _at(self, position: int, text: bytes) -> bool:
        return self._text.startswith(text, position)

    def _fault(self, position: int, where: str) -> _FaultError:
        if position >= len(self._text):
            return _FaultError("unexpected EOF")
        return _FaultError(f"invalid character {_quote(self._text[position])} {where}")


def _quote(byte: int) -> str:
    """Quote the code point that the byte is in latin-1, as Go's `quoteChar` does."""
    if byte in _NAMED:
        return f"'{_NAMED[byte]}'"
    if byte < 0x20 or byte == 0x7F:
        return f"'\\x{byte:02x}'"
    if 0x80 <= byte <= 0xA0 or byte == 0xAD:
        return f"'\\u{byte:04x}'"
    return f"'{chr(byte)}'"
