"""TLS of one client's connection: the protocol of its socket, and the transport of the connection above.

Rules kept here:
- The connection above is made when the socket is accepted, so that it is counted, timed and drained like any
  other; its bytes come once the handshake is done.
- A handshake may bring `MOST_HANDSHAKE` bytes. Handshakes take turns, and so do connections with records to
  open (`TlsTurns`).
- The socket is read only while nothing waits for its turn, and the connection above wants more. So at most
  one reading waits, and the end of the socket comes behind all bytes.
- Both sides can end one after the other, as with TCP, so that a response reaches a client that has ended its
  side or still sends.
- A client that speaks plain HTTP is told so, in plain HTTP.
"""

from __future__ import annotations

import asyncio
import enum
import ssl
from collections.abc import Callable
from typing import Final

from gateway.errors import Code, error_body
from gateway.fairness.shares import network_of
from gateway.wire.client_address import peer_of
from gateway.wire.client_certificate import read_client_certificate
from gateway.wire.handshake_results import HandshakeResult, HandshakeResults, result_of
from gateway.wire.securable_connection import SecurableConnection
from gateway.wire.stacked_transport import StackedTransport
from gateway.wire.tls_session import HANDSHAKE_HOLDS, RECORD, TlsSession, begins_whole
from gateway.wire.tls_turns import TlsTurns

MOST_HANDSHAKE: Final = 64 * 1024
"""Bytes of a client's handshake, its certificates included."""
_MALFORMED: Final = Code.MALFORMED_REQUEST
_BODY: Final = error_body(_MALFORMED.code, f"{_MALFORMED.message}: this port speaks TLS")
PLAIN_HTTP: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n"
    b"Cache-Control: no-store\r\nConnection: close\r\n\r\n%b"
) % (len(_BODY), _BODY)
"""The response to a request without TLS."""


class _State(enum.Enum):
    """The use that is made of what comes and goes."""

    HANDSHAKE = "the handshake is not done"
    OPEN = "bytes come and go"
    SHUT = "this side has ended: nothing is sent, what comes is thrown away"


class TlsAcceptor:
    """Lets the connections of one listener speak TLS.

    `context` is that of new connections; it is replaced whole when a certificate changes.
    """

    def __init__(
        self, context: ssl.SSLContext, loop: asyncio.AbstractEventLoop, results: HandshakeResults
    ) -> None:
        self.context = context
        self.results = results
        # Apart, so that a flood of handshakes delays no request.
        self.handshakes = TlsTurns(loop)
        self.records = TlsTurns(loop)

    def over(self, connect: Callable[[], SecurableConnection]) -> Callable[[], asyncio.Protocol]:
        """Return a function that makes the connections of `connect`, each over TLS."""
        return lambda: TlsConnection(connect(), self)


