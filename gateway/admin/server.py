"""The connections of one private listener: served by aiohttp, bounded in number, size and time.

Rules kept here:
- Every phase of a connection has a deadline, from one table.
- When the listener is full, the client address with the most connections loses one to a new address that has
  fewer. A connection that waits for a request is closed before one whose request is being processed.
- A connection that sends more than `MAX_BYTES` for one request is closed.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import Counter
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.config.sections.requests import TimeoutsConfig
from gateway.fairness.shares import network_of
from gateway.wire.client_address import peer_of
from gateway.wire.client_certificate import ClientCertificate
from gateway.wire.deadline_timer import NEVER, Deadlines
from gateway.wire.securable_connection import SecurableConnection

MAX_BYTES: Final = 64 * 1024
"""Bytes of one request, head and body."""
_CLOSE_SECONDS: Final = 1.0
_STREAM_SECONDS: Final = 10.0


class PrivatePhase(enum.Enum):
    """The event that a connection is waiting for."""

    HANDSHAKE = "the rest of a TLS handshake"
    IDLE = "a request"
    HEAD = "the rest of a request's head"
    REQUEST = "the rest of a request's body, or its response"
    RESPONSE = "the client, to take its response"
    STREAM = "the next part of a response that goes on"


_WAITING: Final = (PrivatePhase.HANDSHAKE, PrivatePhase.IDLE, PrivatePhase.HEAD)


@dataclass(frozen=True, slots=True)
class PrivateLimits:
    """The greatest number of connections, and their deadlines."""

    connections: int
    timeouts: TimeoutsConfig

    def seconds(self, phase: PrivatePhase) -> float:
        """Return the seconds that a phase may take."""
        return {
            PrivatePhase.HANDSHAKE: self.timeouts.head,
            PrivatePhase.IDLE: self.timeouts.idle,
            PrivatePhase.HEAD: self.timeouts.head,
            PrivatePhase.REQUEST: self.timeouts.body,
            PrivatePhase.RESPONSE: self.timeouts.write,
            PrivatePhase.STREAM: _STREAM_SECONDS,
        }[phase]


class PrivateServer:
    """Serves one application, from `set_up` to `close`."""

    def __init__(
        self, application: web.Application, limits: PrivateLimits, loop: asyncio.AbstractEventLoop
    ) -> None:
        application.middlewares.insert(0, self._phases())
        # aiohttp's own lines quote the request they could not read.
        silent = logging.Logger("aiohttp.private", logging.CRITICAL + 1)  # noqa: LOG001  # not a global one
        self._runner = web.AppRunner(
            application, access_log=None, logger=silent, shutdown_timeout=_CLOSE_SECONDS
        )
        self.limits = limits
        self.deadlines = Deadlines(loop)
        self._connections: dict[asyncio.BaseTransport, PrivateConnection] = {}

    def adopt(self, limits: PrivateLimits) -> None:
        """Keep other limits from now on."""
        self.limits = limits

    async def set_up(self) -> None:
        """Make it ready for connections."""
        await self._runner.setup()

    async def close(self) -> None:
        """Close every connection; a request that is being processed has a second."""
        await self._runner.cleanup()
        for connection in list(self._connections.values()):
            connection.expire()

    def connect(self) -> PrivateConnection:
        """Return a protocol for a new connection, for `loop.create_server`."""
        server = self._runner.server
        if server is None:
            raise RuntimeError("set_up comes first")
        return PrivateConnection(self, server())

    def admit(self, transport: asyncio.BaseTransport, connection: PrivateConnection) -> bool:
        """Take a connection, and close another one if the listener is full; False if none may be closed."""
        if len(self._connections) >= self.limits.connections:
            other = self._to_close(connection.origin)
            if other is None:
                return False
            # It is closed a turn later, and does not count any more.
            self.forget(other)
            other.expire()
        self._connections[transport] = connection
        self.deadlines.watch(connection)
        return True

    def forget(self, connection: PrivateConnection) -> None:
        """Take note that a connection has ended."""
        if connection.transport is not None:
            self._connections.pop(connection.transport, None)
        self.deadlines.forget(connection)

    def _to_close(self, origin: str) -> PrivateConnection | None:
        """Return the connection that is closed for a new one from `origin`; None if none may be."""
        places = Counter(connection.origin for connection in self._connections.values())
        own = places[origin]

        def may_go(other: PrivateConnection) -> bool:
            more = places[other.origin] - own
            return more > 1 or (other.waiting and (more > 0 or other.origin == origin))

        candidates = [other for other in self._connections.values() if may_go(other)]
        rank = {other: (places[other.origin], other.waiting, -other.since) for other in candidates}
        return max(candidates, key=rank.__getitem__, default=None)

    def _phases(self) -> Middleware:
        @web.middleware
        async def phases(request: web.Request, handler: Handler) -> web.StreamResponse:
            transport = request.transport
            connection = self._connections.get(transport) if transport is not None else None
            if connection is None:
                return await handler(request)
            request[CONNECTION] = connection
            connection.enter(PrivatePhase.REQUEST)
            try:
                return await handler(request)
            finally:
                connection.responded()

        return phases


class PrivateConnection(SecurableConnection):
    """One connection: passes everything on to aiohttp's protocol, and keeps its own phase."""

    def __init__(self, server: PrivateServer, inner: asyncio.Protocol) -> None:
        self._server = server
        self._inner = inner
        # aiohttp's protocol has the connection.
        self._serving = False
        self._received = 0
        self._phase = PrivatePhase.IDLE
        self.transport: asyncio.Transport | None = None
        self.origin = ""
        self.since = 0.0
        self.deadline = NEVER

    @property
    def waiting(self) -> bool:
        """True if no request of it is being processed."""
        return self._phase in _WAITING

    def enter(self, phase: PrivatePhase) -> None:
        """Enter a phase, and set its deadline."""
        self._phase = phase
        self.since = self._server.deadlines.now
        self.deadline = self.since + self._server.limits.seconds(phase)

    def goes_on(self) -> None:
        """Take note that a response goes on: its time begins anew."""
        self.enter(PrivatePhase.STREAM)

    def responded(self) -> None:
        """Take note that the response was made; it is sent next."""
        self._received = 0
        self.enter(PrivatePhase.IDLE)

    def expire(self) -> None:
        """Close it at once."""
        if self.transport is not None:
            self.transport.abort()

    # asyncio's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request, or for the TLS handshake before it."""
        self.transport = transport  # type: ignore[assignment]  # a stream transport, by create_server
        self.origin = network_of(peer_of(transport))
        secure = transport.get_extra_info("sslcontext") is not None
        self.enter(PrivatePhase.HANDSHAKE if secure else PrivatePhase.IDLE)
        if not self._server.admit(transport, self):
            self.expire()
        elif not secure:
            self._serve(transport)

    def secured(self, certificate: ClientCertificate) -> None:
        """Begin to wait for a request: the TLS handshake is done."""
        self.enter(PrivatePhase.IDLE)
        if self.transport is not None:
            self._serve(self.transport)

    def hold_records(self, size: int) -> None:
        """Take note of the bytes of TLS records that are not whole: there are few connections."""

    def _serve(self, transport: asyncio.BaseTransport) -> None:
        self._serving = True
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        self._received += len(data)
        if self._received > MAX_BYTES:
            self.expire()
            return
        if self._phase is PrivatePhase.IDLE:
            self.enter(PrivatePhase.HEAD)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Take note that the client sends no more."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the end of the connection."""
        self._server.forget(self)
        if self._serving:
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Take note that the client is slower than its response."""
        self.enter(PrivatePhase.RESPONSE)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Take note that the client has taken enough of it."""
        self.enter(PrivatePhase.IDLE)
        self._inner.resume_writing()


CONNECTION: Final = web.RequestKey("connection", PrivateConnection)
"""The connection of a request."""
