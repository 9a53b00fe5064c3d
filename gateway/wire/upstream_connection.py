"""Core's side of HTTP/1.1: one kept-alive connection, a request at a time.

Rules kept here:
- A response cut short is a failure, never a short success.
- A connection is reused only after a whole response to a whole request, with no byte to spare.
- Each phase has its deadline in one table; a deadline is set where a phase is entered, and nowhere else.
- What may have changed something at Core is never cancelled: once its time is over the caller is told, and
  the request runs to its end on its connection, which nothing else uses. (Core leaves a cancelled request
  half done: its rollback is cancelled as well.)
- Whether a request may still be sent is asked when its bytes are written to the socket.
- A GET whose client has left is cut at once; one whose client has only ended its side, after a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import httptools

from gateway.errors import GatewayError
from gateway.fairness.errors import OverloadedError
from gateway.wire.connect_errors import BROKEN_OFF, too_slow, unparsable, unreachable
from gateway.wire.deadlines import NEVER, Deadlines, TimedPhase
from gateway.wire.errors import ClientGoneError
from gateway.wire.flow import HALF_CLOSED_SECONDS, STALLED_SECONDS, Pausable, refuse_abandoned
from gateway.wire.headers import Header
from gateway.wire.places import Holder
from gateway.wire.write_coalescer import WriteCoalescer

_INTERIM: Final = 200
# Compared first: most headers are ruled out by their length alone.
_FRAMING_LENGTHS: Final = frozenset({len(b"content-length"), len(b"transfer-encoding")})
_NO_BODY: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of the pool: counts, and deadlines in seconds; `connect` covers the wait for a free place."""

    connections: int
    queue: int
    connect: float
    first_byte: float
    between_bytes: float
    idle: float
    age: float = 300.0
    """The age at which a connection is not used again: a name that moves is followed under load, too."""


class Phase(TimedPhase):
    """What a connection to Core does, and for how many seconds it may."""

    CLAIMED = ("claimed", lambda _: NEVER)
    """It is a request's, of which nothing was sent."""
    UPLOADING = ("uploading", lambda _: NEVER)
    """The request's body comes from its client, whose own deadline holds."""
    CLOGGED = ("clogged", lambda limits: limits.between_bytes)
    """Core takes no more of the body for now."""
    WAITING = ("waiting", lambda limits: limits.first_byte)
    """The request is sent, and nothing of the response has come but interim ones (RFC 9110 section 15.2)."""
    HALF_CLOSED = ("half closed", lambda _: HALF_CLOSED_SECONDS)
    """The same for a client that has ended its side, of a request that changes nothing."""
    READING = ("reading", lambda limits: limits.between_bytes)
    """The response comes."""
    HELD = ("held", lambda _: NEVER)
    """The response is held back for its client, whose own deadline holds."""
    DETACHED = ("detached", lambda _: NEVER)
    """The request's time is over; it runs to its end for nobody."""
    IDLE = ("idle", lambda limits: limits.idle)
    """Nothing is asked."""


_WITH_CORE: Final = (Phase.WAITING, Phase.HALF_CLOSED, Phase.READING, Phase.HELD)
"""The phases in which Core has the whole request."""


class Call(Holder, Protocol):
    """One request as the pool sees it."""

    @property
    def changes(self) -> bool:
        """Whether it may change something at Core."""

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent a second time, where a reused connection gave no byte."""

    @property
    def bodiless(self) -> bool:
        """Whether its response has no body."""

    @property
    def first_byte(self) -> float:
        """Seconds until the response begins; 0 for the pool's own."""

    def passes(self) -> bool:
        """Whether it may be sent; False, too, where that cannot be told at once: then `renew`."""

    async def renew(self) -> None:
        """Return if it may be sent, else raise."""

    def ended_late(self, status: int | None) -> None:
        """Take note of how a request ended whose time was over; None: its connection broke."""


class Sink(Protocol):
    """Where the rest of a streamed response goes, from the connection's callbacks."""

    def write(self, data: bytes) -> None:
        """Take bytes of the body."""


