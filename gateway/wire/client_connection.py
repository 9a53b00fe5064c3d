"""One connection of a client: requests in, ordered responses out.

Rules kept here:
- Requests of one connection are handled one after the other, in order; reading stops while any waits. Between
  two of them every other connection gets its turn.
- One task for each connection, none for a request.
- The connection is in one phase at a time; each has its deadline in one table, which is set where the phase
  is entered, and nowhere else. A request that is whole has no deadline of its client's.
- A client that still sends when its connection ends is half-closed first, so that the response reaches it.
- Nothing that a client sent in a refused head is echoed.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aiohttp.streams import EMPTY_PAYLOAD

from gateway.errors import GatewayError
from gateway.fairness.errors import OverloadedError
from gateway.wire.client_address import peer_of
from gateway.wire.deadlines import NEVER, Deadlines, TimedPhase
from gateway.wire.errors import RequestTimeoutError
from gateway.wire.exchange import Exchange
from gateway.wire.flow import HALF_CLOSED_SECONDS, STALLED_SECONDS, Pausable
from gateway.wire.parse_budget import PIECE, ParseBudget
from gateway.wire.request_parser import Parsed, RequestReader
from gateway.wire.write_coalescer import WriteCoalescer

LINGER_SECONDS: Final = 5.0
SLOWEST: Final = 1024
"""Bytes a second of a body, or of a response, once the first deadline of that phase is over."""
_MAX_PIPELINED: Final = 256
# What one turn of the event loop may bring from Core before it is written: back-pressure begins there.
_AT_ONCE: Final = 64 * 1024
# Bytes that a transport holds before it calls `pause_writing`.
_UNREAD: Final = 16 * 1024
_RESET: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Bounds of the client's side: a count of connections, and deadlines in seconds."""

    connections: int
    head: float
    body: float
    idle: float
    write: float


class Phase(TimedPhase):
    """What a connection of a client does, and for how many seconds it may."""

    IDLE = ("idle", lambda limits: limits.idle)
    """Nothing of a request has come."""
    HEAD = ("head", lambda limits: limits.head)
    """A part of a head has come."""
    BODY = ("body", lambda limits: limits.body)
    """A body comes: the time is from byte to byte, and for all of it by the slowest pace."""
    HELD = ("held", lambda _: NEVER)
    """A body is held back here."""
    HANDLING = ("handling", lambda _: NEVER)
    """A whole request is handled."""
    SENDING = ("sending", lambda limits: limits.write)
    """The client is to take its response: so many seconds of the slowest pace."""
    LINGERING = ("lingering", lambda _: LINGER_SECONDS)
    """All is sent, and what still comes is thrown away."""
    CLOSED = ("closed", lambda _: NEVER)
    """The client has left."""


class Input(enum.Enum):
    """What becomes of the bytes that a client sends."""

    OPEN = "open"
    """They are read as requests."""
    IGNORED = "ignored"
    """They are thrown away: the connection takes no further request."""
    LINGERING = "lingering"
    """The same once all is sent."""
    ENDED = "ended"
    """None can come."""


class Clients(Protocol):
    """What a connection needs of the others."""

    loop: asyncio.AbstractEventLoop
    limits: ClientLimits
    times: tuple[float, ...]
    deadlines: Deadlines
    outbox: WriteCoalescer
    turns: ParseBudget
    draining: bool
    handle: Callable[[Exchange], Awaitable[None]]
    refusal: Callable[[GatewayError, str], bytes]

    def admit(self, connection: ClientConnection) -> bool:
        """Take in a connection; False where it was refused and closed."""

    def run(self, work: Awaitable[None]) -> None:
        """Run a connection's task."""

    def count(self, connection: ClientConnection, held: int) -> None:
        """Count the bytes that a connection holds; one of them may have to let go of its own."""

    def forget(self, connection: ClientConnection) -> None:
        """A connection has ended."""


