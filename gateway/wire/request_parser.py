"""Segments in, requests out: aiohttp's C parser under the gateway's own framing rules.

Rules kept here:
- What the parser lets through and two servers could read apart is refused too: any Transfer-Encoding
  but exactly `chunked` on 1.1, versions other than 1.0 and 1.1, CONNECT (RFC 9112 section 6.1).
- A segment is judged whole: a good request goes with a malformed successor in its segment.
- A whole head is at most MAX_HEAD bytes long, and so is what came of one that is not whole.
- A trailer never reaches the next request. The parser would hand it over as a header of the next
  message, so a chunked message gets a parser that no other message is fed to after it.
- A head that the parser refuses is read once more with placeholders (`wire.heads`), by a reader that feeds
  each head alone, and the whole connection from then on.
- The parser calls `resume_reading` from inside its own callback; it gets a stand-in here that does
  nothing, and the body is taken from its payload after each segment.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Final

from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import HttpRequestParser
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.wire import request_heads as heads
from gateway.wire.errors import BadFramingError, HeadTooLargeError
from gateway.wire.request_heads import HEAD_END, MAX_HEAD, malformed

# Larger than any segment, so that the parser never pauses inside one.
_NO_PAUSE: Final = 1 << 30
_CHUNKED: Final = b"chunked"
# Empty lines in one segment that is read in pieces: each costs a call of the parser.
_MOST_ENDS: Final = 16_384
_SEAM: Final = len(_CHUNKED) - 1
# Bytes of the empty line behind a chunked body that may have come in the segment before.
_END_SEAM: Final = len(HEAD_END) - 1
# Requests of one segment that are read again: each takes some 50 us.
_MOST_AGAIN: Final = 32
_EMPTY_LINES: Final = re.compile(rb"[\r\n]*")
# The lookahead finds overlapping ones, as in CR LF CR LF CR LF.
_EMPTY_LINE: Final = re.compile(rb"\r\n(?=(\r\n))")

Parsed = tuple[Any, Any]
"""The parser's message, and its payload; aiohttp gives neither a documented type."""


class _NotPausable:
    """What the parser believes to be its protocol."""

    _reading_paused = False
    connected = True

    def pause_reading(self) -> None:
        """Nothing: the body is taken after each segment."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Nothing: see the module's rules."""


def request_parser(loop: asyncio.AbstractEventLoop) -> Any:
    """aiohttp's C parser with the gateway's settings."""
    return HttpRequestParser(
        _NotPausable(),  # type: ignore[arg-type]  # the parser and its payloads use no more of it
        loop,
        _NO_PAUSE,
        max_line_size=heads.MAX_LINE,
        max_headers=heads.MAX_HEADERS,
        max_field_size=heads.MAX_LINE,
        auto_decompress=False,
    )


class RequestReader:
    """Reads the requests of one connection."""

    __slots__ = ("_again", "_body", "_chunks_seen", "_head", "_loop", "_parser", "_seam")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser = request_parser(loop)
        self._seam = b""
        self._chunks_seen = False
        # What came of a head that is not whole, and the message whose body is not.
        self._head = b""
        self._body: Parsed | None = None
        self._again: _HeadByHead | None = None

    @property
    def partial(self) -> int:
        """The bytes that are held of a head that is not whole yet."""
        return len(self._head) if self._again is None else len(self._again.head)

    def feed(self, data: bytes) -> Sequence[Parsed]:
        """The requests whose heads end in `data`; their payloads hold what came of their bodies.

        Raises GatewayError(MALFORMED_REQUEST or HEAD_TOO_LARGE); then nothing more may be fed.
        """
        messages = self._feed(data) if self._again is None else self._again.feed(data)
        for message, _ in messages:
            _check_framing(message)
        return messages

    def _feed(self, data: bytes) -> Sequence[Parsed]:
        seam, self._seam = self._seam, data[-_SEAM:] if len(data) >= _SEAM else (self._seam + data)[-_SEAM:]
        if not self._chunks_seen:
            self._chunks_seen = _CHUNKED in data or _CHUNKED in seam + data[:_SEAM]
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
        """Feed a piece that ends no more than one chunked message; where it is refused, all behind it."""
        data = segment[start:end]
        left = 0 if self._body is None else _left(self._body)
        parsed: Sequence[Parsed]
        try:
            parsed, _, _ = self._parser.feed_data(data)
        except LineTooLong as problem:
            raise HeadTooLargeError from problem
        except Exception as problem:  # whatever the parser raises is a malformed request
            return self._read_again(segment[start + left :], problem)
        if not self._is_one_message(data, parsed):
            self._note_place(data, left, parsed)
        return parsed

    def _is_one_message(self, data: bytes, messages: Sequence[Parsed]) -> bool:
        """Whether `data` is a request from its first byte to its last, as nearly always."""
        if self._body is not None or self._head or len(messages) != 1 or len(data) > MAX_HEAD:
            return False
        payload = messages[0][1]
        end: int = data.find(HEAD_END) + len(HEAD_END) + payload.total_bytes
        return end == len(data) and bool(payload.is_eof())

    def _note_place(self, data: bytes, left: int, messages: Sequence[Parsed]) -> None:
        """Keep where the connection stands: in a body, of which `left` bytes were to come, or in a head."""
        at = 0
        if self._body is not None:
            if not self._body[1].is_eof():
                return
            at = len(data) if self._body[0].chunked else left
            self._end_body()
        if not messages:
            self._head = _bounded(self._head + data[at:])
            return
        text = self._head + data[at:] if self._head or at else data
        self._head = b""
        at = 0
        for message, payload in messages:
            end = _head_end(text, at)
            _bounded(text[at:end])
            at = end + payload.total_bytes
            self._body = (message, payload)
        if payload.is_eof():
            self._end_body()
            # Behind a request to change the protocol comes what nobody reads.
            self._head = b"" if message.upgrade else _bounded(text[at:])

    def _end_body(self) -> None:
        if self._body is not None and self._body[0].chunked:
            self._parser = request_parser(self._loop)
        self._body = None

    def _read_again(self, data: bytes, problem: Exception) -> list[Parsed]:
        """Read from behind the last whole message on; raises GatewayError where that helps nothing."""
        if self._body is not None and (self._body[0].chunked or not self._body[1].is_eof()):
            raise BadFramingError from problem
        again = _HeadByHead(self._loop)
        messages = again.feed(self._head + data)
        if not again.replaced:
            raise malformed(again.head) from problem
        self._again = again
        return messages


