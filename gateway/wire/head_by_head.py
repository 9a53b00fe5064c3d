"""Requests whose heads the parser refused, read once more with placeholders (`request_heads`).

Rules kept here:
- Each head is fed alone to a parser of its own: the place where each begins must be known.
- The parser judges every byte that frames or routes a message; a placeholder stands for none of those.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp.http_exceptions import LineTooLong
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.wire import request_heads as heads
from gateway.wire.aiohttp_parser import Parsed, bytes_left, new_parser
from gateway.wire.errors import BadFramingError, HeadTooLargeError
from gateway.wire.request_heads import END_SEAM, HEAD_END, behind_empty_lines, bounded, malformed

# Requests of one segment that are read again: each takes some 50 us.
_MOST_AGAIN: Final = 32


class HeadByHead:
    """Reads requests by feeding each head alone to a parser of its own, with placeholders if need be.

    `head` is what came of a head that is not whole; `replaced` says that a head got placeholders.
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
        """Return the requests whose heads end in `data`, as `RequestReader.feed` does."""
        before = self.head if self._body is None else self._seam
        text = before + data
        at = 0 if self._body is None else len(before)
        self.head = b""
        messages: list[Parsed] = []
        while at < len(text):
            if self._body is not None:
                at = self._feed_body(self._body, text, at)
                continue
            at = behind_empty_lines(text, at)
            end = text.find(HEAD_END, at) + len(HEAD_END)
            if end < len(HEAD_END):
                self._hold(text[at:])
                break
            if len(messages) == _MOST_AGAIN:
                raise BadFramingError.because("too many requests at once with headers that are sent twice")
            messages.append(self._read(text[at:end]))
            at = len(text) if messages[-1][0].upgrade else end
        self._seam = text[-END_SEAM:]
        return messages

    def _hold(self, head: bytes) -> None:
        if head and self._closed:
            raise BadFramingError
        self.head = bounded(head)
        self.replaced = self.replaced or heads.with_placeholders(head) != head

    def _read(self, head: bytes) -> Parsed:
        if self._closed:
            raise BadFramingError
        fed = heads.with_placeholders(bounded(head))
        self._parser = new_parser(self._loop)
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
        """Feed the bytes from `at` up to where the body can end; return where that is."""
        if body[0].chunked:
            # The empty line that ends it may begin before.
            end = text.find(HEAD_END, max(at - END_SEAM, 0)) + len(HEAD_END)
            end = len(text) if end < len(HEAD_END) else end
        else:
            end = at + bytes_left(body)
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
    """Return the message that was read from `fed`, with the bytes of `head` in place of the placeholders."""
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
