"""The client's side of HTTP/1.1: requests in, ordered answers out, deadlines.

Rules kept here:
- Requests of one connection are handled one after the other, in order; reading stops while any waits.
- One task for each connection, none for a request.
- Every phase has a deadline: head, body, write, idle, and the time a closed connection lingers.
- A connection that the client still sends on is half-closed first, so that the answer reaches it.
- Nothing that a client sent in a refused head is echoed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp.streams import EMPTY_PAYLOAD

from gateway.errors import Code, GatewayError
from gateway.wire.deadlines import NEVER, Deadlines
from gateway.wire.exchange import ClientGoneError, Exchange
from gateway.wire.outbox import Outbox
from gateway.wire.requests import Parsed, RequestReader
from gateway.wire.upstream import Flow

_LINGER_SECONDS = 5.0
_MAX_PIPELINED = 256
# Bytes a second of a body, once its first deadline is over, while nobody holds the client back.
_SLOWEST = 1024
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Bounds of the client's side: a count of connections, and deadlines in seconds."""

    connections: int
    head: float
    body: float
    idle: float
    write: float


class ClientConnection(asyncio.Protocol):
    """One connection of a client: a task that handles its requests, one after the other."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._reader = RequestReader(clients.loop)
        self._queue: deque[Exchange | GatewayError] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._receiving: Exchange | None = None
        self._source: Flow | None = None
        self._blocked = False
        self._deaf = False
        self._ended = False
        self._paused = False
        self._paused_at = 0.0
        self._unwritten = 0
        self._lingering = False
        self._busy = False
        self._partial = False
        self.closing = False
        self.loop = clients.loop
        self._unsent: list[bytes] = []
        self.transport: asyncio.Transport | None = None
        self.peer = ""
        self.deadline = NEVER

    # asyncio's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the connection's task."""
        self.transport = transport  # type: ignore[assignment]  # a stream transport, by create_server
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if peer else ""
        self.deadline = self._after(self._clients.limits.idle)
        if self._clients.admit(self):
            self._clients.run(self._serve())

    def data_received(self, data: bytes) -> None:
        """Parse a segment and queue what it completes."""
        if self._deaf:
            return
        try:
            messages = self._reader.feed(data)
        except GatewayError as problem:
            self._refuse(problem)
            return
        receiving = self._receiving
        if receiving is not None:
            self._receive(receiving)
        for parsed in messages[:_MAX_PIPELINED]:
            if self._deaf:
                break
            self._accept(parsed)
        if len(messages) > _MAX_PIPELINED:
            # The rest is not taken, and the last answer says so; the client sends it again.
            self._refuse_more()
        self._watch(bool(messages) or receiving is not None)
        if len(self._queue) > 1 or (self._queue and self._busy):
            self.pause_reading()

    def eof_received(self) -> bool:
        """Half-closed: what was whole is answered still."""
        self._ended = True
        # The end may come in the turn of the last answer, before it was sent.
        self.flush()
        if self._receiving is not None:
            self._receiving.break_off(ClientGoneError())
        if self._lingering or not (self._busy or self._queue):
            return False
        self._hear_no_more()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits for the client."""
        self.transport = None
        self._ended = True
        self._deaf = True
        self._clients.forget(self)
        if self._receiving is not None:
            self._receiving.break_off(ClientGoneError())
        if self._source is not None:
            # A large answer is cut: `write` finds nobody, and the source must not stay held back.
            self._source.resume_reading()
        self._notify()

    def pause_writing(self) -> None:
        """Hold back Core: the client is slower than it."""
        self._blocked = True
        self._unwritten = self._buffered()
        self.deadline = self._after(self._clients.limits.write)
        if self._source is not None:
            self._source.pause_reading()

    def resume_writing(self) -> None:
        """Let Core send on."""
        self._blocked = False
        self._notify()
        self.deadline = NEVER
        limits = self._clients.limits
        if self._lingering:
            self._due_in(_LINGER_SECONDS)
        elif self._receiving is not None:
            self._due_body(self._receiving)
        elif not self._busy:
            self._due_in(limits.head if self._partial else limits.idle)
        if self._source is not None:
            self._source.resume_reading()

    def expire(self) -> None:
        """End the phase whose deadline has passed."""
        if self._blocked and (left := self._buffered()) < self._unwritten:
            # Slow, but it takes bytes of its answer.
            self._unwritten = left
            self.deadline = self._after(self._clients.limits.write)
        elif self._blocked or self._lingering:
            self.abort()
        elif self._receiving is not None:
            self._deaf = True
            self._receiving.break_off(GatewayError(Code.REQUEST_TIMEOUT))
        elif self._partial and not self._busy:
            self._refuse(GatewayError(Code.REQUEST_TIMEOUT))
        else:
            self.abort()

    @property
    def ending(self) -> bool:
        """Whether no further request is taken."""
        return self.closing or self._clients.draining

    # Reading.

    def pause_reading(self) -> None:
        """Stop reading; a client that is held back has no deadline."""
        if not self._paused and self.transport is not None:
            self._paused = True
            self._paused_at = self._clients.deadlines.now
            if not self._blocked:
                self.deadline = NEVER
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless requests wait."""
        if self._paused and not self._ended and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
            if self._receiving is not None:
                self._receiving.began += self._clients.deadlines.now - self._paused_at
        if self._receiving is not None:
            self._due_body(self._receiving)

    def _receive(self, exchange: Exchange) -> None:
        exchange.take()
        if exchange.complete:
            self._receiving = None
            self._end_with(exchange)

    def _accept(self, parsed: Parsed) -> None:
        message, payload = parsed
        exchange = Exchange(self, message, payload)
        exchange.began = self._clients.deadlines.now
        if payload is not EMPTY_PAYLOAD:
            exchange.take()
        if exchange.complete:
            self._end_with(exchange)
        else:
            self._receiving = exchange
        self._queue.append(exchange)
        self._notify()

    def _end_with(self, exchange: Exchange) -> None:
        """Read nothing behind the last request of the connection."""
        if not exchange.keep_alive:
            self._deaf = True

    def _refuse(self, problem: GatewayError) -> None:
        """Answer what cannot be read, behind the answers that are due before it."""
        self._deaf = True
        receiving, self._receiving = self._receiving, None
        if receiving is not None:
            receiving.break_off(problem)
        else:
            self._queue.append(problem)
            if self._busy:
                self.pause_reading()
        self._notify()

    def _refuse_more(self) -> None:
        last = self._queue[-1]
        if isinstance(last, Exchange):
            last.keep_alive = False
        self._deaf = True

    def _hear_no_more(self) -> None:
        self._deaf = True
        self._notify()

    def _watch(self, progress: bool) -> None:
        """Set the deadline of the phase that the segment left the connection in."""
        if self._receiving is not None:
            self._partial = False
            if not self._paused:
                self._due_body(self._receiving)
        elif progress:
            self._partial = False
        elif not self._partial:
            self._partial = True
            if not self._busy:
                self._due_in(self._clients.limits.head)

    # The connection's task.

    async def _serve(self) -> None:
        unread = False
        try:
            while (item := await self._next()) is not None:
                if isinstance(item, GatewayError):
                    self.write(self._clients.refusal(item, self.peer))
                    unread = True
                    break
                self._busy = True
                if item.complete:
                    self.deadline = NEVER
                await self._clients.handle(item)
                self._busy = False
                if not item.keep_alive or not item.complete or self.transport is None:
                    unread = not item.complete
                    break
                self._rest()
        finally:
            self._close(linger=unread)

    async def _next(self) -> Exchange | GatewayError | None:
        while self._blocked or not self._queue:
            over = self._ended or self._deaf or (self.closing and not self._partial)
            if self.transport is None or (over and not self._blocked):
                return None
            self._arrival = self.loop.create_future()
            await self._arrival
            self._arrival = None
        return self._queue.popleft()

    def _rest(self) -> None:
        """Between requests: read on, and wait for as long as an idle connection may."""
        if not self._queue:
            self.resume_reading()
            limits = self._clients.limits
            self._due_in(limits.head if self._partial else limits.idle)

    def _notify(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    # Writing.

    def begin(self, source: Flow | None) -> None:
        """Name what is held back while the client is slow; None: nothing any more."""
        self._source = source

    def write(self, data: bytes) -> None:
        """Send bytes at the end of this turn, if the client is still there."""
        if self.transport is not None:
            if not self._unsent:
                self._clients.outbox.add(self)
            self._unsent.append(data)

    def flush(self) -> None:
        """Send what was written."""
        unsent, self._unsent = self._unsent, []
        if unsent and self.transport is not None:
            self.transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def shut(self) -> None:
        """Take no further request; close as soon as nothing is in flight."""
        self.closing = True
        if not self._busy and not self._queue:
            self._notify()

    def abort(self) -> None:
        """Close at once."""
        self.closing = True
        if self.transport is not None:
            self.transport.abort()

    def reset(self) -> None:
        """Break the connection so that the client sees it: an end would pass for that of the answer."""
        if self.transport is not None:
            raw = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.abort()

    def _close(self, *, linger: bool) -> None:
        """Close after the answer; linger where the client still sends, so that the answer reaches it."""
        transport = self.transport
        if transport is None:
            return
        self._deaf = True
        self.flush()
        if not linger or self._ended or transport.is_closing():
            transport.close()
            return
        self._lingering = True
        self.deadline = self._after(_LINGER_SECONDS)
        transport.write_eof()
        if self._paused:
            self._paused = False
            transport.resume_reading()

    @property
    def in_flight(self) -> bool:
        """Whether an answer is due, or not yet taken from the transport."""
        unsent = self.transport is not None and self.transport.get_write_buffer_size() > 0
        return self._busy or bool(self._queue) or unsent

    def _due_body(self, exchange: Exchange) -> None:
        """A body's deadline: from byte to byte, and for all of it by the slowest pace that is taken."""
        limit = self._clients.limits.body
        pace = exchange.began + limit + exchange.bytes_in / _SLOWEST
        self._due_in(min(limit, pace - self._clients.deadlines.now))

    def _buffered(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def _due_in(self, seconds: float) -> None:
        """Set a deadline, but for a client that must take its answer first."""
        if not self._blocked:
            self.deadline = self._after(seconds)

    def _after(self, seconds: float) -> float:
        return self._clients.deadlines.now + seconds


class Clients:
    """All connections of one listener."""

    def __init__(
        self,
        handle: Callable[[Exchange], Awaitable[None]],
        refusal: Callable[[GatewayError, str], bytes],
        limits: ClientLimits,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.handle = handle
        self.refusal = refusal
        self.limits = limits
        self.loop = loop
        self.draining = False
        self.outbox = Outbox(loop)
        self.deadlines = Deadlines(loop)
        self._connections: set[ClientConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._forgotten = asyncio.Event()

    def __len__(self) -> int:
        return len(self._connections)

    def connect(self) -> ClientConnection:
        """A protocol for a new connection, for `loop.create_server`."""
        return ClientConnection(self)

    def admit(self, connection: ClientConnection) -> bool:
        """Take in a connection; refuse and close it where there are too many."""
        if len(self._connections) >= self.limits.connections:
            connection.write(self.refusal(GatewayError(Code.UNAVAILABLE), connection.peer))
            connection.flush()
            if connection.transport is not None:
                connection.transport.close()
            return False
        self._connections.add(connection)
        self.deadlines.watch(connection)
        return True

    def run(self, connection: Awaitable[None]) -> None:
        """Run a connection's task."""
        task: asyncio.Task[None] = self.loop.create_task(connection)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, connection: ClientConnection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        self.deadlines.forget(connection)
        self._forgotten.set()

    def shut(self) -> None:
        """Close idle connections now and the others after the answers they wait for."""
        for connection in list(self._connections):
            connection.shut()

    async def emptied(self, timeout: float) -> int:
        """Wait up to `timeout` seconds until no connection is left; return how many had to be cut."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._connections:
                    self._forgotten.clear()
                    await self._forgotten.wait()
        cut = sum(connection.in_flight for connection in self._connections)
        for connection in list(self._connections):
            connection.abort()
        return cut