class StaleError(Exception):
    """The connection ended before it gave a byte of the response."""


class WithheldError(Exception):
    """Nothing of the request was sent: it has to be asked whether it still may be."""


class UpstreamResponse:
    """Core's response: its head, and as much of the body as came along with it."""

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

        Raises UpstreamUnreachableError where the response is cut short,
        UpstreamTimeoutError where it stalls, and OverloadedError where its client did not
        take it and another party needs the connection.
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
        """Close the connection unless the response is complete."""
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


class ConnectionOwner(Protocol):
    """The pool that a connection belongs to."""

    limits: PoolLimits
    times: tuple[float, ...]
    loop: asyncio.AbstractEventLoop
    deadlines: Deadlines
    outbox: WriteCoalescer

    def release(self, connection: UpstreamConnection) -> None:
        """The connection is free for another request."""

    def uploaded(self, connection: UpstreamConnection) -> None:
        """The whole body of the connection's request has been sent."""

    def detach(self, connection: UpstreamConnection) -> None:
        """The connection's request runs to its end for nobody."""

    def lost(self, connection: UpstreamConnection) -> None:
        """The connection has ended."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to Core; a request at a time.

    `holder` is the request whose place it uses, None while it uses none.
    """

    def __init__(self, pool: ConnectionOwner) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._call: Call | None = None
        self._waiter: asyncio.Future[UpstreamResponse] | None = None
        self._streamed: asyncio.Future[None] | None = None
        self._answer: UpstreamResponse | None = None
        self._headers: list[Header] = []
        self._chunks: list[bytes] = []
        self._sink: Sink | None = None
        # Where the rest of an upload comes from; None once the request is whole.
        self._source: Pausable | None = None
        self._until_close = False
        self._chunked = False
        self._keep = True
        self._surplus = False
        self._got_byte = False
        self._failure: Exception | None = None
        self._unsent = b""
        # When the client last gave or took something, in seconds of the pool's clock.
        self._moved = 0.0
        self._born = pool.deadlines.now
        self.phase = Phase.CLAIMED
        self.holder: Call | None = None
        self.reused = False
        self.deadline = NEVER

    def _enter(self, phase: Phase) -> None:
        """Enter a phase, or begin its time anew; the only place that sets a deadline."""
        self.phase = phase
        pool = self._pool
        seconds = pool.times[phase.number]
        if phase is Phase.WAITING and self._call is not None:
            seconds = self._call.first_byte or seconds
        self.deadline = pool.deadlines.now + seconds

    # The request's way.

    @property
    def usable(self) -> bool:
        """Whether another request may be sent on it."""
        return self._transport is not None and self._keep and not self._transport.is_closing()

    @property
    def streams(self) -> bool:
        """Whether a body is sent on it that still comes."""
        return self._source is not None

    @property
    def aged(self) -> bool:
        """Whether it is too old to be used again."""
        return self._pool.deadlines.now > self._born + self._pool.limits.age

    def send(
        self, data: bytes, call: Call, source: Pausable | None = None
    ) -> asyncio.Future[UpstreamResponse]:
        """Send a head with what there is of the body; `source` says that `upload` sends more.

        The future gives the response's head as soon as it is there. It raises what `stream` raises,
        StaleError, ClientGoneError, and WithheldError where nothing was sent, and `call` has to be asked.
        """
        if self._transport is None:
            raise StaleError
        self._call = call
        self._got_byte = False
        self._source = source
        self._waiter = waiter = self._pool.loop.create_future()
        if source is None:
            self._unsent = data
            self._enter(Phase.WAITING)
            self._pool.outbox.add(self)
        else:
            # At once: its body follows from callbacks, and could not be taken back.
            self._moved = self._pool.deadlines.now
            self._enter(Phase.UPLOADING)
            self._transport.write(data)
        if call.client is not None:
            call.client.when_leaving(self._client_leaves)
        return waiter

    def flush(self) -> None:
        """Send what was written, if it still may be sent."""
        unsent, call = self._unsent, self._call
        if not unsent or self._transport is None or call is None:
            return
        self._unsent = b""
        client = call.client
        if client is not None and client.ended_at != NEVER:
            try:
                refuse_abandoned(client)
            except (ClientGoneError, GatewayError) as refusal:
                self._withdraw(refusal)
                self.put_back()
                return
        if call.passes():
            self._transport.write(unsent)
        else:
            self._withdraw(WithheldError())

    def upload(self, data: bytes, *, last: bool) -> None:
        """Send more of the request's body."""
        if self._transport is None or self._source is None:
            return
        self._moved = self._pool.deadlines.now
        if data:
            self._transport.write(data)
        if last:
            self._source = None
            if self.phase in (Phase.UPLOADING, Phase.CLOGGED):
                self._enter(Phase.WAITING)
            self._pool.uploaded(self)

    def end_upload(self) -> None:
        """Send no more of the request's body: the response came first. The connection is not reused."""
        if self._source is not None:
            self._keep, self._source = False, None

    def abort(self) -> None:
        """Close at once; what waits for the response fails."""
        self._keep = False
        if self._transport is not None:
            self._transport.abort()

    @property
    def unwanted(self) -> bool:
        """Whether its client has ended its side, and has most likely left."""
        return self.phase is Phase.HALF_CLOSED

    def waits_for_client(self) -> bool:
        """Whether it is its client that has kept it waiting, for long enough to lose it to another party."""
        if self._failure is not None:
            # It has given way already.
            return False
        if self.unwanted:
            return True
        since = self._pool.deadlines.now - self._moved
        return self.phase in (Phase.UPLOADING, Phase.HELD) and since >= STALLED_SECONDS

    def give_way(self) -> None:
        """End a request that waits for its client, for another party needs the connection."""
        self._fail(ClientGoneError() if self.unwanted else OverloadedError())
        self.abort()

    def put_back(self) -> None:
        """Give it back to the pool: nothing was sent on it, or its response is whole."""
        self._enter(Phase.IDLE)
        self._pool.release(self)

    def _withdraw(self, reason: Exception) -> None:
        """Take back a request of which nothing was sent; the connection stays claimed."""
        waiter, self._waiter = self._waiter, None
        self._call, self._source = None, None
        self._enter(Phase.CLAIMED)
        if waiter is not None and not waiter.done():
            waiter.set_exception(reason)

    def _client_leaves(self) -> None:
        """React to a client that has left, or has ended its side."""
        call = self._call
        if call is None or call.client is None:
            return
        gone = call.client.gone
        if self._unsent:
            if gone:
                self._unsent = b""
                self._withdraw(ClientGoneError())
                self.put_back()
        elif call.changes:
            return
        elif gone:
            self._fail(ClientGoneError())
            self.abort()
        elif self.phase is Phase.WAITING:
            self._enter(Phase.HALF_CLOSED)

    # The response's way.

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
        """Stop reading the response: the client is slower than Core. Its time does not count against Core."""
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()
            self._moved = self._pool.deadlines.now
            self._enter(Phase.HELD)

    def resume_reading(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()
            self._enter(Phase.READING)

    # asyncio's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = transport  # type: ignore[assignment]  # a stream transport, by create_connection
        self._pool.deadlines.watch(self)

    def data_received(self, data: bytes) -> None:
        """Parse; a byte that nobody asked for ends the connection."""
        if self._call is None:
            self.abort()
            return
        first, self._got_byte = not self._got_byte, True
        if self._source is None and self.phase is not Phase.DETACHED:
            self._enter(Phase.READING)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(unreachable(unparsable(data if first else b"")))
            self.abort()
            return
        self._deliver()

    def eof_received(self) -> bool:
        """End a response that has no length; anything else that is open was cut short."""
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
        if self.phase is Phase.DETACHED and self._call is not None:
            self._end_late(None)
        self._pool.lost(self)

    def pause_writing(self) -> None:
        """Hold back the client: Core is slower than it."""
        if self._source is not None and self.phase is Phase.UPLOADING:
            self._enter(Phase.CLOGGED)
            self._source.pause_reading()

    def resume_writing(self) -> None:
        """Let the client send on."""
        if self._source is not None and self.phase is Phase.CLOGGED:
            self._moved = self._pool.deadlines.now
            self._enter(Phase.UPLOADING)
            self._source.resume_reading()

    def expire(self) -> None:
        """End the phase whose deadline has passed."""
        call = self._call
        if call is not None and call.changes and self.phase in _WITH_CORE:
            self._detach()
        elif self.unwanted:
            self.give_way()
        else:
            if call is not None:
                self._fail(too_slow(self._stalled()))
            self.abort()

    def _detach(self) -> None:
        """Tell the caller that the time is over, and let the request run to its end."""
        reason = self._stalled()
        self._enter(Phase.DETACHED)
        self._fail(too_slow(reason))
        self._sink, self._chunks = None, []
        self._pool.detach(self)
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()

    def _stalled(self) -> str:
        limits, call = self._pool.limits, self._call
        if self.phase is Phase.READING:
            return f"Core's response stalled for {limits.between_bytes:g} s"
        if self._source is not None:
            return f"Core took no byte of a request for {limits.between_bytes:g} s"
        first_byte = (call.first_byte if call is not None else 0.0) or limits.first_byte
        return f"Core does not respond within {first_byte:g} s"

    # httptools' callbacks.

    def on_message_begin(self) -> None:
        """See whether a second response begins behind a whole one: it is dropped with the connection."""
        if self._answer is not None:
            self._surplus, self._keep = True, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header of the head; trailers are dropped."""
        if self._answer is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Begin a response, or pass over an interim one."""
        if self._surplus or self._call is None:
            return
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        if status < _INTERIM:
            if self.phase is Phase.READING:
                self._enter(Phase.WAITING)
            return
        answer = self._answer = UpstreamResponse(self, status, headers)
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
        if self._call.bodiless:
            # The parser cannot be told that this response has no body, so it ends here.
            self._keep = False
            self._finish(answer)
        elif not framed and status not in _NO_BODY:
            self._until_close, self._keep = True, False

    def on_body(self, data: bytes) -> None:
        """Pass body bytes on, or keep them until somebody asks."""
        if self._surplus or self.phase is Phase.DETACHED or (self._call is not None and self._call.bodiless):
            return
        if self._sink is not None:
            self._sink.write(data)
        else:
            self._chunks.append(data)

    def on_message_complete(self) -> None:
        """End a response; the end of an interim one is none."""
        if self._answer is not None and not self._answer.complete:
            self._finish(self._answer)

    # What follows from them.

    def _finish(self, answer: UpstreamResponse) -> None:
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
                self.end_upload()
            if not waiter.done():
                waiter.set_result(answer)
            else:
                self._keep = False
        if answer.complete:
            self._conclude(answer)

    def _conclude(self, answer: UpstreamResponse) -> None:
        """Let go of a request whose response is whole."""
        streamed, self._streamed, self._sink = self._streamed, None, None
        if streamed is not None and not streamed.done():
            streamed.set_result(None)
        self._chunks = []
        self._answer = None
        self.end_upload()
        self._until_close = False
        call, self._call = self._call, None
        if call is not None and call.client is not None:
            call.client.when_leaving(None)
        if self.phase is Phase.DETACHED and call is not None:
            self._keep = False
            call.ended_late(answer.status)
        self._release()

    def _end_late(self, status: int | None) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.ended_late(status)

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
            # A trailer of this response would come out as a header of the next.
            self._chunked = False
            self._parser = httptools.HttpResponseParser(self)
        self.put_back()

    def _fail(self, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
        call = self._call
        if call is not None and call.client is not None:
            call.client.when_leaving(None)
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(self._failure)
        streamed, self._streamed = self._streamed, None
        if streamed is not None and not streamed.done():
            streamed.set_exception(self._failure)
