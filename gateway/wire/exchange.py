"""One request of a client and the response to it: the body's way in, the response's way out.

Rules kept here:
- A body is buffered under a limit, or flows to a sink as it comes; never both.
- What nobody asked for yet is held up to a bound, then the client is held back.
- What is buffered is counted as it comes, never as it was announced.
- `100 Continue` is sent only once the body is wanted (RFC 9110 section 10.1.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from gateway.errors import GatewayError
from gateway.wire.errors import BodyTooLargeError, ClientGoneError
from gateway.wire.flow import Pausable
from gateway.wire.headers import Header

HELD_BODY: Final = 64 * 1024
"""Bytes of a body that are held before anybody asks for it."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientLink(Protocol):
    """The connection that an exchange takes place on."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport | None
    peer: str
    ended_at: float

    @property
    def ending(self) -> bool:
        """Whether no further request is taken."""

    @property
    def abandoned(self) -> bool:
        """Whether the client has ended its side some time ago."""

    def pause_reading(self) -> None:
        """Hold back the client."""

    def resume_reading(self) -> None:
        """Let the client send on."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def begin(self, source: Pausable | None) -> None:
        """Name what is held back while the client is slow."""

    def reset(self) -> None:
        """Break the connection so that the client sees it."""


class BodySink(Protocol):
    """Where a streamed request body goes, from the connection's callbacks."""

    def feed(self, data: bytes, *, last: bool) -> None:
        """Take bytes of the body."""

    def break_off(self) -> None:
        """The body will not come to its end."""


class Meter(Protocol):
    """Counts the bytes of a body that is buffered."""

    def grow(self, size: int) -> None:
        """Count `size` more bytes. Raises GatewayError where they are not to be had."""


