"""A lean, bounded pool of connections to Core.

Rules kept here:
- Nothing is sent twice, but a GET on a reused connection that gave no byte.
- The connection used last is used next, so that the others can go idle and end.
- A request uses a connection only while it holds a place (`places`); one that waits for a place makes another
  party's give way that only waits for its client.
- A request whose time is over keeps its connection and gives its place back, as long as not too many of such
  run at once; beyond that it keeps its place too. All in all there are at most twice `limits.connections`,
  and up to two more where those are fewer than three.
- Whether a request may still be sent is asked when its bytes leave; where it has to be asked elsewhere, the
  request keeps its place meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from gateway.fairness.errors import OverloadedError
from gateway.fairness.shares import Claimant, kept
from gateway.wire.connect_errors import CLOSED, unreachable
from gateway.wire.deadlines import Deadlines, times
from gateway.wire.dialing import Dialer
from gateway.wire.flow import Client, Pausable, refuse_abandoned
from gateway.wire.places import Places
from gateway.wire.upstream_connection import (
    Call,
    Phase,
    PoolLimits,
    StaleError,
    UpstreamConnection,
    UpstreamResponse,
    WithheldError,
)
from gateway.wire.write_coalescer import WriteCoalescer


@dataclass(frozen=True, slots=True, eq=False)
class OwnCall:
    """A request of the gateway's own: nobody waits for it who could leave, and it may always be sent."""

    party: str = "gateway"
    network: str = "gateway"
    changes: bool = False
    repeatable: bool = False
    bodiless: bool = False
    first_byte: float = 0.0
    client: Client | None = None

    def passes(self) -> bool:
        """It may be sent."""
        return True

    async def renew(self) -> None:
        """Nobody has to be asked."""

    def ended_late(self, status: int | None) -> None:
        """Nobody waits for it."""


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
        self._detached: set[UpstreamConnection] = set()
        self._places = Places(loop, self._press)
        self._none_detached = asyncio.Event()
        self._closed = False
        self._aborted = False
        self.limits = limits
        self.loop = loop
        self.deadlines = Deadlines(loop)
        self.outbox = WriteCoalescer(loop)
        self.adopt(limits)

    def adopt(self, limits: PoolLimits) -> None:
        """Keep these bounds from now on."""
        self.limits = limits
        self.times = times(Phase, limits)
        self._places.adopt(limits.connections, limits.queue, limits.connect)

    @property
    def counts(self) -> dict[str, int]:
        """Connections by state, for the metrics."""
        return {
            "idle": len(self._idle),
            "busy": self._places.held,
            "waiting": self._places.waiting,
            "detached": len(self._detached),
        }

    async def request(self, data: bytes, call: Call) -> UpstreamResponse:
        """Send one whole request and return Core's response, as soon as its head is there.

        Raises GatewayError: UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT, or UNAVAILABLE where no place came free;
        ClientGoneError where nobody waits any more, and what `call.renew` raises: then nothing was sent.
        """
        connection = self._ready(call) or await self._acquire(call)
        repeatable = connection.reused
        while True:
            try:
                return await connection.send(data, call)
            except WithheldError:
                connection = await self._renewed(connection, call)
            except StaleError:
                if not (repeatable and call.repeatable):
                    raise unreachable(CLOSED) from None
                repeatable = False
                self._drop_idle()
                connection = await self._acquire(call)

    async def upload(
        self, head: bytes, call: Call, source: Pausable, begin: Callable[[UpstreamConnection], None]
    ) -> UpstreamResponse:
        """Send a head, let `begin` send the body as it comes, and return Core's response, be it early.

        Raises what `request` raises. Nothing is sent twice.
        """
        connection = await self._acquire(call, streams=True)
        if not call.passes():
            connection = await self._renewed(connection, call, streams=True)
        try:
            waiter = connection.send(head, call, source)
            begin(connection)
            return await waiter
        except StaleError:
            raise unreachable(CLOSED) from None

    def release(self, connection: UpstreamConnection) -> None:
        """Take back a connection that is free for another request."""
        connection.reused = True
        if self._closed or connection.aged:
            connection.abort()
            return
        self._idle.append(connection)
        self._free(connection)

    def uploaded(self, connection: UpstreamConnection) -> None:
        """Take note that the whole body of a request has been sent."""
        if connection.holder is not None:
            self._places.settle(connection.holder)

    def detach(self, connection: UpstreamConnection) -> None:
        """Take a request whose time is over out of the places, where not too many are out already."""
        if len(self._detached) < max(1, self.limits.connections - kept(self.limits.connections)):
            self._free(connection)
        self._detached.add(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        """Take note that a connection has ended."""
        self.deadlines.forget(connection)
        if connection not in self._open:
            # It ended while it was made: whoever acquires it gives its place back.
            return
        self._open.remove(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._detached.discard(connection)
        if not self._detached:
            self._none_detached.set()
        self._free(connection)

    async def settle(self, timeout: float) -> int:
        """Wait up to `timeout` seconds for the requests whose time was over; return how many are left."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._detached:
                    self._none_detached.clear()
                    await self._none_detached.wait()
        return len(self._detached)

    def close(self) -> None:
        """Close what is idle, and everything else behind the response that is due."""
        self._closed = True
        self._drop_idle()

    def abort(self) -> None:
        """Close every connection at once; what is in flight on one fails."""
        self._closed = self._aborted = True
        for connection in list(self._open):
            connection.abort()

    # Connections and their places.

    def _ready(self, call: Call) -> UpstreamConnection | None:
        """An idle connection, if there is one, and a place for it."""
        connection = self._idle_one()
        if connection is None:
            return None
        if self._places.claim(call):
            connection.holder = call
            return connection
        self._idle.append(connection)
        return None

    async def _acquire(self, call: Call, *, streams: bool = False) -> UpstreamConnection:
        """A connection with a place: an idle one, or a new one; waits for the place. Raises as `request`."""
        if self._closed:
            raise OverloadedError
        claim = self._places.claim_for_stream if streams else self._places.claim
        if not claim(call):
            await self._places.wait(call, streams=streams)
        try:
            refuse_abandoned(call.client)
            connection = self._idle_one() or await self._connect()
        except BaseException:
            self._places.give(call)
            raise
        connection.holder = call
        return connection

    async def _renewed(
        self, connection: UpstreamConnection, call: Call, *, streams: bool = False
    ) -> UpstreamConnection:
        """The connection once the call may be sent, or another one if it has ended by then.

        A connection on which nothing is to be sent is given back. Raises as `request`.
        """
        while True:
            try:
                await call.renew()
                refuse_abandoned(call.client)
            except BaseException:
                if connection.usable:
                    connection.put_back()
                raise
            if connection.usable:
                return connection
            # It may have ended without our having heard of it: its place would be counted twice.
            self._free(connection)
            connection = await self._acquire(call, streams=streams)
            if call.passes():
                return connection

    def _idle_one(self) -> UpstreamConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    def _free(self, connection: UpstreamConnection) -> None:
        holder, connection.holder = connection.holder, None
        if holder is not None:
            self._places.give(holder)

    def _drop_idle(self) -> None:
        for connection in list(self._idle):
            connection.abort()

    def _press(self, waiting: Claimant, streams: bool) -> bool:
        """Make one request give way that only waits for its client, for one that waits and holds less.

        Returns whether there was one.
        """
        yielding = [
            connection
            for connection in self._open
            if connection.holder is not None and (connection.streams or not streams)
            if connection.waits_for_client()
            if connection.unwanted or self._places.yields(connection.holder, waiting)
        ]
        first = max(yielding, key=self._claim_of, default=None)
        if first is None:
            return False
        first.give_way()
        return True

    def _claim_of(self, connection: UpstreamConnection) -> tuple[bool, tuple[int, int]]:
        """How good a claim others have on a connection: nobody may want it, or its holder has most."""
        weight = (0, 0) if connection.holder is None else self._places.weight(connection.holder)
        return connection.unwanted, weight

    async def _connect(self) -> UpstreamConnection:
        connection = await self._dialer.connect(lambda: UpstreamConnection(self), self.limits.connect)
        self._open.add(connection)
        if not connection.usable:
            self.lost(connection)
            raise unreachable(CLOSED)
        if self._aborted:
            connection.abort()
            raise OverloadedError
        return connection
