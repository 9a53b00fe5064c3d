"""Bodies that flow: a request's to Core, an answer's to its client.

Rules kept here:
- Core may act on a body before its last byte has come, so each part of it passes the gate; while the gate has
  to be asked, parts are held back.
- The client is held back while the gate is asked, and while Core is slow: it goes on when neither is so.
- A client that left is no reason to break off a small answer: it is read to its end for the log.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.proxy.context import SendPermission
from gateway.wire.exchange import Exchange
from gateway.wire.upstream_connection import UpstreamConnection, UpstreamResponse

SMALL: Final = 1 << 16
"""Bytes of an answer that is worth reading to its end."""


class Upload:
    """A request's body on its way to Core, and its `Pausable`; `closed` is why it must not go on, if so."""

    def __init__(self, exchange: Exchange, gate: SendPermission) -> None:
        self._exchange = exchange
        self._gate = gate
        self._connection: UpstreamConnection
        self._renewal: asyncio.Task[None] | None = None
        self._held: list[tuple[bytes, bool]] = []
        self._slow = False
        self.closed: Exception | None = None

    def begin(self, connection: UpstreamConnection) -> None:
        """Send what has come, and all that comes."""
        self._connection = connection
        self._exchange.stream(self)

    def feed(self, data: bytes, *, last: bool) -> None:
        """Send a part of the body on, or hold it back."""
        if self._renewal is not None:
            self._held.append((data, last))
        elif self._gate.passes():
            self._send(data, last=last)
        else:
            self._exchange.pause_reading()
            self._held.append((data, last))
            self._renewal = asyncio.ensure_future(self._renew(self._gate))

    def pause_reading(self) -> None:
        """Hold back the client: Core is slower than it."""
        self._slow = True
        self._exchange.pause_reading()

    def resume_reading(self) -> None:
        """Let the client send on, unless the gate is asked."""
        self._slow = False
        if self._renewal is None:
            self._exchange.resume_reading()

    def stop(self) -> None:
        """The answer is there: nothing more is asked or sent."""
        if self._renewal is not None:
            self._renewal.cancel()

    async def _renew(self, gate: SendPermission) -> None:
        try:
            await gate.renew()
        except Exception as closed:  # whatever it is, it is raised where the answer is waited for
            self.closed = closed
            self._connection.abort()
            return
        self._renewal = None
        held, self._held = self._held, []
        for data, last in held:
            self._send(data, last=last)
        if not self._slow:
            self._exchange.resume_reading()

    def _send(self, data: bytes, *, last: bool) -> None:
        if self._exchange.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            if last:
                data += b"0\r\n\r\n"
        self._connection.upload(data, last=last)

    def break_off(self) -> None:
        """The body will not come to its end: Core must not take it for whole."""
        self._connection.abort()


class Download:
    """An answer's body on its way to the client."""

    def __init__(self, exchange: Exchange, answer: UpstreamResponse, *, chunked: bool) -> None:
        self._exchange = exchange
        self._answer = answer
        self._chunked = chunked

    def write(self, data: bytes) -> None:
        """Send a part of the body to the client."""
        if self._exchange.gone:
            if self._answer.length is None or self._answer.length > SMALL:
                self._answer.abandon()
            return
        if self._chunked:
            self._exchange.write(b"%x\r\n%b\r\n" % (len(data), data), len(data))
        else:
            self._exchange.write(data, len(data))
