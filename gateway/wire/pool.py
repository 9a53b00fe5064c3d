"""A lean, bounded pool of connections to Core.

Rules kept here:
- Nothing is sent twice, but a GET on a reused connection that gave no byte.
- The connection used last is used next, so that the others can go idle and end.
- Who finds no place waits for one, up to a bound in number and in time; whether the request may still be sent
  is asked after that wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable
from typing import Protocol

from gateway.errors import Code, GatewayError
from gateway.wire.deadlines import Deadlines
from gateway.wire.dialing import Dialer
from gateway.wire.outbox import Outbox
from gateway.wire.unreachable import CLOSED, unreachable
from gateway.wire.upstream import Answer, Flow, PoolLimits, StaleError, UpstreamConnection


class Gate(Protocol):
    """Whether a request may still be sent, asked just before its bytes leave."""

    def passes(self) -> bool:
        """True if it may, False where that cannot be told at once: then `renew`."""

    async def renew(self) -> None:
        """Return if it may be sent, else raise."""


class Pool:
    """The connections to one Core."""

    def __init__(
        self,
        host: str,
        port: int,
        limits: PoolLimits,
        loop: asyncio.AbstractEventLoop,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._dialer = Dialer(host, port, tls)
        self._open: set[UpstreamConnection] = set()
        self._idle: list[UpstreamConnection] = []
        self._busy = 0
        self._waiting: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self._closed = False
        self._aborted = False
        self.limits = limits
        self.loop = loop
        self.deadlines = Deadlines(loop)
        self.outbox = Outbox(loop)

    @property
    def counts(self) -> dict[str, int]:
        """Connections by state, for the metrics."""
        return {"idle": len(self._idle), "busy": self._busy, "waiting": len(self._waiting)}

    def after(self, seconds: float) -> float:
        """The time of `deadlines` in `seconds`."""
        return self.deadlines.now + seconds

    async def request(
        self, data: bytes, *, repeatable: bool, bodiless: bool = False, gate: Gate | None = None
    ) -> Answer:
        """Send one whole request and return Core's answer, as soon as its head is there.

        `repeatable` allows a second try where a reused connection gave no byte. `gate` is asked once there is
        a connection, however long that took.
        Raises GatewayError: UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT, or UNAVAILABLE where the pool's
        queue is full; and what `gate` raises, then nothing was sent.
        """
        connection = self.idle() or await self.acquire()
        if gate is not None and not gate.passes():
            connection = await self._renewed(gate, connection)
        reused = connection.reused
        try:
            return await connection.send(data, bodiless=bodiless)
        except StaleError:
            if not (repeatable and reused):
                raise unreachable(CLOSED) from None
        self._drop_idle()
        connection = await self.acquire()
        if gate is not None and not gate.passes():
            connection = await self._renewed(gate, connection)
        try:
            return await connection.send(data, bodiless=bodiless)
        except StaleError:
            raise unreachable(CLOSED) from None

    async def upload(
        self,
        head: bytes,
        source: Flow,
        begin: Callable[[UpstreamConnection], None],
        *,
        bodiless: bool = False,
        gate: Gate | None = None,
    ) -> Answer:
        """Send a head, let `begin` send the body as it comes, and return Core's answer, be it early.

        Raises what `request` raises. Nothing is sent twice.
        """
        connection = await self.acquire()
        if gate is not None and not gate.passes():
            connection = await self._renewed(gate, connection)
        try:
            waiter = connection.send(head, bodiless=bodiless, source=source)
            begin(connection)
            return await waiter
        except StaleError:
            raise unreachable(CLOSED) from None

    def idle(self) -> UpstreamConnection | None:
        """An idle connection to send one request on, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            self._busy += 1
            if connection.usable:
                return connection
        return None

    async def acquire(self) -> UpstreamConnection:
        """A connection to send one request on: an idle one, a new one, or the next to come free."""
        while True:
            if (connection := self.idle()) is not None:
                return connection
            if self._busy < self.limits.connections:
                return await self._connect()
            if len(self._waiting) >= self.limits.queue or self._closed:
                raise GatewayError(Code.UNAVAILABLE)
            given = await self._wait()
            if given is not None and given.usable:
                return given

    def release(self, connection: UpstreamConnection) -> None:
        """Take back a connection that is free for another request."""
        connection.reused = True
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if self._closed:
            connection.abort()
        else:
            self._busy -= 1
            self._idle.append(connection)
            connection.deadline = self.after(self.limits.idle)

    def lost(self, connection: UpstreamConnection) -> None:
        """Take note that a connection has ended."""
        self.deadlines.forget(connection)
        if connection not in self._open:
            # It ended while it was made: `_connect` gives its place back.
            return
        self._open.remove(connection)
        if connection in self._idle:
            self._idle.remove(connection)
            return
        self._busy -= 1
        self._wake()

    def close(self) -> None:
        """Close what is idle, and everything else behind the answer that is due."""
        self._closed = True
        self._drop_idle()

    def abort(self) -> None:
        """Close every connection at once; what is in flight on one fails."""
        self._closed = self._aborted = True
        for connection in list(self._open):
            connection.abort()

    def _drop_idle(self) -> None:
        for connection in list(self._idle):
            connection.abort()

    async def _renewed(self, gate: Gate, connection: UpstreamConnection) -> UpstreamConnection:
        """The connection once the gate lets a request pass, or another one if it has ended by then.

        A connection on which nothing is to be sent is given back. Raises what `gate` raises.
        """
        while True:
            try:
                await gate.renew()
            except BaseException:
                if connection.usable:
                    self.release(connection)
                raise
            if connection.usable:
                return connection
            connection = await self.acquire()
            if gate.passes():
                return connection

    async def _wait(self) -> UpstreamConnection | None:
        waiter: asyncio.Future[UpstreamConnection | None] = self.loop.create_future()
        self._waiting.append(waiter)
        timer = self.loop.call_later(self.limits.connect, self._give_up, waiter)
        try:
            return await waiter
        finally:
            timer.cancel()
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)

    @staticmethod
    def _give_up(waiter: asyncio.Future[UpstreamConnection | None]) -> None:
        if not waiter.done():
            waiter.set_exception(GatewayError(Code.UNAVAILABLE))

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _connect(self) -> UpstreamConnection:
        self._busy += 1
        try:
            connection = await self._dialer.connect(lambda: UpstreamConnection(self), self.limits.connect)
        except BaseException:
            self._busy -= 1
            self._wake()
            raise
        self._open.add(connection)
        if not connection.usable:
            self.lost(connection)
            raise unreachable(CLOSED)
        if self._aborted:
            connection.abort()
            raise GatewayError(Code.UNAVAILABLE)
        return connection
