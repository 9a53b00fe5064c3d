"""Segments in, requests out: aiohttp's C parser under the gateway's own framing rules.

Rules kept here:
- A message is refused that the parser accepts and two servers could read differently: any Transfer-Encoding
  but exactly `chunked` on 1.1, versions other than 1.0 and 1.1, CONNECT (RFC 9112 section 6.1).
- A segment is judged whole: a good request is refused with a malformed successor in its segment.
- A whole head is at most MAX_HEAD bytes long, and so is what came of one that is not whole.
- A trailer never reaches the next request. The parser would hand it over as a header of the next message, so
  no other message is fed to the parser of a chunked one after it.
- A head that the parser refuses is read once more with placeholders (`head_by_head`), and the whole
  connection from then on.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Final

from aiohttp.http_exceptions import LineTooLong

from gateway.wire.aiohttp_parser import Parsed, bytes_left, new_parser
from gateway.wire.errors import BadFramingError, HeadTooLargeError
from gateway.wire.head_by_head import HeadByHead
from gateway.wire.request_heads import END_SEAM, HEAD_END, MAX_HEAD, behind_empty_lines, bounded, malformed

_CHUNKED: Final = b"chunked"
# Empty lines in one segment that is read in pieces: each costs a call of the parser.
_MOST_ENDS: Final = 16_384
_SEAM: Final = len(_CHUNKED) - 1
# The lookahead finds overlapping ones, as in CR LF CR LF CR LF.
_EMPTY_LINE: Final = re.compile(rb"\r\n(?=(\r\n))")

__all__ = ["Parsed", "RequestReader"]


class RequestReader:
    """Reads the requests of one connection."""

    __slots__ = ("_again", "_body", "_chunks_seen", "_head", "_loop", "_parser", "_seam")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser = new_parser(loop)
        self._seam = b""
        self._chunks_seen = False
        # What came of a head that is not whole, and the message whose body is not.
        self._head = b""
        self._body: Parsed | None = None
        self._again: HeadByHead | None = None

    @property
    def partial(self) -> int:
        """Bytes that are held of a head that is not whole yet."""
        return len(self._head) if self._again is None else len(self._again.head)

    def feed(self, data: bytes) -> Sequence[Parsed]:
        """Return the requests whose heads end in `data`; their payloads hold what came of their bodies.

        Raises BadFramingError or HeadTooLargeError; then nothing more may be fed.
        """
        messages = self._feed(data) if self._again is None else self._again.feed(data)
        for message, _ in messages:
            _check_framing(message)
        return messages

    def close(self) -> None:
        """Drop what is held; nothing may be fed any more."""
        self._parser = None
        self._body = self._again = None
        self._head = b""

    def _feed(self, data: bytes) -> Sequence[Parsed]:
        seam, self._seam = self._seam, data[-_SEAM:] if len(data) >= _SEAM else (self._seam + data)[-_SEAM:]
        if not self._chunks_seen:
            self._chunks_seen = data.find(_CHUNKED) >= 0 or (seam + data[:_SEAM]).find(_CHUNKED) >= 0
        if not self._chunks_seen:
            return self._feed_piece(data, 0, len(data))
        ends = _ends(seam, data)
        if len(ends) > _MOST_ENDS:
            raise BadFramingError
        messages: list[Parsed] = []
        start = 0
        for end in ends:
            messages += self._feed_piece(data, start, end)
            start = end
            if self._again is not None:
                break
        return messages

    def _feed_piece(self, segment: bytes, start: int, end: int) -> Sequence[Parsed]:
        """Feed a piece that ends at most one chunked message; read all behind it again if it is refused."""
        data = segment[start:end]
        left = 0 if self._body is None else bytes_left(self._body)
        parsed: Sequence[Parsed]
        try:
            parsed, _, _ = self._parser.feed_data(data)
        except LineTooLong as problem:
            raise HeadTooLargeError from problem
        except Exception as problem:  # whatever the parser raises is a malformed request
            return self._read_again(segment[start + left :], problem)
        if not self._is_one_message(data, parsed):
            self._note_position(data, left, parsed)
        return parsed

    def _is_one_message(self, data: bytes, messages: Sequence[Parsed]) -> bool:
        """Return True if `data` is a request from its first byte to its last, as it nearly always is."""
        if self._body is not None or self._head or len(messages) != 1 or len(data) > MAX_HEAD:
            return False
        payload = messages[0][1]
        end: int = data.find(HEAD_END) + len(HEAD_END) + payload.total_bytes
        return end == len(data) and bool(payload.is_eof())

    def _note_position(self, data: bytes, left: int, messages: Sequence[Parsed]) -> None:
        """Keep the position: in a body, of which `left` bytes were to come, or in a head."""
        at = 0
        if self._body is not None:
            if not self._body[1].is_eof():
                return
            at = len(data) if self._body[0].chunked else left
            self._end_body()
        if not messages:
            self._head = bounded(self._head + data[at:])
            return
        text = self._head + data[at:] if self._head or at else data
        self._head = b""
        at = 0
        for message, payload in messages:
            end = _head_end(text, at)
            bounded(text[at:end])
            at = end + payload.total_bytes
            self._body = (message, payload)
        if payload.is_eof():
            self._end_body()
            # The bytes behind a request to change the protocol are not read.
            self._head = b"" if message.upgrade else bounded(text[at:])

    def _end_body(self) -> None:
        if self._body is not None and self._body[0].chunked:
            self._parser = new_parser(self._loop)
        self._body = None

    def _read_again(self, data: bytes, problem: Exception) -> list[Parsed]:
        """Read all behind the last whole message again. Raises BadFramingError if that does not help."""
        if self._body is not None and (self._body[0].chunked or not self._body[1].is_eof()):
            raise BadFramingError from problem
        again = HeadByHead(self._loop)
        messages = again.feed(self._head + data)
        if not again.replaced:
            raise malformed(again.head) from problem
        self._again = again
        return messages


def _head_end(text: bytes, at: int) -> int:
    """Return the end of the head that begins at `at`, or behind empty lines there."""
    end = text.find(HEAD_END, behind_empty_lines(text, at))
    if end < 0:
        raise BadFramingError
    return end + len(HEAD_END)


def _ends(seam: bytes, data: bytes) -> list[int]:
    """Return every index in `data` behind an empty line, and the length of `data`.

    A chunked message can end only there. `seam` is what came right before `data`: the empty line may begin in
    it.
    """
    seam = seam[-END_SEAM:]
    text = seam + data
    ends = [found.end(1) - len(seam) for found in _EMPTY_LINE.finditer(text)]
    return ends if ends and ends[-1] == len(data) else [*ends, len(data)]


def _check_framing(message: Any) -> None:
    """Raise BadFramingError for a message that the parser accepts and two servers could read differently."""
    version = message.version
    if version.major != 1 or version.minor > 1 or message.method == "CONNECT":
        raise BadFramingError
    # The parser takes an empty one for none.
    if not message.chunked and "Transfer-Encoding" not in message.headers:
        return
    values = [value for name, value in message.raw_headers if name.lower() == b"transfer-encoding"]
    if values != [_CHUNKED]:
        raise BadFramingError.because("header Transfer-Encoding is not exactly chunked")
    if version.minor != 1:
        raise BadFramingError.because("header Transfer-Encoding is not of HTTP/1.0")
