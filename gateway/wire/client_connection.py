"""One connection of a client: requests in, ordered responses out.

Rules kept here:
- The connection is in one phase at a time. A deadline is set when a phase is entered, and nowhere else.
- A client that still sends when its connection ends is half-closed first, so that the response reaches it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.errors import GatewayError
from gateway.fairness.errors import OverloadedError
from gateway.wire import client_input
from gateway.wire.client_address import peer_of
from gateway.wire.client_certificate import ClientCertificate
from gateway.wire.client_deadlines import (
    BODY,
    CLOSED,
    HANDLING,
    HANDSHAKE,
    HEAD,
    HELD,
    IDLE,
    LINGERING,
    SENDING,
    SLOWEST,
    ClientLimits,
    ClientPhase,
)
from gateway.wire.client_input import ClientInput
from gateway.wire.client_presence import HALF_CLOSED_SECONDS, STALLED_SECONDS
from gateway.wire.deadline_timer import NEVER, Deadlines
from gateway.wire.errors import RequestTimeoutError
from gateway.wire.exchange import Exchange
from gateway.wire.flow import FlowControl
from gateway.wire.held_bytes import HeldBytes
from gateway.wire.parse_budget import ParseBudget
from gateway.wire.peer_end import has_left
from gateway.wire.request_loop import RequestLoop
from gateway.wire.request_queue import RequestQueue
from gateway.wire.request_turns import RequestTurns
from gateway.wire.securable_connection import SecurableConnection
from gateway.wire.write_coalescer import CoalescingWriter, WriteCoalescer


class ClientConnectionOwner(Protocol):
    """The owner of all connections of clients; `seconds` are those of each phase, by its number."""

    loop: asyncio.AbstractEventLoop
    limits: ClientLimits
    seconds: tuple[float, ...]
    deadlines: Deadlines
    coalescer: WriteCoalescer
    parse_budget: ParseBudget
    request_turns: RequestTurns
    held_bytes: HeldBytes
    draining: bool
    handle: Callable[[Exchange], Awaitable[None]]
    refusal: Callable[[GatewayError, str], bytes]

    def admit(self, connection: ClientConnection) -> str | None:
        """Take in a connection and return the party that it is counted for; None if it is refused."""

    def run(self, work: Awaitable[None]) -> None:
        """Run a connection's task."""

    def forget(self, connection: ClientConnection) -> None:
        """Take note that a connection has ended."""