class ClientConnection(asyncio.Protocol):
    """One connection of a client: a task that handles its requests, one after the other.

    `party` is whom it is counted for, `counted` the bytes that are counted.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._reader = RequestReader(clients.loop)
        self._input = Input.OPEN
        # What was read and waits for its turn to be parsed.
        self._unparsed = b""
        self._queue: deque[Exchange | GatewayError] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._current: Exchange | None = None
        self._receiving: Exchange | None = None
        self._source: Pausable | None = None
        self._paused = False
        self._paused_at = 0.0
        self.ended_at = NEVER
        self._blocked = False
        self._unread = 0
        self._unsent: list[bytes] = []
        self._unsent_size = 0
        self.closing = False
        self.loop = clients.loop
        self.transport: asyncio.Transport | None = None
        self.peer = ""
        self.party = ""
        self.counted = 0
        self.phase = Phase.IDLE
        self.deadline = NEVER

    # Phases.

    def _advance(self) -> None:
        """Enter the phase that the connection is in now."""
        if self.transport is None:
            phase = Phase.CLOSED
        elif self._blocked:
            phase = Phase.SENDING
        elif self._input is Input.LINGERING:
            phase = Phase.LINGERING
        elif self._receiving is not None:
            phase = Phase.HELD if self._paused else Phase.BODY
        elif self._current is not None or self._queue:
            phase = Phase.HANDLING
        else:
            phase = Phase.HEAD if self._reader.partial else Phase.IDLE
        # The time of a body begins anew with each of its bytes.
        if phase is not self.phase or phase is Phase.BODY:
            self._enter(phase)

    def _enter(self, phase: Phase) -> None:
        """Set the phase and its deadline: the only place that does."""
        self.phase = phase
        now = self._clients.deadlines.now
        seconds = self._clients.times[phase.number]
        if phase is Phase.BODY and (receiving := self._receiving) is not None:
            pace = receiving.began + seconds + receiving.bytes_in / SLOWEST
            seconds = min(seconds, pace - now)
        self.deadline = now + seconds

    def expire(self) -> None:
        """End the phase whose deadline has passed."""
        if self.phase is Phase.SENDING:
            left = self._buffered()
            taken, self._unread = self._unread - left, left
            if taken < SLOWEST * self._clients.limits.write:
                self.abort()
            else:
                self._enter(Phase.SENDING)
        elif self.phase is Phase.BODY and self._receiving is not None:
            self._input = Input.IGNORED
            self._receiving.break_off(RequestTimeoutError())
        elif self.phase is Phase.HEAD:
            self._refuse(RequestTimeoutError())
        else:
            self.abort()

    def waits_for_client(self) -> bool:
        """Whether its client has kept it waiting, for long enough to lose it to another party.

        A body that streams is Core's business as well: it never counts.
        """
        if self.phase in (Phase.IDLE, Phase.HEAD):
            return True
        now = self._clients.deadlines.now
        if self.phase is Phase.BODY:
            receiving = self._receiving
            return (
                receiving is not None and not receiving.streams and now - receiving.began >= STALLED_SECONDS
            )
        if self.phase not in (Phase.SENDING, Phase.LINGERING):
            return False
        since = now - self.deadline + self._clients.times[self.phase.number]
        taken = self._unread - self._buffered() if self.phase is Phase.SENDING else 0
        return since >= STALLED_SECONDS and taken < SLOWEST * since

    # asyncio's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the connection's task."""
        self.transport = transport  # type: ignore[assignment]  # a stream transport, by create_server
        self.peer = peer_of(transport)
        if self._clients.admit(self) and self.transport is not None:
            self.transport.set_write_buffer_limits(high=_UNREAD)
            self._enter(Phase.IDLE)
            self._clients.run(self._serve())

    def data_received(self, data: bytes) -> None:
        """Parse a segment, or let it wait for its turn."""
        if self._input is not Input.OPEN:
            return
        if not self._unparsed and (
            self._is_of_body(data) or (len(data) <= PIECE and self._clients.turns.take(len(data)))
        ):
            self._parse(data)
            return
        self._unparsed += data
        self.pause_reading()
        self._clients.turns.wait(self)
        self._count()

    def parse_next(self) -> int:
        """Parse a piece of what waits for its turn; returns how many bytes it was."""
        if self._input is not Input.OPEN:
            self._unparsed = b""
        if not self._unparsed or self._is_behind:
            # What is behind requests that wait is parsed once they have been handled.
            return 0
        size = len(self._unparsed) if self._is_of_body(self._unparsed) else PIECE
        piece, self._unparsed = self._unparsed[:size], self._unparsed[size:]
        self._parse(piece)
        if not self._is_behind:
            self.resume_reading()
        return len(piece)

    @property
    def _is_behind(self) -> bool:
        """Whether requests wait that have to be handled before more is read."""
        return len(self._queue) > 1 or (bool(self._queue) and self._current is not None)

    def _is_of_body(self, data: bytes) -> bool:
        """Whether all of `data` is of a body whose length is known: that is only copied."""
        receiving = self._receiving
        if receiving is None or receiving.length is None:
            return False
        return len(data) <= receiving.length - receiving.bytes_in

    def _parse(self, data: bytes) -> None:
        """Parse bytes and queue what they complete."""
        try:
            messages = self._reader.feed(data)
        except GatewayError as problem:
            self._refuse(problem)
            return
        receiving = self._receiving
        if receiving is not None:
            self._receive(receiving)
        for parsed in messages[:_MAX_PIPELINED]:
            if self._input is not Input.OPEN:
                break
            self._accept(parsed)
        if len(messages) > _MAX_PIPELINED:
            # The rest is not taken, and the last response says so; the client sends it again.
            self._refuse_more()
        if self._is_behind:
            self.pause_reading()
        self._advance()
        if self.counted or self._receiving is not None or not messages:
            self._count()

    def eof_received(self) -> bool:
        """Half-closed: what was whole is still answered."""
        lingering = self._input is Input.LINGERING
        self._input = Input.ENDED
        self.ended_at = self._clients.deadlines.now
        # The end may come in the turn of the last response, before it was sent.
        self.flush()
        self._leave()
        if lingering or not (self._current is not None or self._queue):
            return False
        self._notify()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits for the client."""
        self.transport = None
        self._input = Input.ENDED
        self.ended_at = min(self.ended_at, self._clients.deadlines.now)
        self._advance()
        self._clients.forget(self)
        self._leave()
        if self._source is not None:
            # A large response is cut: `write` finds nobody, and the source must not stay held back.
            self._source.resume_reading()
        self._notify()

    def _leave(self) -> None:
        """Tell the requests that are under way that the client has left, or has ended its side."""
        if self._receiving is not None and self._receiving is not self._current:
            self._receiving.leave()
        if self._current is not None:
            self._current.leave()

    def pause_writing(self) -> None:
        """Hold back Core: the client is slower than it."""
        self._blocked = True
        self._unread = self._buffered()
        self._advance()
        self._count()
        if self._source is not None:
            self._source.pause_reading()

    def resume_writing(self) -> None:
        """Let Core send on."""
        self._blocked = False
        self._notify()
        self._advance()
        self._count()
        if self._source is not None:
            self._source.resume_reading()

    # Reading.

    @property
    def ending(self) -> bool:
        """Whether no further request is taken."""
        return self.closing or self._clients.draining

    @property
    def abandoned(self) -> bool:
        """Whether the client has ended its side some time ago."""
        return self._clients.deadlines.now > self.ended_at + HALF_CLOSED_SECONDS

    def pause_reading(self) -> None:
        """Stop reading; a client that is held back has no deadline."""
        if not self._paused and self.transport is not None:
            self._paused = True
            self._paused_at = self._clients.deadlines.now
            self.transport.pause_reading()
            self._advance()

    def resume_reading(self) -> None:
        """Read on, unless requests wait; what was read before and waits for its turn comes first."""
        if self._unparsed:
            self._clients.turns.wait(self)
        elif self._paused and self._input is not Input.ENDED and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
            if self._receiving is not None:
                self._receiving.began += self._clients.deadlines.now - self._paused_at
        self._advance()

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
            self._ignore()

    def _ignore(self) -> None:
        if self._input is Input.OPEN:
            self._input = Input.IGNORED

    def _refuse(self, problem: GatewayError) -> None:
        """Answer what cannot be read, behind the responses that are due before it."""
        self._ignore()
        receiving, self._receiving = self._receiving, None
        if receiving is not None:
            receiving.break_off(problem)
        else:
            self._queue.append(problem)
            if self._current is not None:
                self.pause_reading()
        self._notify()
        self._advance()
        self._count()

    def _refuse_more(self) -> None:
        last = self._queue[-1]
        if isinstance(last, Exchange):
            last.keep_alive = False
        self._ignore()

    # What it holds.

    def _count(self) -> None:
        """Count what is held of requests that are not whole, and of a response that is not taken."""
        held = self._reader.partial + len(self._unparsed) if self._input is Input.OPEN else 0
        if self._receiving is not None:
            held += self._receiving.unasked
        if self._blocked:
            held += self._unread
        if held != self.counted:
            self._clients.count(self, held)

    def let_go(self) -> None:
        """Give up what is held: it is needed for another party."""
        if self._blocked:
            self.abort()
        elif self._input is Input.OPEN:
            self._refuse(OverloadedError())

    # The connection's task.

    async def _serve(self) -> None:
        unread = False
        try:
            while (item := await self._next()) is not None:
                if isinstance(item, GatewayError):
                    self.write(self._clients.refusal(item, self.peer))
                    unread = True
                    break
                self._current = item
                await self._clients.handle(item)
                self._current = None
                if not item.keep_alive or not item.complete or self.transport is None:
                    unread = not item.complete
                    break
                if self._queue:
                    # Each of many small requests would be handled before anybody else is served.
                    await asyncio.sleep(0)
                else:
                    self.resume_reading()
        finally:
            self._current = None
            self._close(linger=unread)

    async def _next(self) -> Exchange | GatewayError | None:
        while self._blocked or not self._queue:
            if self.transport is None or (self._is_over() and not self._blocked):
                return None
            self._arrival = self.loop.create_future()
            await self._arrival
            self._arrival = None
        return self._queue.popleft()

    def _is_over(self) -> bool:
        """Whether no further request can come, but for one whose head has begun."""
        coming = self._reader.partial or self._unparsed
        return self._input is not Input.OPEN or (self.closing and not coming)

    def _notify(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    # Writing.

    def begin(self, source: Pausable | None) -> None:
        """Name what is held back while the client is slow; None: nothing any more."""
        self._source = source

    def write(self, data: bytes) -> None:
        """Send bytes at the end of this turn, if the client is still there; much of them at once."""
        if self.transport is None:
            return
        if not self._unsent:
            self._clients.outbox.add(self)
        self._unsent.append(data)
        self._unsent_size += len(data)
        if self._unsent_size > _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Send what was written."""
        unsent, self._unsent, self._unsent_size = self._unsent, [], 0
        if unsent and self.transport is not None:
            self.transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def shut(self) -> None:
        """Take no further request; close as soon as nothing is in flight."""
        self.closing = True
        if self._current is None and not self._queue:
            self._notify()

    def abort(self) -> None:
        """Close at once."""
        self.closing = True
        if self.transport is not None:
            self.transport.abort()

    def reset(self) -> None:
        """Break the connection so that the client sees it: an end would pass for that of the response."""
        if self.transport is not None:
            raw: Any = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.abort()

    def _close(self, *, linger: bool) -> None:
        """Close after the response; linger where the client still sends, so that the response reaches it."""
        transport = self.transport
        if transport is None:
            return
        self._ignore()
        self.flush()
        if not linger or self._input is Input.ENDED or transport.is_closing():
            transport.close()
            return
        self._input = Input.LINGERING
        self._receiving = None
        transport.write_eof()
        if self._paused:
            self._paused = False
            transport.resume_reading()
        self._advance()
        self._count()

    @property
    def in_flight(self) -> bool:
        """Whether a response is due, or not yet taken from the transport."""
        return self._current is not None or bool(self._queue) or self._buffered() > 0

    def _buffered(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()
