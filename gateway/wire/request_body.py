"""The body of one request, on its way in from the client.

Rules kept here:
- A body is buffered under a limit, or flows to a sink as it comes; never both.
- Until somebody asks for a body it is held up to a bound, then the client is held back.
- What is buffered is counted as it comes, never as it was announced.
- `100 Continue` is sent only once the body is wanted (RFC 9110 section 10.1.1).
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from gateway.errors import GatewayError
from gateway.wire.body_framing import FramedBody
from gateway.wire.errors import BodyTooLargeError
from gateway.wire.request_head import RequestHead

UNASKED_BODY: Final = 64 * 1024
"""Bytes of a body that are held before anybody asks for it."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ContinueWriter(Protocol):
    """The way out to the client, which may wait to be asked for its body."""

    def write(self, data: bytes) -> None:
        """Send bytes, if the client is still there."""


class BodySource(Protocol):
    """The input that a body comes from."""

    loop: asyncio.AbstractEventLoop

    def pause_reading(self) -> None:
        """Hold back the client."""

    def resume_reading(self) -> None:
        """Let the client send on."""

    @property
    def writer(self) -> ContinueWriter:
        """The way out to the client."""


class RequestBodySink(Protocol):
    """The taker of a request's body that flows, called from the connection's callbacks."""

    def feed(self, data: bytes, *, last: bool) -> None:
        """Take bytes of the body."""

    def break_off(self) -> None:
        """Take note that the body will not come to its end."""


class BufferMeter(Protocol):
    """Counts the bytes of a body that is buffered."""

    def grow(self, size: int) -> None:
        """Count `size` more bytes. Raises GatewayError if they are not to be had."""


class RequestBody:
    """The body of one request.

    `length` is the number of bytes that the client announced, None for a chunked body. `complete` says that
    all of it has come, and `broken` why it will not come to its end, if so. `began` is when it began, in
    seconds of the loop's clock, plus the time for which the client was held back.
    """

    __slots__ = (
        "_chunks",
        "_expects",
        "_framed",
        "_held",
        "_meter",
        "_sink",
        "_source",
        "_uncounted",
        "_waiter",
        "began",
        "broken",
        "bytes_in",
        "complete",
        "length",
    )

    def __init__(self, source: BodySource, head: RequestHead, framed: FramedBody, began: float) -> None:
        self._source = source
        self._framed = framed
        self._chunks: list[bytes] = []
        self._held = 0
        self._waiter: asyncio.Future[None] | None = None
        self._meter: BufferMeter | None = None
        self._sink: RequestBodySink | None = None
        self._uncounted: GatewayError | None = None
        self.broken: Exception | None = None
        self.complete = framed.complete
        self.length = head.length
        self.bytes_in = 0
        self.began = began
        self._expects = not framed.complete and head.expects_continue

    # From the connection.

    @property
    def streams(self) -> bool:
        """True while the body flows to a sink."""
        return self._sink is not None

    @property
    def unasked(self) -> int:
        """Bytes of the body that are held, and that nobody has asked for."""
        return self._held if self._meter is None else 0

    def take(self) -> None:
        """Take what has come of the body out of its framing."""
        data = self._framed.take()
        self.bytes_in += len(data)
        self.complete = self._framed.complete
        if self._sink is not None:
            self._sink.feed(data, last=self.complete)
            return
        if data:
            self._chunks.append(data)
            self._held += len(data)
        if self._meter is not None:
            self._count(len(data))
        if self._waiter is not None:
            self._wake()
        elif self._held > UNASKED_BODY and not self.complete:
            self._source.pause_reading()

    def was_held_back(self, seconds: float) -> None:
        """Take note that the client was held back for so long."""
        self.began += seconds

    def break_off(self, problem: Exception) -> None:
        """Raise `problem` where the body is waited for: it will not come to its end."""
        if self.complete:
            return
        self.broken = problem
        self._wake()
        if self._sink is not None:
            sink, self._sink = self._sink, None
            sink.break_off()

    # For the request's handler.

    async def collect(self, limit: int, meter: BufferMeter) -> None:
        """Hold what comes of the body until it is whole, or more than `limit` bytes have come.

        Raises BadFramingError or RequestTimeoutError if the body does not come whole, ClientGoneError if the
        client left, and what `meter` raises, after which the body can still be streamed.
        """
        meter.grow(self._held)
        self._meter = meter
        while not self.complete and self.broken is None and self._meter is not None and self._held <= limit:
            self._waiter = self._source.loop.create_future()
            # Each time: more may have come in one turn of the loop than is held, and stopped the reading.
            self._let_come()
            await self._waiter
        if self.broken is not None:
            raise self.broken
        if self._uncounted is not None:
            raise self._uncounted

    async def read(self, limit: int, meter: BufferMeter) -> bytes:
        """Return the whole body, of at most `limit` bytes.

        Raises what `collect` raises, and BodyTooLargeError as soon as that is known.
        """
        if self.length is not None and self.length > limit:
            raise BodyTooLargeError
        await self.collect(limit, meter)
        if self._held > limit:
            raise BodyTooLargeError
        return self.take_buffered()

    def take_buffered(self) -> bytes:
        """Return what has come of the body and was not taken yet; it is held no longer."""
        if not self._chunks:
            return b""
        chunks, self._chunks, self._held = self._chunks, [], 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def stream(self, sink: RequestBodySink) -> None:
        """Hand the body to `sink` as it comes."""
        self._meter = None
        if self.broken is not None:
            sink.break_off()
            return
        if not self.complete:
            self._sink = sink
            # Before the sink is fed, for it may hold the client back again.
            self._let_come()
        if self._held or self.complete:
            sink.feed(self.take_buffered(), last=self.complete)

    def stop(self) -> None:
        """Take no more of the body: the response is there."""
        self._sink = None

    def pause_reading(self) -> None:
        """Hold back the client."""
        self._source.pause_reading()

    def resume_reading(self) -> None:
        """Let the client send on."""
        self._source.resume_reading()

    def _count(self, size: int) -> None:
        try:
            if self._meter is not None:
                self._meter.grow(size)
        except GatewayError as refusal:
            self._meter, self._uncounted = None, refusal
            self._wake()

    def _let_come(self) -> None:
        if self._expects:
            self._expects = False
            self._source.writer.write(_CONTINUE)
        self._source.resume_reading()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