class ClientConnection(SecurableConnection):
    """One connection of a client: its transport, its phase, and its end.

    `peer` is the address of its other end, and `party` the party that it is counted for. `scheme` is that of
    its requests, `http` or `https`. `certificate` is the SHA-256, in hexadecimal, of the certificate that the
    client showed, and `subject` its subject; "" for none. `counted` are the bytes that are counted as held.
    `gone` says that the client has closed it, and `ended_at` when it ended its side.
    """

    __slots__ = (
        "_entered",
        "_owner",
        "_records",
        "_resting",
        "_transport",
        "certificate",
        "counted",
        "deadline",
        "ended_at",
        "flow",
        "gone",
        "input",
        "party",
        "peer",
        "phase",
        "requests",
        "scheme",
        "subject",
        "writer",
    )

    flow: FlowControl
    input: ClientInput
    requests: RequestQueue
    writer: CoalescingWriter
    _transport: asyncio.Transport

    def __init__(self, owner: ClientConnectionOwner) -> None:
        self._owner = owner
        self._entered = 0.0
        # The phase while nothing comes: a handshake first, where TLS is spoken.
        self._resting = IDLE
        self._records = 0
        self.scheme = "http"
        self.peer = ""
        self.certificate = ""
        self.subject = ""
        self.party = ""
        self.counted = 0
        self.phase = IDLE
        self.deadline = NEVER
        self.ended_at = NEVER
        self.gone = False

    # Its time.

    def advance(self) -> None:
        """Enter the phase that the connection is in now."""
        if self.gone:
            phase = CLOSED
        elif self.flow.blocked:
            phase = SENDING
        elif self.input.state is client_input.LINGERING:
            phase = LINGERING
        elif self.input.receiving is not None:
            phase = HELD if self.flow.paused else BODY
        elif self.requests.current is not None or self.requests.waiting:
            phase = HELD if self.flow.paused else HANDLING
        else:
            phase = HEAD if self.input.head_begun else self._resting
        # The time of a body begins anew with each of its bytes.
        if phase is not self.phase or phase is BODY:
            self._enter(phase)

    def _enter(self, phase: ClientPhase) -> None:
        """Set the phase and its deadline: the only place that does."""
        self.phase = phase
        self._entered = now = self._owner.deadlines.now
        seconds = self._owner.seconds[phase.number]
        if phase is BODY and (receiving := self.input.receiving) is not None:
            pace = receiving.body.began + seconds + receiving.body.bytes_in / SLOWEST
            seconds = min(seconds, pace - now)
        self.deadline = now + seconds

    def wait_anew(self) -> None:
        """Begin the time of an idle connection anew: it has changed."""
        if self.phase is IDLE:
            self._enter(IDLE)

    def expire(self) -> None:
        """End the phase whose deadline has passed."""
        if self.phase is SENDING:
            if self.flow.taken() < SLOWEST * self._owner.limits.write:
                self.abort()
            else:
                self.flow.measure_anew()
                self._enter(SENDING)
        elif self.phase is BODY and self.input.receiving is not None:
            self.input.ignore()
            self.input.receiving.body.break_off(RequestTimeoutError())
        elif self.phase is HELD:
            self._look_for_client()
        elif self.phase is HEAD:
            self.input.refuse(RequestTimeoutError())
        elif self.phase is IDLE and self.ending:
            # What the client has not read yet of its last response is still sent.
            self.close(linger=False)
        else:
            self.abort()

    def _look_for_client(self) -> None:
        """Find out whether the client, of which nothing is read, has left."""
        if has_left(self._transport):
            self.abort()
        else:
            self._enter(HELD)

    def waits_for_client(self) -> bool:
        """Return True if its client has kept it waiting for long enough to lose it to another party.

        A body that streams is Core's business as well: it never counts.
        """
        if self.phase in (IDLE, HEAD, HANDSHAKE):
            return True
        now = self._owner.deadlines.now
        since = now - self._entered
        if self.phase is BODY and self.input.receiving is not None:
            body = self.input.receiving.body
            return not body.streams and now - body.began >= STALLED_SECONDS
        if self.phase is SENDING:
            return since >= STALLED_SECONDS and self.flow.taken() < SLOWEST * since
        return self.phase is LINGERING and since >= STALLED_SECONDS

    # asyncio's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the connection's task, unless TLS comes first, or refuse the connection."""
        self._transport = transport  # type: ignore[assignment]  # a stream transport, by create_server
        self.peer = peer_of(transport)
        self.flow = FlowControl(self._transport)
        self.writer = CoalescingWriter(self._transport, self._owner.coalescer)
        self.requests = RequestQueue(self._owner.loop)
        self.input = ClientInput(self, self.requests, self._owner)
        if transport.get_extra_info("sslcontext") is not None:
            self.scheme, self._resting = "https", HANDSHAKE
        party = self._owner.admit(self)
        if party is None:
            # A handshake for the refusal would cost more than what is refused: with TLS it is never sent.
            self.writer.write(self._owner.refusal(OverloadedError(), self.peer))
            self.writer.flush()
            self._transport.close()
            return
        self.party = party
        self._enter(self._resting)
        if self._resting is IDLE:
            self._serve()

    def secured(self, certificate: ClientCertificate) -> None:
        """Begin to serve: the TLS handshake is done."""
        self.certificate, self.subject = certificate.sha256, certificate.subject
        self._resting = IDLE
        self._enter(IDLE)
        self._serve()

    def _serve(self) -> None:
        self._owner.run(RequestLoop(self, self._owner).serve())

    def hold_records(self, size: int) -> None:
        """Count the bytes that are held of TLS records: not whole, or not opened yet."""
        self._records = size
        self.count()

    def data_received(self, data: bytes) -> None:
        """Read requests."""
        self.input.receive(data)

    def eof_received(self) -> bool:
        """Keep a half-closed connection open for the responses to requests that were whole."""
        lingering = self.input.state is client_input.LINGERING
        self.input.end()
        self.ended_at = self._owner.deadlines.now
        # The end may come in the turn of the last response, before it was sent.
        self.writer.flush()
        self.input.leave()
        if lingering or not self.requests.busy:
            return False
        self.requests.notify()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the requests that the client has left, and end the task."""
        self.gone = True
        self.ended_at = min(self.ended_at, self._owner.deadlines.now)
        self.input.end()
        self.writer.lose()
        self.advance()
        self._owner.forget(self)
        self.input.leave()
        # The rest of a large response is dropped, and its source must not stay held back.
        self.flow.lose()
        self.requests.notify()

    def pause_writing(self) -> None:
        """Hold back Core: the client is slower than it."""
        self.flow.pause_writing()
        self.advance()
        self.count()

    def resume_writing(self) -> None:
        """Let Core send on."""
        self.flow.resume_writing()
        self.requests.notify()
        self.advance()
        self.count()

    # What it holds.

    def count(self) -> None:
        """Count what is held of requests that are not whole, and of a response that is not taken."""
        held = self.input.held + self._records
        if self.flow.blocked:
            held += self.flow.unread
        if held != self.counted:
            self.counted = self._owner.held_bytes.count(self, held)

    def let_go(self) -> None:
        """Give up what is held: it is needed for another party."""
        # Records that wait stay until they are opened, whatever becomes of the requests in them.
        if self.flow.blocked or self.phase is HANDSHAKE or self._records > self.input.held:
            self.abort()
        elif self.input.state is client_input.OPEN:
            self.input.refuse(OverloadedError())
        self.counted = 0

    # Its end.

    @property
    def ending(self) -> bool:
        """True if no further request is taken."""
        return self._owner.draining

    @property
    def abandoned(self) -> bool:
        """True if the client ended its side some time ago."""
        return self._owner.deadlines.now > self.ended_at + HALF_CLOSED_SECONDS

    def abort(self) -> None:
        """Close at once."""
        if not self.gone:
            self._transport.abort()

    def close(self, *, linger: bool) -> None:
        """Close after the response; linger if the client still sends, so that the response reaches it."""
        if self.gone:
            return
        self.input.ignore()
        self.writer.flush()
        if not linger or self.input.state is client_input.ENDED or self._transport.is_closing():
            self._transport.close()
            return
        self._transport.write_eof()
        self.input.linger()
        self.advance()
        self.count()
