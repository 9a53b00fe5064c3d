"""Segments in, requests out: aiohttp's C parser under the gateway's own framing rules.

Rules kept here:
- What the parser lets through and two servers could read apart is refused too: any Transfer-Encoding
  but exactly `chunked` on 1.1, versions other than 1.0 and 1.1, CONNECT (RFC 9112 section 6.1).
- A segment is judged whole: a good request goes with a malformed successor in its segment.
- A trailer never reaches the next request. The parser would hand it over as a header of the next
  message, so a chunked message gets a parser that no other message is fed to after it.
- The parser calls `resume_reading` from inside its own callback; it gets a stand-in here that does
  nothing, and the body is taken from its payload after each segment.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any

from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import HttpRequestParser

from gateway.errors import Code, GatewayError

# Larger than any segment, so that the parser never pauses inside one.
_NO_PAUSE = 1 << 30
_MAX_LINE = 8190
_MAX_HEADERS = 128
_CHUNKED = b"chunked"
# Empty lines in one segment that is read in pieces: each costs a call of the parser.
_MOST_ENDS = 16_384
_SEAM = len(_CHUNKED) - 1
# The lookahead finds overlapping ones, as in CR LF CR LF CR LF.
_EMPTY_LINE = re.compile(rb"\r\n(?=(\r\n))")

Parsed = tuple[Any, Any]
"""The parser's message, and its payload; aiohttp gives neither a documented type."""


class _NoFlow:
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
        _NoFlow(),  # type: ignore[arg-type]  # the parser and its payloads use no more of it
        loop,
        _NO_PAUSE,
        max_line_size=_MAX_LINE,
        max_headers=_MAX_HEADERS,
        max_field_size=_MAX_LINE,
        auto_decompress=False,
    )


class RequestReader:
    """Reads the requests of one connection."""

    __slots__ = ("_body", "_chunked", "_chunks_seen", "_loop", "_parser", "_seam", "partial")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser = request_parser(loop)
        self._seam = b""
        self._chunks_seen = False
        self._chunked: Any = None
        self._body: Any = None
        self.partial = 0
        """Bytes of a head that is not whole."""

    def feed(self, data: bytes) -> list[Parsed]:
        """The requests whose heads end in `data`; their payloads hold what came of their bodies.

        Raises GatewayError(MALFORMED_REQUEST or HEAD_TOO_LARGE); then nothing more may be fed.
        """
        in_body = self._body is not None and not self._body.is_eof()
        try:
            messages = self._feed(data)
        except LineTooLong as problem:
            raise GatewayError(Code.HEAD_TOO_LARGE) from problem
        except Exception as problem:  # whatever the parser raises is a malformed request
            raise GatewayError(Code.MALFORMED_REQUEST) from problem
        for message, _ in messages:
            if not _well_framed(message):
                raise GatewayError(Code.MALFORMED_REQUEST)
        if messages:
            self._body = messages[-1][1]
        self.partial = 0 if messages or in_body else self.partial + len(data)
        return messages

    def _feed(self, data: bytes) -> list[Parsed]:
        seam, self._seam = self._seam, data[-_SEAM:] if len(data) >= _SEAM else (self._seam + data)[-_SEAM:]
        if not self._chunks_seen:
            self._chunks_seen = _CHUNKED in data or _CHUNKED in seam + data[:_SEAM]
        if not self._chunks_seen:
            messages, _, _ = self._parser.feed_data(data)
            return list(messages)
        ends = _ends(seam, data)
        if len(ends) > _MOST_ENDS:
            raise GatewayError(Code.MALFORMED_REQUEST)
        return self._feed_pieces(data, ends)

    def _feed_pieces(self, data: bytes, ends: Iterable[int]) -> list[Parsed]:
        """Feed a piece up to each place where a chunked message can end, and change parsers there."""
        messages: list[Parsed] = []
        start = 0
        for end in ends:
            parsed, _, _ = self._parser.feed_data(data[start:end])
            start = end
            for message, payload in parsed:
                messages.append((message, payload))
                self._chunked = payload if message.chunked else None
            if self._chunked is not None and self._chunked.is_eof():
                self._chunked = None
                self._parser = request_parser(self._loop)
        return messages


def _ends(seam: bytes, data: bytes) -> list[int]:
    """Every index in `data` behind an empty line, where alone a chunked message can end, and its length.

    `seam` is what came right before `data`: the empty line may begin in it.
    """
    seam = seam[-3:]
    text = seam + data
    ends = [found.end(1) - len(seam) for found in _EMPTY_LINE.finditer(text)]
    return ends if ends and ends[-1] == len(data) else [*ends, len(data)]


def _well_framed(message: Any) -> bool:
    """Whether a message that the parser let through is one that no two servers read apart."""
    version = message.version
    if version.major != 1 or version.minor > 1 or message.method == "CONNECT":
        return False
    if not message.chunked:
        return True
    values = [value for name, value in message.raw_headers if name.lower() == b"transfer-encoding"]
    return version.minor == 1 and values == [_CHUNKED]