class Exchange:
    """One request of a client, and the response to it."""

    __slots__ = (
        "_broken",
        "_chunks",
        "_connection",
        "_expects",
        "_held",
        "_leaving",
        "_meter",
        "_payload",
        "_sink",
        "_uncounted",
        "_waiter",
        "answered",
        "began",
        "bytes_in",
        "bytes_out",
        "chunked",
        "complete",
        "headers",
        "keep_alive",
        "length",
        "method",
        "minor",
        "raw_headers",
        "status",
        "target",
    )

    def __init__(self, connection: ClientLink, message: Any, payload: Any) -> None:
        self._connection = connection
        self._payload = payload
        self._chunks: list[bytes] = []
        self._held = 0
        self._waiter: asyncio.Future[None] | None = None
        self._meter: Meter | None = None
        self._sink: BodySink | None = None
        self._broken: Exception | None = None
        self._uncounted: GatewayError | None = None
        self._leaving: Callable[[], None] | None = None
        self._expects = False
        self.method: str = message.method
        self.target: str = message.path
        self.headers = message.headers
        self.raw_headers: Iterable[Header] = message.raw_headers
        self.minor: int = message.version.minor
        self.chunked: bool = message.chunked
        self.keep_alive: bool = not (message.should_close or message.upgrade)
        self.complete: bool = payload.is_eof()
        self.length: int | None = None if message.chunked else int(message.headers.get("Content-Length", 0))
        self.bytes_in = 0
        self.bytes_out = 0
        self.answered = False
        self.began = 0.0
        self.status = 0
        if not self.complete and self.minor:
            self._expects = message.headers.get("Expect", "").lower() == "100-continue"

    @property
    def peer(self) -> str:
        """The address of the connection's other end, without its port."""
        return self._connection.peer

    # Whether anybody waits.

    @property
    def ended_at(self) -> float:
        """When the client ended its side, in seconds of the loop's clock; `NEVER` for one that has not."""
        return self._connection.ended_at

    @property
    def gone(self) -> bool:
        """Whether the client has left."""
        return self._connection.transport is None

    @property
    def abandoned(self) -> bool:
        """Whether the client has ended its side some time ago, so that nothing more is begun for it."""
        return self._connection.abandoned

    def when_leaving(self, react: Callable[[], None] | None) -> None:
        """Call `react` when the client leaves or ends its side; None: nobody any more."""
        self._leaving = react

    def leave(self) -> None:
        """Take note that the client has left, or has ended its side."""
        self.break_off(ClientGoneError())
        if self._leaving is not None:
            self._leaving()

    # The body's way in.

    @property
    def streams(self) -> bool:
        """Whether the body flows to a sink as it comes."""
        return self._sink is not None

    @property
    def unasked(self) -> int:
        """Bytes of the body that are held, and that nobody has asked for."""
        return self._held if self._meter is None else 0

    def take(self) -> None:
        """Take from the parser what has come of the body."""
        payload = self._payload
        data: bytes = payload.read_nowait(-1)
        self.bytes_in += len(data)
        self.complete = payload.is_eof()
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
        elif self._held > HELD_BODY and not self.complete:
            self._connection.pause_reading()

    def break_off(self, problem: Exception) -> None:
        """The body will not come to its end."""
        if self.complete:
            return
        self._broken = problem
        self._wake()
        if self._sink is not None:
            sink, self._sink = self._sink, None
            sink.break_off()

    async def collect(self, limit: int, meter: Meter) -> None:
        """Hold what comes of the body until it is whole, or more than `limit` bytes have come.

        Raises GatewayError: MALFORMED_REQUEST or REQUEST_TIMEOUT where the body does not come whole, and what
        `meter` raises, after which the body can still be streamed; ClientGoneError where the client left.
        """
        meter.grow(self._held)
        self._meter = meter
        while not self.complete and self._broken is None and self._meter is not None and self._held <= limit:
            self._waiter = self._connection.loop.create_future()
            # Each time: more may have come in one turn of the loop than is held, and stopped the reading.
            self._want()
            await self._waiter
        if self._broken is not None:
            raise self._broken
        if self._uncounted is not None:
            raise self._uncounted

    async def read(self, limit: int, meter: Meter) -> bytes:
        """The whole body, of at most `limit` bytes.

        Raises what `collect` raises, and BodyTooLargeError as soon as that is known.
        """
        if self.length is not None and self.length > limit:
            raise BodyTooLargeError
        await self.collect(limit, meter)
        if self._held > limit:
            raise BodyTooLargeError
        return self.take_held()

    def take_held(self) -> bytes:
        """What has come of the body and was not taken yet."""
        chunks, self._chunks, self._held = self._chunks, [], 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def stream(self, sink: BodySink) -> None:
        """Hand the body to `sink` as it comes."""
        self._meter = None
        if self._broken is not None:
            sink.break_off()
            return
        if not self.complete:
            self._sink = sink
            # Before the sink is fed, for it may hold the client back again.
            self._want()
        if self._held or self.complete:
            sink.feed(self.take_held(), last=self.complete)

    def stop(self) -> None:
        """Take no more of the body: the response is there."""
        self._sink = None

    @property
    def broken(self) -> Exception | None:
        """Why the body will not come to its end, if so."""
        return self._broken

    def pause_reading(self) -> None:
        """Hold back the client."""
        self._connection.pause_reading()

    def resume_reading(self) -> None:
        """Let the client send on."""
        self._connection.resume_reading()

    def _count(self, size: int) -> None:
        try:
            if self._meter is not None:
                self._meter.grow(size)
        except GatewayError as refusal:
            self._meter, self._uncounted = None, refusal
            self._wake()

    def _want(self) -> None:
        if self._expects:
            self._expects = False
            self._connection.write(_CONTINUE)
        self._connection.resume_reading()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # The response's way out.

    def settle_keep_alive(self) -> bool:
        """Decide whether the connection goes on after the response; called when its head is made."""
        if not self.complete or self._connection.ending:
            self.keep_alive = False
        return self.keep_alive

    def end_with_connection(self) -> bool:
        """Let the response end where the connection does; returns False, as `settle_keep_alive` does then."""
        self.keep_alive = False
        return False

    def send(self, head: bytes, body: bytes, status: int) -> None:
        """Send a whole response."""
        self.answered = True
        self.status = status
        self.bytes_out += len(body)
        self._connection.write(head + body if body else head)

    def begin(self, head: bytes, status: int, source: Pausable) -> None:
        """Send the head of a response whose body follows by `write`; `source` is held back at need."""
        self.answered = True
        self.status = status
        self._connection.begin(source)
        self._connection.write(head)

    def write(self, data: bytes, size: int) -> None:
        """Send `size` bytes of the body, framed as `data`."""
        self.bytes_out += size
        self._connection.write(data)

    def finish(self) -> None:
        """The response is whole."""
        self._connection.begin(None)

    def cut(self) -> None:
        """Break the connection: the response cannot be made whole."""
        self.keep_alive = False
        self.status = 0
        self._connection.reset()
