"""Bodies, taken out of the bytes that frame them (RFC 9112 sections 6 and 7). Pure.

Rules kept here:
- A chunk's size is 1 to 16 hexadecimal digits, and each line ends in CR LF. Nothing else is read as a chunk.
- Extensions of chunks, and trailers, are checked and dropped. Each line with a size is bounded, and so are
  all trailers together. A client gains no time by them: the pace of its connection counts the body alone.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from gateway.wire.errors import BadFramingError
from gateway.wire.grammar import FIELD_LINE, TOKEN, has_stray

_CRLF: Final = b"\r\n"
_MAX_TRAILERS: Final = 64 * 1024
# The longest line with a size that Go's net/http reads.
_MAX_LINE: Final = 4096
# No possessive group: Python before 3.11.5 does not go back to where one began (gh-106052).
_QUOTED: Final = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_EXTENSION: Final = rb";" + TOKEN + rb"(?:=(?:" + TOKEN + rb"|" + _QUOTED + rb"))?"
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:" + _EXTENSION + rb")*\r\n")
_SIZE_BEGINS: Final = re.compile(rb"[0-9A-Fa-f]")


class FramedBody:
    """The bytes of a body that have come and that nobody has taken; `complete` says that all have come."""

    __slots__ = ("_parts", "complete")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.complete = False

    def read(self, text: bytes, at: int, new: int) -> int:
        """Read from index `at` of `text` on; return the index behind what was read.

        What is left of `text` is behind the body, or it is a line of its framing that is not whole. Pass such
        a line again, with more behind it; `new` is the index behind the bytes that were passed before.
        Raises BadFramingError.
        """
        raise NotImplementedError

    def take(self) -> bytes:
        """Return what has come and was not taken; it is held no longer."""
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)


class SizedBody(FramedBody):
    """A body of `length` bytes."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        super().__init__()
        self._left = length
        self.complete = length == 0

    def read(self, text: bytes, at: int, new: int) -> int:
        """Read from index `at` of `text` on, as `FramedBody` says."""
        end = min(at + self._left, len(text))
        self._parts.append(text[at:end])
        self._left -= end - at
        self.complete = self._left == 0
        return end


NO_BODY: Final = SizedBody(0)
"""The body of a request that has none. It is complete, so nothing is read into it."""


class _Part(enum.Enum):
    """The part of a chunked body that comes next."""

    SIZE = "the line with the size of a chunk"
    DATA = "the rest of a chunk's data"
    DATA_END = "the end of a line behind a chunk's data"
    TRAILER = "a trailer, or the empty line that ends the body"


# By their own names as well: to look a member up in its enum takes 0.1 us, and each chunk does so.
_SIZE: Final = _Part.SIZE
_DATA: Final = _Part.DATA
_DATA_END: Final = _Part.DATA_END
_TRAILER: Final = _Part.TRAILER


class ChunkedBody(FramedBody):
    """A body in chunks."""

    __slots__ = ("_left", "_part", "_trailers")

    def __init__(self) -> None:
        super().__init__()
        self._part = _SIZE
        # Bytes that are to come of a chunk, and those that came of trailers.
        self._left = 0
        self._trailers = 0

    def read(self, text: bytes, at: int, new: int) -> int:
        """Read from index `at` of `text` on, as `FramedBody` says."""
        while at < len(text) and not self.complete:
            before = at
            part = self._part
            if part is _DATA:
                at = self._read_data(text, at)
            elif part is _SIZE:
                at = self._read_size(text, at, new)
            elif part is _DATA_END:
                at = self._read_data_end(text, at)
            else:
                at = self._read_trailer(text, at, new)
            if at == before:
                break
        return at

    def _read_size(self, text: bytes, at: int, new: int) -> int:
        if not _line_ends(text, at, new):
            if not _SIZE_BEGINS.match(text, at):
                raise BadFramingError
            return at
        found = _SIZE_LINE.match(text, at)
        if found is None:
            raise BadFramingError
        size, start = int(found[1], 16), found.end()
        if size and text.startswith(_CRLF, start + size):
            # It is whole, as most small ones are: their number costs, and not their bytes.
            self._parts.append(text[start : start + size])
            return start + size + len(_CRLF)
        self._left = size
        self._part = _DATA if size else _TRAILER
        return start

    def _read_data(self, text: bytes, at: int) -> int:
        end = min(at + self._left, len(text))
        self._parts.append(text[at:end])
        self._left -= end - at
        if not self._left:
            self._part = _DATA_END
        return end

    def _read_data_end(self, text: bytes, at: int) -> int:
        if text.startswith(_CRLF, at):
            self._part = _SIZE
            return at + len(_CRLF)
        if text[at:] != _CRLF[:1]:
            raise BadFramingError
        return at

    def _read_trailer(self, text: bytes, at: int, new: int) -> int:
        if text.startswith(_CRLF, at):
            self.complete = True
            return at + len(_CRLF)
        if not _line_ends(text, at, new):
            return at
        found = FIELD_LINE.match(text, at)
        if found is None:
            raise BadFramingError
        self._trailers += found.end() - at
        if self._trailers > _MAX_TRAILERS:
            raise BadFramingError
        return found.end()


def _line_ends(text: bytes, at: int, new: int) -> bool:
    """Return whether the line that begins at `at` is whole, of which the bytes from `new` on have just come.

    Raises BadFramingError if it cannot become one.
    """
    if text.find(_CRLF, max(at, new - 1), at + _MAX_LINE) >= 0:
        return True
    if len(text) - at >= _MAX_LINE or has_stray(text, new, at):
        raise BadFramingError
    return False
