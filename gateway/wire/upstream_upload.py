"""The body of one request on its way to Core, as it comes from its client.

Rules kept here:
- The client is held back while Core is slower than it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.wire.flow import Pausable
from gateway.wire.upstream_deadlines import CLOGGED, UPLOADING, WAITING, UpstreamPhase
from gateway.wire.upstream_request import UpstreamRequest


class UploadObserver(Protocol):
    """The pool, as far as an upload needs it."""

    def uploaded(self, request: UpstreamRequest) -> None:
        """Take note that the whole body of a request has been sent."""


class UploadConnection(Protocol):
    """The connection that a body is sent on."""

    phase: UpstreamPhase

    def enter(self, phase: UpstreamPhase) -> None:
        """Enter a phase, or begin its time anew."""

    @property
    def owner(self) -> UploadObserver:
        """The pool that it belongs to."""

    def abort(self) -> None:
        """Close at once."""


class UpstreamUpload:
    """The rest of a request's body, until its last byte is sent; `source` is held back while Core is slow."""

    __slots__ = ("_connection", "_request", "_source", "_transport")

    def __init__(
        self,
        connection: UploadConnection,
        transport: asyncio.Transport,
        source: Pausable,
        request: UpstreamRequest,
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._source: Pausable | None = source
        self._request = request

    @property
    def runs(self) -> bool:
        """True while more of the body is to be sent."""
        return self._source is not None

    def write(self, data: bytes, *, last: bool) -> None:
        """Send more of the body."""
        if self._source is None:
            return
        connection = self._connection
        if connection.phase is UPLOADING:
            # Its time begins anew with each part.
            connection.enter(UPLOADING)
        if data:
            self._transport.write(data)
        if last:
            self._source = None
            if connection.phase in (UPLOADING, CLOGGED):
                connection.enter(WAITING)
            connection.owner.uploaded(self._request)

    def pause(self) -> None:
        """Hold back the client: Core takes no more for now."""
        if self._source is not None and self._connection.phase is UPLOADING:
            self._connection.enter(CLOGGED)
            self._source.pause_reading()

    def resume(self) -> None:
        """Let the client send on."""
        if self._source is not None and self._connection.phase is CLOGGED:
            self._connection.enter(UPLOADING)
            self._source.resume_reading()

    def stop(self) -> bool:
        """Send no more of the body; return False if all of it was sent."""
        source, self._source = self._source, None
        return source is not None

    def lose(self) -> None:
        """Send no more of the body, for the connection has ended; the client is not held back for it."""
        source, self._source = self._source, None
        if source is not None:
            source.resume_reading()

    def abort(self) -> None:
        """Close the connection: Core must not take the body for whole."""
        self._connection.abort()
