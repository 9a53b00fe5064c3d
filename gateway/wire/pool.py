"""A lean, bounded pool of connections to Core.

Rules kept here:
- Nothing is sent twice, but a GET on a reused connection that gave no byte.
- The connection used last is used next, so that the others can go idle and end.
- A request uses a connection only while it holds a place (`places`); one that waits for a place makes another
  party's give way that only waits for its client.
- A request whose time is over keeps its connection and gives its place back, as long as not too many of such
  run at once; beyond that it keeps its place too. All in all there are at most twice `limits.connections`.
- Whether a request may still be sent is asked when its bytes leave; where it has to be asked elsewhere, the
  request keeps its place meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import Code, GatewayError
from gateway.wire.deadlines import Deadlines
from gateway.wire.dialing import Dialer
from gateway.wire.flow import Client, ClientGoneError, Flow
from gateway.wire.outbox import Outbox
from gateway.wire.places import Place, Places, kept
from gateway.wire.unreachable import CLOSED, unreachable
from gateway.wire.upstream import Answer, Call, PoolLimits, StaleError, UpstreamConnection, WithheldError


@dataclass(frozen=True, slots=True)
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
        self.outbox = Outbox(loop)
        self.adopt(limits)

    def adopt(self, limits: PoolLimits) -> None:
        """Keep these bounds from now on."""
        self.limits = limits
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

    async def request(self, data: bytes, call: Call) -> Answer:
        """Send one whole request and return Core's response, as soon as its head is there.

        Raises GatewayError: UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT, or UNAVAILABLE where no place came free;
        ClientGoneError where nobody waits any more, and what `call.renew` raises: then nothing was sent.
        """
        _refuse_abandoned(call.client)
        connection = self._ready(call) or await self._acquire(_place(call), call)
        reused = connection.reused
        try:
            return await self._sent(connection, data, call)
        except StaleError:
            if not (call.repeatable and reused):
                raise unreachable(CLOSED) from None
        self._drop_idle()
        connection = await self._acquire(_place(call), call)
        try:
            return await self._sent(connection, data, call)
        except StaleError:
            raise unreachable(CLOSED) from None

    async def upload(
        self, head: bytes, call: Call, source: Flow, begin: Callable[[UpstreamConnection], None]
    ) -> Answer:
        """Send a head, let `begin` send the body as it comes, and return Core's response, be it early.

        Raises what `request` raises. Nothing is sent twice.
        """
        _refuse_abandoned(call.client)
        connection = await self._acquire(_place(call)._replace(streams=True), call)
        if not call.passes():
            connection = await self._renewed(connection, call)
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
        if connection.place is not None:
            connection.place = self._places.settle(connection.place)

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
        place = _place(call)
        if not self._idle or not self._places.claim(place):
            return None
        connection = self._idle_one()
        if connection is None:
            self._places.give(place)
            return None
        connection.place = place
        return connection

    async def _acquire(self, place: Place, call: Call) -> UpstreamConnection:
        """A connection with a place: an idle one, or a new one; waits for the place. Raises as `request`."""
        if self._closed:
            raise GatewayError(Code.UNAVAILABLE)
        if not self._places.claim(place):
            await self._places.wait(place, call.client)
        try:
            connection = self._idle_one() or await self._connect()
        except BaseException:
            self._places.give(place)
            raise
        connection.place = place
        try:
            _refuse_abandoned(call.client)
        except BaseException:
            connection.put_back()
            raise
        return connection

    async def _sent(self, connection: UpstreamConnection, data: bytes, call: Call) -> Answer:
        """The response to a request that is sent once it may be. Raises StaleError, and as `request`."""
        while True:
            try:
                return await connection.send(data, call)
            except WithheldError:
                connection = await self._renewed(connection, call)
            except ClientGoneError:
                if connection.usable:
                    connection.put_back()
                raise

    async def _renewed(self, connection: UpstreamConnection, call: Call) -> UpstreamConnection:
        """The connection once the call may be sent, or another one if it has ended by then.

        A connection on which nothing is to be sent is given back. Raises as `request`.
        """
        place = connection.place or _place(call)
        while True:
            try:
                await call.renew()
                _refuse_abandoned(call.client)
            except BaseException:
                if connection.usable:
                    connection.put_back()
                raise
            if connection.usable:
                return connection
            connection = await self._acquire(place, call)
            if call.passes():
                return connection

    def _idle_one(self) -> UpstreamConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    def _free(self, connection: UpstreamConnection) -> None:
        place, connection.place = connection.place, None
        if place is not None:
            self._places.give(place)

    def _drop_idle(self) -> None:
        for connection in list(self._idle):
            connection.abort()

    def _press(self, waiting: Place) -> None:
        """Make one request give way that only waits for its client, for a party that holds less."""
        yielding = [
            connection
            for connection in self._open
            if connection.place is not None
            and (connection.place.streams or not waiting.streams)
            and connection.waits_for_client()
        ]
        first = max(yielding, key=self._claim_of, default=None)
        if first is None or first.place is None:
            return
        if first.unwanted or self._places.yields(first.place, waiting):
            first.give_way()

    def _claim_of(self, connection: UpstreamConnection) -> tuple[bool, tuple[int, int]]:
        """How good a claim others have on a connection: nobody may want it, or its holder has most."""
        weight = (0, 0) if connection.place is None else self._places.weight(connection.place)
        return connection.unwanted, weight

    async def _connect(self) -> UpstreamConnection:
        connection = await self._dialer.connect(lambda: UpstreamConnection(self), self.limits.connect)
        self._open.add(connection)
        if not connection.usable:
            self.lost(connection)
            raise unreachable(CLOSED)
        if self._aborted:
            connection.abort()
            raise GatewayError(Code.UNAVAILABLE)
        return connection


def _place(call: Call) -> Place:
    return Place(call.party, call.network, streams=False)


def _refuse_abandoned(client: Client | None) -> None:
    """Raise ClientGoneError where nobody waits, GatewayError(UNAVAILABLE) where most likely nobody does."""
    if client is None:
        return
    if client.gone:
        raise ClientGoneError
    if client.abandoned:
        raise GatewayError(Code.UNAVAILABLE)