class _HeadByHead:
    """Reads requests by feeding each head alone to a parser of its own, with placeholders at need.

    `head` is what came of a head that is not whole; `replaced` whether any head got placeholders.
    """

    __slots__ = ("_body", "_closed", "_loop", "_parser", "_seam", "head", "replaced")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser: Any = None
        self._body: Parsed | None = None
        self._seam = b""
        self._closed = False
        self.head = b""
        self.replaced = False

    def feed(self, data: bytes) -> list[Parsed]:
        """As `RequestReader.feed`."""
        before = self.head if self._body is None else self._seam
        text = before + data
        at = 0 if self._body is None else len(before)
        self.head = b""
        messages: list[Parsed] = []
        while at < len(text):
            if self._body is not None:
                at = self._feed_body(self._body, text, at)
                continue
            at = _behind_empty_lines(text, at)
            end = text.find(HEAD_END, at) + len(HEAD_END)
            if end < len(HEAD_END):
                self._hold(text[at:])
                break
            if len(messages) == _MOST_AGAIN:
                raise BadFramingError.because("too many requests at once with headers that are sent twice")
            messages.append(self._read(text[at:end]))
            at = len(text) if messages[-1][0].upgrade else end
        self._seam = text[-_END_SEAM:]
        return messages

    def _hold(self, head: bytes) -> None:
        if head and self._closed:
            raise BadFramingError
        self.head = _bounded(head)
        self.replaced = self.replaced or heads.with_placeholders(head) != head

    def _read(self, head: bytes) -> Parsed:
        if self._closed:
            raise BadFramingError
        fed = heads.with_placeholders(_bounded(head))
        self._parser = request_parser(self._loop)
        try:
            ((message, payload),), _, _ = self._parser.feed_data(fed)
        except LineTooLong as problem:
            raise HeadTooLargeError from problem
        except Exception as problem:  # whatever the parser raises is a malformed request
            raise malformed(head) from problem
        if fed != head:
            self.replaced = True
            message = _restored(message, head, fed)
        self._closed = message.should_close
        self._body = None if payload.is_eof() else (message, payload)
        return message, payload

    def _feed_body(self, body: Parsed, text: bytes, at: int) -> int:
        """Feed what stands at `at` up to where the body can end; returns where that is."""
        if body[0].chunked:
            # The empty line that ends it may begin before.
            end = text.find(HEAD_END, max(at - _END_SEAM, 0)) + len(HEAD_END)
            end = len(text) if end < len(HEAD_END) else end
        else:
            end = at + _left(body)
        try:
            parsed, _, _ = self._parser.feed_data(text[at:end])
        except Exception as problem:  # whatever the parser raises is a malformed request
            raise BadFramingError from problem
        if parsed:
            raise BadFramingError
        if body[1].is_eof():
            self._body = None
        return end


def _restored(message: Any, head: bytes, fed: bytes) -> Any:
    """The message that was read of `fed`, which is `head` with placeholders, with what `head` has there."""
    target = message.path.encode("utf-8", "surrogateescape")
    start = fed.index(target)
    path = head[start : start + len(target)].decode("utf-8", "surrogateescape")
    raw = list(message.raw_headers)
    for place, name in heads.own_names(head).items():
        raw[place] = (name, raw[place][1])
    read = [
        (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
        for name, value in raw
    ]
    headers = CIMultiDictProxy(CIMultiDict(read))
    return message._replace(path=path, raw_headers=tuple(raw), headers=headers)


def _left(body: Parsed | None) -> int:
    """How many bytes of a body are to come that is framed by its length."""
    if body is None or body[0].chunked:
        return 0
    message, payload = body
    return int(message.headers["Content-Length"]) - int(payload.total_bytes)


def _bounded(head: bytes) -> bytes:
    """`head`, whole or not; raises GatewayError where it is too long."""
    if len(head) > MAX_HEAD:
        raise HeadTooLargeError
    return head


def _behind_empty_lines(text: bytes, at: int) -> int:
    """Where the head begins that may have empty lines before it (RFC 9112 section 2.2)."""
    match = _EMPTY_LINES.match(text, at)
    return at if match is None else match.end()


def _head_end(text: bytes, at: int) -> int:
    """Where the head that begins at `at`, or behind empty lines there, ends."""
    end = text.find(HEAD_END, _behind_empty_lines(text, at))
    if end < 0:
        raise BadFramingError
    return end + len(HEAD_END)


def _ends(seam: bytes, data: bytes) -> list[int]:
    """Every index in `data` behind an empty line, where alone a chunked message can end, and its length.

    `seam` is what came right before `data`: the empty line may begin in it.
    """
    seam = seam[-_END_SEAM:]
    text = seam + data
    ends = [found.end(1) - len(seam) for found in _EMPTY_LINE.finditer(text)]
    return ends if ends and ends[-1] == len(data) else [*ends, len(data)]


def _check_framing(message: Any) -> None:
    """Raises GatewayError for a message that the parser let through and two servers could read apart."""
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
