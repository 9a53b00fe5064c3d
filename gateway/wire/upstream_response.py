"""Core's response to one request, and the way of its body.

Rules kept here:
- A response cut short is a failure, never a short success.
- A body is kept until somebody takes it, then flows to a sink as it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.fairness.futures import fail
from gateway.wire.errors import UpstreamTimeoutError
from gateway.wire.upstream_head import UpstreamHead


class ResponseBodySink(Protocol):
    """The taker of a response's body, called from the connection's callbacks."""

    def write(self, data: bytes) -> None:
        """Take bytes of the body."""


class ResponseSource(Protocol):
    """The connection that a response comes on."""

    loop: asyncio.AbstractEventLoop

    def abort(self) -> None:
        """Close at once."""

    def pause_reading(self) -> None:
        """Hold back the rest of the response."""

    def resume_reading(self) -> None:
        """Let the rest of the response come."""


class UpstreamResponse:
    """Core's response: its `head`, and as much of the body as came along with it.

    `length` is the body's length as Core announced it, None if it did not; `complete` says that the body is
    whole. `body` holds a body that was complete before anybody took it, or that `read` has read.
    """

    __slots__ = (
        "_chunks",
        "_end",
        "_failure",
        "_sink",
        "_source",
        "body",
        "complete",
        "head",
        "length",
        "status",
    )

    def __init__(self, source: ResponseSource, head: UpstreamHead) -> None:
        # None once nothing more can come: it holds this response.
        self._source: ResponseSource | None = source
        self._chunks: list[bytes] = []
        self._sink: ResponseBodySink | None = None
        self._end: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self.head = head
        self.status = head.status
        self.length = head.length
        self.body = b""
        self.complete = False

    # For the caller.

    async def stream(self, sink: ResponseBodySink) -> None:
        """Send the rest of the body to `sink` as it comes.

        Raises UpstreamUnreachableError if the response is cut short, UpstreamTimeoutError if it stalls, and
        OverloadedError if its client does not take it and another party needs the connection.
        """
        if self._failure is not None:
            raise self._failure
        source = self._source
        if source is None:
            return
        self._sink = sink
        self._end = end = source.loop.create_future()
        # Before the first write: the sink may hold the rest back at once.
        source.resume_reading()
        chunks, self._chunks = self._chunks, []
        for chunk in chunks:
            sink.write(chunk)
        await end

    async def read(self, limit: int, seconds: float) -> None:
        """Read the rest of the body into `body`; one of more than `limit` bytes ends as one cut short.

        Raises what `stream` does, and UpstreamTimeoutError if it is not whole after so many seconds.
        """
        if not self.complete:
            collector = _Collector(limit, self.abandon)
            try:
                async with asyncio.timeout(seconds):
                    await self.stream(collector)
            except TimeoutError:
                self.abandon()
                reason = f"the body of the response was not whole after {seconds:g} s"
                raise UpstreamTimeoutError(reason=reason) from None
            self.body = b"".join(collector.chunks)
            self.complete = True

    def abandon(self) -> None:
        """Close the connection, unless the response is complete or has failed."""
        if self._source is not None:
            self._source.abort()

    def pause_reading(self) -> None:
        """Hold back the rest of the body."""
        if self._source is not None:
            self._source.pause_reading()

    def resume_reading(self) -> None:
        """Let the rest of the body come."""
        if self._source is not None:
            self._source.resume_reading()

    # For the connection.

    def feed(self, data: bytes) -> None:
        """Pass bytes of the body on, or keep them until somebody takes them."""
        if self._sink is not None:
            self._sink.write(data)
        else:
            self._chunks.append(data)

    def finish(self) -> None:
        """Take note that the body is whole."""
        if self._chunks:
            self.body, self._chunks = b"".join(self._chunks), []
        self.complete = True
        self._source = None

    def conclude(self) -> None:
        """Return from `stream`: the response is whole, and nothing is wrong behind it."""
        if self._end is not None and not self._end.done():
            self._end.set_result(None)

    def fail(self, failure: Exception) -> None:
        """Raise `failure` from `stream`: the response does not come to its end."""
        self._failure = failure
        self._source = None
        if self._end is not None:
            fail(self._end, failure)

    def discard(self) -> None:
        """Drop the body: its caller has been told that the time is over."""
        self._sink, self._chunks = _Discarded(), []


class _Collector:
    """Keeps up to `limit` bytes, and gives up at more."""

    def __init__(self, limit: int, give_up: Callable[[], None]) -> None:
        self.chunks: list[bytes] = []
        self._left = limit
        self._give_up = give_up

    def write(self, data: bytes) -> None:
        self.chunks.append(data)
        self._left -= len(data)
        if self._left < 0:
            self._give_up()


class _Discarded:
    """Drops everything."""

    def write(self, data: bytes) -> None:
        pass
