"""Core's side of HTTP/1.1: one kept-alive connection, a request at a time.

Rules kept here:
- An answer cut short is a failure, never a short success.
- A connection is reused only after a whole answer to a whole request, with no byte to spare.
- Every phase has a deadline: connect, first byte, between bytes, idle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import httptools

from gateway.errors import GatewayError
from gateway.wire.deadlines import NEVER, Deadlines
from gateway.wire.headers import Header
from gateway.wire.outbox import Outbox
from gateway.wire.unreachable import BROKEN_OFF, too_slow, unparsable, unreachable

_INTERIM = 200
# Compared first: most headers are ruled out by their length alone.
_FRAMING_LENGTHS = frozenset({len(b"content-length"), len(b"transfer-encoding")})
_NO_BODY = frozenset({204, 304})


class Flow(Protocol):
    """Something that can be told to hold back its bytes and to let them come again."""

    def pause_reading(self) -> None:
        """Hold back."""

    def resume_reading(self) -> None:
        """Let them come."""


class Sink(Protocol):
    """Where the rest of a streamed answer goes, from the connection's callbacks."""

    def write(self, data: bytes) -> None:
        """Take bytes of the body."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of the pool: counts, and deadlines in seconds; `connect` covers the wait for a free place."""

    connections: int
    queue: int
    connect: float
    first_byte: float
    between_bytes: float
    idle: float


class StaleError(Exception):
    """The connection ended before it gave a byte of the answer."""


class Answer:
    """Core's answer: its head, and as much of the body as came along with it."""

    __slots__ = ("_connection", "body", "complete", "headers", "length", "status")

    def __init__(self, connection: UpstreamConnection, status: int, headers: list[Header]) -> None:
        self._connection = connection
        self.status = status
        self.headers = headers
        self.length: int | None = None
        self.body = b""
        self.complete = False

    async def stream(self, sink: Sink) -> None:
        """Send the rest of the body to `sink` as it comes.

        Raises GatewayError(UPSTREAM_UNREACHABLE) where the answer is cut short and
        GatewayError(UPSTREAM_TIMEOUT) where it stalls.
        """
        await self._connection.stream(sink)

    async def read(self, limit: int) -> None:
        """Read the rest of the body into `body`; one of more than `limit` bytes ends as one cut short."""
        if not self.complete:
            collected = _Collected(limit, self.abandon)
            await self._connection.stream(collected)
            self.body = b"".join(collected.chunks)
            self.complete = True

    def abandon(self) -> None:
        """Close the connection unless the answer is complete."""
        if not self.complete:
            self._connection.abort()

    def pause_reading(self) -> None:
        """Hold back the rest of the body."""
        if not self.complete:
            self._connection.pause_reading()

    def resume_reading(self) -> None:
        """Let the rest of the body come."""
        if not self.complete:
            self._connection.resume_reading()


class _Collected:
    def __init__(self, room: int, give_up: Callable[[], None]) -> None:
        self.chunks: list[bytes] = []
        self._room = room
        self._give_up = give_up

    def write(self, data: bytes) -> None:
        self.chunks.append(data)
        self._room -= len(data)
        if self._room < 0:
            self._give_up()


