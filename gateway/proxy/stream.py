"""Bodies that stream: a request's to Core, a response's to its client.

Rules kept here:
- Core may act on a body before its last byte has come. So permission is asked for each part of it; while the
  permission is renewed, parts are held back.
- The client is held back while the permission is renewed and while Core is slow.
- A small response is read to its end for the log, even if its client has left.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from gateway.wire.exchange import Exchange
from gateway.wire.request_body import RequestBodySink
from gateway.wire.upstream_response import UpstreamResponse

SMALL: Final = 1 << 16
"""Bytes of a response that is worth reading to its end."""


class SendPermission(Protocol):
    """Tells whether bytes of a request may still leave for Core."""

    def passes(self) -> bool:
        """Return True if it may be sent; False if it may not, or if that must be asked: then call `renew`."""

    async def renew(self) -> None:
        """Return if they may leave, else raise."""


class UploadBody(Protocol):
    """The body that is sent, as it comes from its client."""

    length: int | None

    def stream(self, sink: RequestBodySink) -> None:
        """Hand the body to `sink` as it comes."""

    def pause_reading(self) -> None:
        """Hold back the client."""

    def resume_reading(self) -> None:
        """Let the client send on."""


class UploadWriter(Protocol):
    """The connection to Core that the body is sent on."""

    def write(self, data: bytes, *, last: bool) -> None:
        """Send a part of the body."""

    def abort(self) -> None:
        """Close the connection: Core must not take the body for whole."""


class Upload:
    """A request's body on its way to Core; a `Pausable`. `closed` is why it must not go on, if so."""

    def __init__(self, body: UploadBody, permission: SendPermission) -> None:
        self._body = body
        self._permission = permission
        self._connection: UploadWriter
        self._renewal: asyncio.Task[None] | None = None
        self._held: list[tuple[bytes, bool]] = []
        self._slow = False
        self.closed: Exception | None = None

    def begin(self, connection: UploadWriter) -> None:
        """Send what has come, and all that comes."""
        self._connection = connection
        self._body.stream(self)

    def feed(self, data: bytes, *, last: bool) -> None:
        """Send a part of the body on, or hold it back."""
        if self._renewal is not None:
            self._held.append((data, last))
        elif self._permission.passes():
            self._send(data, last=last)
        else:
            self._body.pause_reading()
            self._held.append((data, last))
            self._renewal = asyncio.ensure_future(self._renew())

    def pause_reading(self) -> None:
        """Hold back the client: Core is slower than it."""
        self._slow = True
        self._body.pause_reading()

    def resume_reading(self) -> None:
        """Let the client send on, unless the permission is being renewed."""
        self._slow = False
        if self._renewal is None:
            self._body.resume_reading()

    def stop(self) -> None:
        """Ask and send nothing more: the response is there."""
        if self._renewal is not None:
            self._renewal.cancel()

    async def _renew(self) -> None:
        try:
            await self._permission.renew()
        except Exception as closed:  # raised where the response is waited for
            self.closed = closed
            self._connection.abort()
            return
        self._renewal = None
        held, self._held = self._held, []
        for data, last in held:
            self._send(data, last=last)
        if not self._slow:
            self._body.resume_reading()

    def _send(self, data: bytes, *, last: bool) -> None:
        if self._body.length is None:
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            if last:
                data += b"0\r\n\r\n"
        self._connection.write(data, last=last)

    def break_off(self) -> None:
        """Break the connection: the body will not come to its end, and Core must not take it for whole."""
        self._connection.abort()


class Download:
    """A response's body on its way to the client."""

    def __init__(self, exchange: Exchange, response: UpstreamResponse, *, chunked: bool) -> None:
        self._exchange = exchange
        self._response = response
        self._chunked = chunked

    def write(self, data: bytes) -> None:
        """Send a part of the body to the client."""
        if self._exchange.gone:
            if self._response.length is None or self._response.length > SMALL:
                self._response.abandon()
            return
        if self._chunked:
            self._exchange.write(b"%x\r\n%b\r\n" % (len(data), data), len(data))
        else:
            self._exchange.write(data, len(data))