class TlsConnection(asyncio.Protocol):
    """The protocol of the socket; `party` is the network of the client."""

    __slots__ = (
        "_above",
        "_acceptor",
        "_ended",
        "_held",
        "_holds",
        "_reads",
        "_received",
        "_session",
        "_state",
        "_transport",
        "_unread",
        "party",
    )

    _session: TlsSession
    _transport: TlsTransport

    def __init__(self, above: SecurableConnection, acceptor: TlsAcceptor) -> None:
        self._above = above
        self._acceptor = acceptor
        self._state = _State.HANDSHAKE
        self._received = 0
        # What waits for the rest of the first record, or for its turn.
        self._unread = b""
        # The client's side has ended, and the connection above knows it.
        self._ended = False
        # The connection above reads no more for now.
        self._held = False
        # The bytes that the connection above counts for this.
        self._holds = 0
        # The socket is read.
        self._reads = True
        self.party = ""

    # The socket's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake; the connection above counts from now on."""
        context = self._acceptor.context
        self.party = network_of(peer_of(transport))
        self._session = TlsSession(context)
        self._transport = TlsTransport(self, transport, context)
        self._above.connection_made(self._transport)

    def data_received(self, data: bytes) -> None:
        """Take records."""
        if self._state is _State.OPEN:
            if not self._ended:
                self._unread += data
                self._ask_to_open()
        elif self._state is _State.HANDSHAKE:
            self._shake_hands(data)

    def eof_received(self) -> bool | None:
        """Take note that the socket brings no more."""
        if self._state is _State.OPEN and not self._ended:
            self._ended = True
            return self._above.eof_received()
        return self._state is _State.OPEN

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the end of the socket."""
        if self._state is _State.HANDSHAKE:
            self._acceptor.handshakes.forget(self)
            self._acceptor.results.count(HandshakeResult.ABANDONED)
        self._state = _State.SHUT
        self._acceptor.records.forget(self)
        self._above.connection_lost(exc)
        # What refers to each other would wait for the garbage collector, with all that OpenSSL holds for it.
        del self._above, self._session, self._transport

    def pause_writing(self) -> None:
        """Hold back the connection above."""
        self._above.pause_writing()

    def resume_writing(self) -> None:
        """Let the connection above write on."""
        self._above.resume_writing()

    # The handshake.

    def _shake_hands(self, data: bytes) -> None:
        # A part of a request may have come with the last bytes of the handshake.
        if self._received > MOST_HANDSHAKE:
            self._fail(HandshakeResult.FAILED)
            return
        self._received += len(data)
        self._unread += data
        if not self._session.begun:
            self._above.hold_records(self._received)
            if not begins_whole(self._unread):
                return
        if not self._acceptor.handshakes.ask(self):
            self._read(wanted=False)

    def step(self) -> None:
        """Go on with the handshake, or open records."""
        if self._state is _State.SHUT or self._transport.is_closing():
            return
        if self._state is _State.HANDSHAKE:
            self._go_on_with_handshake()
        elif not self._held:
            self._open()

    def _go_on_with_handshake(self) -> None:
        records, self._unread = self._unread, b""
        if not self._session.begun:
            self._above.hold_records(HANDSHAKE_HOLDS)
        try:
            behind = self._session.shake_hands(records)
        except ssl.SSLError as problem:
            self._fail(result_of(problem))
            return
        self._transport.send_records(self._session.due())
        self._read(wanted=True)
        if behind is not None:
            self._state = _State.OPEN
            self._acceptor.results.count(HandshakeResult.DONE)
            self._above.hold_records(0)
            self._above.secured(read_client_certificate(self._session.certificate()))
            self._unread = behind
            self._ask_to_open()

    def _fail(self, result: HandshakeResult) -> None:
        """End a connection whose handshake has failed: with the reason, as far as the client can read it."""
        self._state = _State.SHUT
        self._acceptor.results.count(result)
        self._transport.send_records(
            PLAIN_HTTP if result is HandshakeResult.PLAIN_HTTP else self._session.due()
        )
        self._transport.close()

    # Bytes.

    def _ask_to_open(self) -> None:
        if not self._acceptor.records.ask(self):
            self._read(wanted=False)
            self._count()

    def _open(self) -> None:
        """Open the records that have come, for as long as this turn may spend on them."""
        session, records = self._session, self._acceptor.records
        try:
            data, self._unread = session.open(self._unread, records.is_over)
        except ssl.SSLError:
            self._break()
            return
        if due := session.due():
            self._transport.send_records(due)
        if session.ended:
            self._unread = b""
        self._read(wanted=not self._unread)
        if self._unread:
            records.wait(self)
        self._count()
        if data:
            self._above.data_received(data)
        # The end comes behind all bytes: not while the connection above has not taken them.
        if session.ended and not self._ended and not self._held:
            self._ended = True
            if not self._above.eof_received():
                self._transport.close()

    def _count(self) -> None:
        """Count what is held of records."""
        holds = len(self._unread) + (RECORD if self._session.partial else 0)
        if holds != self._holds:
            self._holds = holds
            self._above.hold_records(holds)

    def hold(self) -> None:
        """Bring no more bytes for now: the connection above asks for it."""
        self._held = True
        self._read(wanted=False)

    def let_come(self) -> None:
        """Bring bytes again, first of all those that wait."""
        self._held = False
        if self._unread or self._session.unopened or (self._session.ended and not self._ended):
            self._acceptor.records.wait(self)
        else:
            self._read(wanted=True)

    def _read(self, *, wanted: bool) -> None:
        """Read the socket, or stop."""
        if wanted is not self._reads:
            self._reads = wanted
            if wanted:
                self._transport.go_on()
            else:
                self._transport.stop()

    def _break(self) -> None:
        """End a connection whose session is broken, or whose records carry next to nothing."""
        self._state = _State.SHUT
        self._unread = b""
        self._transport.send_records(self._session.due())
        self._transport.abort()

    def send(self, data: bytes) -> None:
        """Send bytes; none before the handshake is done, and none once this side has ended."""
        if self._state is not _State.OPEN:
            return
        try:
            records = self._session.seal(data)
        except ssl.SSLError:
            self._break()
            return
        self._transport.send_records(records)

    def end(self) -> None:
        """End this side."""
        if self._state is _State.OPEN:
            self._state = _State.SHUT
            self._unread = b""
            self._count()
            self._read(wanted=not self._held)
            self._transport.send_records(self._session.close())


class TlsTransport(StackedTransport):
    """The transport of the connection above TLS.

    `send_records` writes records to the socket; `stop` stops reading it, and `go_on` reads on.
    """

    def __init__(self, tls: TlsConnection, socket: asyncio.BaseTransport, context: ssl.SSLContext) -> None:
        below: asyncio.Transport = socket  # type: ignore[assignment]  # a stream transport
        super().__init__(below, {"sslcontext": context})
        self._tls = tls
        self.send_records = below.write
        self.stop = below.pause_reading
        self.go_on = below.resume_reading

    def pause_reading(self) -> None:
        """Bring no more bytes for now."""
        self._tls.hold()

    def resume_reading(self) -> None:
        """Bring bytes again."""
        self._tls.let_come()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        self._tls.send(bytes(data))

    def can_write_eof(self) -> bool:
        """Return True: this side can end before the other."""
        return True

    def write_eof(self) -> None:
        """Send no more; what still comes is thrown away."""
        self._tls.end()
        self._below.write_eof()

    def close(self) -> None:
        """Close once everything is sent; nobody waits for the client's own end (RFC 8446 section 6.1)."""
        self._tls.end()
        self._below.close()