class Home(Protocol):
    """The pool that a connection belongs to."""

    limits: PoolLimits
    loop: asyncio.AbstractEventLoop
    deadlines: Deadlines
    outbox: Outbox

    def after(self, seconds: float) -> float:
        """The loop's time in `seconds`."""

    def release(self, connection: UpstreamConnection) -> None:
        """The connection is free for another request."""

    def lost(self, connection: UpstreamConnection) -> None:
        """The connection has ended."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to Core; a request at a time."""

    def __init__(self, pool: Home) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Answer] | None = None
        self._streamed: asyncio.Future[None] | None = None
        self._answer: Answer | None = None
        self._headers: list[Header] = []
        self._chunks: list[bytes] = []
        self._sink: Sink | None = None
        self._source: Flow | None = None
        self._bodiless = False
        self._until_close = False
        self._chunked = False
        self._uploading = False
        self._keep = True
        self._surplus = False
        self._got_byte = False
        self._failure: GatewayError | None = None
        self._unsent = b""
        self.reused = False
        self.deadline = NEVER

    # The request's way.

    @property
    def usable(self) -> bool:
        """Whether another request may be sent on it."""
        return self._transport is not None and self._keep and not self._transport.is_closing()

    def send(self, data: bytes, *, bodiless: bool, source: Flow | None = None) -> asyncio.Future[Answer]:
        """Send a head with what there is of the body; `source` says that `upload` sends more.

        The future gives the answer's head as soon as it is there. It raises what `stream` raises.
        """
        transport = self._transport
        if transport is None:
            raise StaleError
        self._bodiless = bodiless
        self._got_byte = False
        self._source = source
        self._uploading = source is not None
        self._waiter = waiter = self._pool.loop.create_future()
        self.deadline = NEVER if self._uploading else self._pool.after(self._pool.limits.first_byte)
        self._unsent = data
        self._pool.outbox.add(self)
        return waiter

    def flush(self) -> None:
        """Send what was written."""
        unsent, self._unsent = self._unsent, b""
        if unsent and self._transport is not None:
            self._transport.write(unsent)

    def upload(self, data: bytes, *, last: bool) -> None:
        """Send more of the request's body."""
        if self._transport is None or not self._uploading:
            return
        if data:
            self.flush()
            self._transport.write(data)
        if last:
            self._uploading = False
            self._source = None
            self.deadline = self._pool.after(self._pool.limits.first_byte)

    def end_upload(self) -> None:
        """Send no more of the request's body: the answer came first. The connection is not reused."""
        if self._uploading:
            self._uploading, self._keep, self._source = False, False, None

    def abort(self) -> None:
        """Close at once; what waits for the answer fails."""
        self._keep = False
        if self._transport is not None:
            self._transport.abort()

    # The answer's way.

    async def stream(self, sink: Sink) -> None:
        """Send what comes of the body to `sink`, to its end."""
        if self._failure is not None:
            raise self._failure
        if self._answer is None:
            return
        self._sink = sink
        self._streamed = streamed = self._pool.loop.create_future()
        # Before the first write: the sink may hold the rest back at once.
        self.resume_reading()
        chunks, self._chunks = self._chunks, []
        for chunk in chunks:
            sink.write(chunk)
        await streamed

    def pause_reading(self) -> None:
        """Stop reading the answer: the client is slower than Core. Its time does not count against Core."""
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()
            self.deadline = NEVER

    def resume_reading(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()
            self.deadline = self._pool.after(self._pool.limits.between_bytes)

    # asyncio's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = transport  # type: ignore[assignment]  # a stream transport, by create_connection
        self._pool.deadlines.watch(self)

    def data_received(self, data: bytes) -> None:
        """Parse; a byte that nobody asked for ends the connection."""
        if self._waiter is None and self._answer is None:
            self.abort()
            return
        first, self._got_byte = not self._got_byte, True
        self.deadline = self._pool.after(self._pool.limits.between_bytes)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(unreachable(unparsable(data if first else b"")))
            self.abort()
            return
        self._deliver()

    def eof_received(self) -> bool:
        """End an answer that has no length; anything else that is open was cut short."""
        self._keep = False
        if self._answer is not None and self._until_close:
            self.on_message_complete()
            self._deliver()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is open and give the place back."""
        self._transport = None
        if self._waiter is not None and not self._got_byte and self._failure is None:
            waiter, self._waiter = self._waiter, None
            if not waiter.done():
                waiter.set_exception(StaleError())
        self._fail(unreachable(BROKEN_OFF))
        self._parser = None  # type: ignore[assignment]  # ends the cycle parser -> connection
        if self._source is not None:
            self._source.resume_reading()
            self._source = None
        self._pool.lost(self)

    def pause_writing(self) -> None:
        """Hold back the client: Core is slower than it."""
        if self._source is not None:
            self.deadline = self._pool.after(self._pool.limits.between_bytes)
            self._source.pause_reading()

    def resume_writing(self) -> None:
        """Let the client send on."""
        if self._source is not None:
            self.deadline = NEVER
            self._source.resume_reading()

    def expire(self) -> None:
        """End the connection: idle too long, or too slow to answer."""
        if self._waiter is not None or self._streamed is not None:
            self._fail(too_slow(self._stalled()))
        self.abort()

    def _stalled(self) -> str:
        limits = self._pool.limits
        if self._got_byte:
            return f"Core's response stalled for {limits.between_bytes:g} s"
        if self._uploading:
            return f"Core took no byte of a request for {limits.between_bytes:g} s"
        return f"Core does not respond within {limits.first_byte:g} s"

    # httptools' callbacks.

    def on_message_begin(self) -> None:
        """See whether a second answer begins behind a whole one: it is dropped with the connection."""
        if self._answer is not None:
            self._surplus, self._keep = True, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header of the head; trailers are dropped."""
        if self._answer is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Begin an answer, or pass over an interim one."""
        if self._surplus:
            return
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        if status < _INTERIM:
            return
        answer = self._answer = Answer(self, status, headers)
        framed = False
        for name, value in headers:
            if len(name) not in _FRAMING_LENGTHS:
                continue
            lowered = name.lower()
            if lowered == b"content-length":
                answer.length, framed = int(value), True
            elif lowered == b"transfer-encoding":
                framed = self._chunked = True
        self._keep = self._keep and self._parser.should_keep_alive()
        if self._bodiless:
            # The parser cannot be told that this answer has no body, so it ends here.
            self._keep = False
            self._finish(answer)
        elif not framed and status not in _NO_BODY:
            self._until_close, self._keep = True, False

    def on_body(self, data: bytes) -> None:
        """Pass body bytes on, or keep them until somebody asks."""
        if self._bodiless or self._surplus:
            return
        if self._sink is not None:
            self._sink.write(data)
        else:
            self._chunks.append(data)

    def on_message_complete(self) -> None:
        """End an answer; the end of an interim one is none."""
        if self._answer is not None and not self._answer.complete:
            self._finish(self._answer)

    # What follows from them.

    def _finish(self, answer: Answer) -> None:
        answer.body = b"".join(self._chunks) if self._chunks else b""
        answer.complete = True

    def _deliver(self) -> None:
        answer = self._answer
        if answer is None:
            return
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            if not answer.complete:
                # Nobody takes the rest yet; what came so far goes out first.
                self._hold_rest()
            if not waiter.done():
                waiter.set_result(answer)
            else:
                self._keep = False
        if not answer.complete:
            return
        streamed, self._streamed, self._sink = self._streamed, None, None
        if streamed is not None and not streamed.done():
            streamed.set_result(None)
        self._chunks = []
        self._answer = None
        self.end_upload()
        self._until_close = False
        self._release()

    def _hold_rest(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def _release(self) -> None:
        if not self._keep:
            self.abort()
            return
        if self._transport is not None and not self._transport.is_reading():
            # The last bytes went to a slow client, and it had this connection held back.
            self._transport.resume_reading()
        if self._chunked:
            # A trailer of this answer would come out as a header of the next.
            self._chunked = False
            self._parser = httptools.HttpResponseParser(self)
        self._pool.release(self)

    def _fail(self, failure: GatewayError) -> None:
        if self._failure is None:
            self._failure = failure
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(self._failure)
        streamed, self._streamed = self._streamed, None
        if streamed is not None and not streamed.done():
            streamed.set_exception(self._failure)
