"""The connections of one private listener: aiohttp answers them, bounded in number, size and time.

Rules kept here:
- Every phase of a connection has a deadline, from one table.
- When all places are taken, the client address that holds most of them gives one up to a newcomer that holds
  fewer; a connection that waits for a request gives way before one whose request is being answered.
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

from gateway.config.model import TimeoutsConfig
from gateway.fairness.shares import network_of
from gateway.wire.client_address import peer_of
from gateway.wire.deadlines import NEVER, Deadlines

MAX_BYTES: Final = 64 * 1024
"""Bytes of one request, head and body."""
_CLOSE_SECONDS: Final = 1.0


class Phase(enum.Enum):
    """What a connection is waiting for."""

    IDLE = "a request"
    HEAD = "the rest of a request's head"
    REQUEST = "the rest of a request's body, or its response"
    RESPONSE = "the client, to take its response"


_WAITING: Final = (Phase.IDLE, Phase.HEAD)


@dataclass(frozen=True, slots=True)
class PrivateLimits:
    """How many connections there may be, and their deadlines."""

    connections: int
    timeouts: TimeoutsConfig

    def seconds(self, phase: Phase) -> float:
        """How long a phase may take."""
        return {
            Phase.IDLE: self.timeouts.idle,
            Phase.HEAD: self.timeouts.head,
            Phase.REQUEST: self.timeouts.body,
            Phase.RESPONSE: self.timeouts.write,
        }[phase]


class PrivateServer:
    """Serves one application; to be set up, and closed."""

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
        self._connections: dict[asyncio.BaseTransport, _Connection] = {}

    async def set_up(self) -> None:
        """Make it ready for connections."""
        await self._runner.setup()

    async def close(self) -> None:
        """Close every connection; a request that is being answered has a second."""
        await self._runner.cleanup()
        for connection in list(self._connections.values()):
            connection.expire()

    def connect(self) -> asyncio.Protocol:
        """A protocol for a new connection, for `loop.create_server`."""
        server = self._runner.server
        if server is None:
            raise RuntimeError("set_up comes first")
        return _Connection(self, server())

    def admit(self, transport: asyncio.BaseTransport, connection: _Connection) -> bool:
        """Take a connection in, in another's place where there is none; False if no other gives way."""
        if len(self._connections) >= self.limits.connections:
            other = self._gives_way(connection.origin)
            if other is None:
                return False
            # It is closed a turn later, and holds no place any more.
            self.forget(other)
            other.expire()
        self._connections[transport] = connection
        self.deadlines.watch(connection)
        return True

    def forget(self, connection: _Connection) -> None:
        """A connection has ended."""
        if connection.transport is not None:
            self._connections.pop(connection.transport, None)
        self.deadlines.forget(connection)

    def _gives_way(self, origin: str) -> _Connection | None:
        """The connection whose place a newcomer from `origin` gets."""
        places = Counter(connection.origin for connection in self._connections.values())
        own = places[origin]

        def may_go(other: _Connection) -> bool:
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
            connection.enter(Phase.REQUEST)
            try:
                return await handler(request)
            finally:
                connection.answered()

        return phases


class _Connection(asyncio.Protocol):
    """One connection: passes everything on to aiohttp's protocol, and keeps its phase."""

    def __init__(self, server: PrivateServer, inner: asyncio.Protocol) -> None:
        self._server = server
        self._inner = inner
        self._admitted = False
        self._received = 0
        self._phase = Phase.IDLE
        self.transport: asyncio.Transport | None = None
        self.origin = ""
        self.since = 0.0
        self.deadline = NEVER

    @property
    def waiting(self) -> bool:
        """Whether it has no request that is being answered."""
        return self._phase in _WAITING

    def enter(self, phase: Phase) -> None:
        """Wait for something else, from now on."""
        self._phase = phase
        self.since = self._server.deadlines.now
        self.deadline = self.since + self._server.limits.seconds(phase)

    def answered(self) -> None:
        """The response was made; it is sent next."""
        self._received = 0
        self.enter(Phase.IDLE)

    def expire(self) -> None:
        """Close it at once."""
        if self.transport is not None:
            self.transport.abort()

    # asyncio's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        self.transport = transport  # type: ignore[assignment]  # a stream transport, by create_server
        self.origin = network_of(peer_of(transport))
        self.enter(Phase.IDLE)
        self._admitted = self._server.admit(transport, self)
        if self._admitted:
            self._inner.connection_made(transport)
        else:
            self.expire()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        self._received += len(data)
        if self._received > MAX_BYTES:
            self.expire()
            return
        if self._phase is Phase.IDLE:
            self.enter(Phase.HEAD)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._server.forget(self)
        if self._admitted:
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client is slower than its response."""
        self.enter(Phase.RESPONSE)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It has taken enough."""
        self.enter(Phase.IDLE)
        self._inner.resume_writing()
