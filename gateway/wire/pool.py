"""A lean, bounded pool of connections to Core.

Rules kept here:
- Nothing is sent twice, but a GET on a reused connection that gave no byte.
- A request uses a connection only while it holds a slot (`slots`). A request that waits for a slot makes one
  of another party give way that only waits for its client.
- A request whose time is over keeps its connection and gives its slot back, unless too many such requests run
  at once: then it keeps its slot, too. There are at most twice `limits.connections` connections, and up to
  two more if that limit is below three.
- A request asks for its permission when its bytes leave (`passes`). If that takes a look-up (`renew`), it
  keeps its slot meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Final

from gateway.durations import Durations
from gateway.fairness.errors import OverloadedError
from gateway.fairness.shares import Claimant, kept
from gateway.wire.client_presence import require_present
from gateway.wire.connect_errors import CLOSED, unreachable
from gateway.wire.connection_set import ConnectionSet
from gateway.wire.deadline_timer import Deadlines
from gateway.wire.dialing import Dialer
from gateway.wire.errors import UpstreamError
from gateway.wire.flow import Pausable
from gateway.wire.round_trip import StaleError, WithheldError
from gateway.wire.slots import Slots
from gateway.wire.timed_phase import seconds_of
from gateway.wire.upstream_connection import UpstreamConnection
from gateway.wire.upstream_deadlines import PoolLimits, UpstreamPhase
from gateway.wire.upstream_head import HeadReader
from gateway.wire.upstream_request import UpstreamRequest
from gateway.wire.upstream_response import UpstreamResponse
from gateway.wire.upstream_upload import UpstreamUpload
from gateway.wire.write_coalescer import WriteCoalescer

# The clock of the event loop counts whole milliseconds. Typed without a length, as in `request_counts`.
_WAIT_BOUNDS: Final[tuple[float, ...]] = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)


class Pool:
    """The connections to one Core; `waits` has the times until requests had one that found none idle."""

    def __init__(
        self,
        host: str,
        port: int,
        limits: PoolLimits,
        loop: asyncio.AbstractEventLoop,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._dialer = Dialer(host, port, tls)
        self._connections = ConnectionSet(self._dialer, self)
        # The requests that hold slots, by their connections.
        self._holders: dict[UpstreamConnection, UpstreamRequest] = {}
        self._slots = Slots(loop, self._make_way)
        self._detached: set[UpstreamConnection] = set()
        self._none_detached = asyncio.Event()
        self.waits = Durations(_WAIT_BOUNDS)
        self.loop = loop
        self.deadlines = Deadlines(loop)
        self.coalescer = WriteCoalescer(loop)
        self.heads = HeadReader()
        self.adopt(limits)

    def adopt(self, limits: PoolLimits) -> None:
        """Keep these bounds from now on."""
        self.limits = limits
        self.seconds = seconds_of(UpstreamPhase, limits)
        self._slots.adopt(limits.connections, limits.queue, limits.connect, limits.queue_wait)

    def adopt_tls(self, tls: ssl.SSLContext | None) -> None:
        """Make new connections with another context."""
        self._dialer.tls = tls

    @property
    def counts(self) -> dict[str, int]:
        """Connections by state, for the metrics."""
        return {
            "idle": self._connections.idle,
            "busy": self._slots.held,
            "waiting": self._slots.waiting,
            "detached": len(self._detached),
        }

    async def request(self, data: bytes, request: UpstreamRequest) -> UpstreamResponse:
        """Send one whole request and return Core's response, as soon as its head is there.

        Raises UpstreamUnreachableError, UpstreamTimeoutError, OverloadedError if no slot came free,
        ClientGoneError if its client has left, and what `request.renew` raises: then nothing was sent.
        """
        connection = self._ready(request) or await self._first(request)
        repeatable = connection.reused
        while True:
            try:
                return await connection.send(data, request).response
            except WithheldError:
                connection = await self._renewed(connection, request)
            except StaleError:
                if not (repeatable and request.repeatable):
                    raise unreachable(CLOSED) from None
                repeatable = False
                self._connections.drop_idle()
                connection = await self._acquire(request)

    async def upload(
        self, head: bytes, request: UpstreamRequest, source: Pausable, begin: Callable[[UpstreamUpload], None]
    ) -> UpstreamResponse:
        """Send a head, let `begin` send the body as it comes, and return Core's response, be it early.

        Raises what `request` raises. Nothing is sent twice.
        """
        connection = await self._first(request, streams=True)
        if not request.passes():
            connection = await self._renewed(connection, request, streams=True)
        try:
            trip = connection.send(head, request, source)
            if trip.upload is not None:
                begin(trip.upload)
            return await trip.response
        except StaleError:
            raise unreachable(CLOSED) from None

    async def settle(self, timeout: float) -> int:
        """Wait up to `timeout` seconds for the requests whose time was over; return how many are left."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._detached:
                    self._none_detached.clear()
                    await self._none_detached.wait()
        return len(self._detached)

    def abort(self) -> None:
        """Close every connection at once; the requests on them fail, and none is sent any more."""
        self._connections.close()

    # For the connections.

    def release(self, connection: UpstreamConnection) -> None:
        """Take back a connection that is free for another request."""
        if self._connections.closed:
            connection.abort()
            return
        self._connections.put_idle(connection)
        self._free(connection)

    def uploaded(self, request: UpstreamRequest) -> None:
        """Take note that the whole body of a request has been sent."""
        self._slots.end_stream(request)

    def detach(self, connection: UpstreamConnection) -> None:
        """Free the slot of a request whose time is over, unless too many of such run already."""
        if len(self._detached) < max(1, self.limits.connections - kept(self.limits.connections)):
            self._free(connection)
        self._detached.add(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        """Take note that a connection has ended."""
        self.deadlines.forget(connection)
        if not self._connections.forget(connection):
            # It ended while it was made: `_acquire` gives its slot back.
            return
        self._detached.discard(connection)
        if not self._detached:
            self._none_detached.set()
        self._free(connection)

    # Connections and their slots.

    def _ready(self, request: UpstreamRequest) -> UpstreamConnection | None:
        """Return an idle connection with a slot for it, None if there is not both."""
        connection = self._connections.take_idle()
        if connection is None:
            return None
        if self._slots.claim(request):
            self._holders[connection] = request
            return connection
        self._connections.put_idle(connection)
        return None

    async def _acquire(self, request: UpstreamRequest, *, streams: bool = False) -> UpstreamConnection:
        """Wait for a slot and return a connection, an idle or a new one. Raises what `request` raises."""
        asked = self.loop.time()
        try:
            return await self._connection_for(request, streams=streams)
        finally:
            self.waits.add(self.loop.time() - asked)

    async def _first(self, request: UpstreamRequest, *, streams: bool = False) -> UpstreamConnection:
        """Return a connection as `_acquire`, for a request of which nothing was sent yet."""
        try:
            return await self._acquire(request, streams=streams)
        except UpstreamError:
            # Core was asked for a connection.
            raise
        except BaseException:
            request.unsent()
            raise

    async def _connection_for(self, request: UpstreamRequest, *, streams: bool) -> UpstreamConnection:
        if self._connections.closed:
            raise OverloadedError
        claim = self._slots.claim_for_stream if streams else self._slots.claim
        if not claim(request):
            await self._slots.wait(request, streams=streams)
        try:
            require_present(request.client)
            connection = self._connections.take_idle() or await self._connections.connect()
        except BaseException:
            self._slots.release(request)
            raise
        self._holders[connection] = request
        return connection

    async def _renewed(
        self, connection: UpstreamConnection, request: UpstreamRequest, *, streams: bool = False
    ) -> UpstreamConnection:
        """Return the connection once the request may be sent, or another one if it has ended by then.

        A connection on which nothing is to be sent is given back. Raises what `request` raises.
        """
        while True:
            try:
                await request.renew()
                require_present(request.client)
            except BaseException:
                request.unsent()
                if connection.usable:
                    connection.put_back()
                raise
            if connection.usable:
                return connection
            # The pool may not know yet that it has ended: its slot would be counted twice.
            self._free(connection)
            connection = await self._first(request, streams=streams)
            if request.passes():
                return connection

    def _free(self, connection: UpstreamConnection) -> None:
        """Give back the slot that a connection uses, if it uses one."""
        holder = self._holders.pop(connection, None)
        if holder is not None:
            self._slots.release(holder)

    def _make_way(self, waiting: Claimant, streams: bool) -> bool:
        """End one request that only waits for its client, for one that waits for a slot and holds less.

        Only an upload is ended if `streams` is True. Returns False if there is none to end.
        """

        def claim(connection: UpstreamConnection) -> tuple[bool, tuple[int, int]]:
            """Return how good a claim others have: the response may be unwanted, or the holder has most."""
            trip = connection.trip
            return trip is not None and trip.unwanted, self._slots.weight(self._holders[connection])

        yielding = [
            connection
            for connection, holder in self._holders.items()
            if (trip := connection.trip) is not None and (trip.uploads or not streams)
            if trip.waits_for_client
            if trip.unwanted or self._slots.yields(holder, waiting)
        ]
        first = max(yielding, key=claim, default=None)
        if first is None or first.trip is None:
            return False
        first.trip.give_way()
        return True
