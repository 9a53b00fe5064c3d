"""Core's side of HTTP/1.1: one kept-alive connection, a request at a time.

Rules kept here:
- A connection is reused only after a whole response to a whole request, with no byte to spare.
- The connection is in one phase at a time. A deadline is set when a phase is entered, and nowhere else.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.wire import response_parser
from gateway.wire.deadline_timer import NEVER, Deadlines
from gateway.wire.errors import UpstreamUnreachableError
from gateway.wire.flow import Pausable
from gateway.wire.response_parser import ResponseParser
from gateway.wire.round_trip import RoundTrip, StaleError
from gateway.wire.upstream_deadlines import (
    CLAIMED,
    IDLE,
    OF_RESPONSE,
    READING,
    UPLOADING,
    WAITING,
    PoolLimits,
    UpstreamPhase,
)
from gateway.wire.upstream_head import HeadReader
from gateway.wire.upstream_request import UpstreamRequest
from gateway.wire.upstream_upload import UpstreamUpload
from gateway.wire.write_coalescer import WriteCoalescer


class UpstreamConnectionOwner(Protocol):
    """The pool that a connection belongs to; `seconds` are those of each phase, by its number."""

    limits: PoolLimits
    seconds: tuple[float, ...]
    loop: asyncio.AbstractEventLoop
    deadlines: Deadlines
    coalescer: WriteCoalescer
    heads: HeadReader

    def release(self, connection: UpstreamConnection) -> None:
        """Take back a connection that is free for another request."""

    def uploaded(self, request: UpstreamRequest) -> None:
        """Take note that the whole body of a request has been sent."""

    def detach(self, connection: UpstreamConnection) -> None:
        """Take note that the connection's request runs to its end without its caller."""

    def lost(self, connection: UpstreamConnection) -> None:
        """Take note that the connection has ended."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to Core. `trip` is the request on it, if there is one.

    `reused` says that a request may have been sent on it before the present one.
    """

    __slots__ = (
        "_born",
        "_parser",
        "_reusable",
        "_transport",
        "deadline",
        "entered",
        "loop",
        "owner",
        "phase",
        "reused",
        "trip",
    )

    def __init__(self, owner: UpstreamConnectionOwner) -> None:
        self.owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser = ResponseParser(owner.heads)
        self._reusable = True
        self._born = self.entered = owner.deadlines.now
        self.loop = owner.loop
        self.trip: RoundTrip | None = None
        self.phase = CLAIMED
        self.deadline = NEVER
        self.reused = False

    # Its time.

    def enter(self, phase: UpstreamPhase) -> None:
        """Enter a phase, or begin its time anew: the only place that sets a deadline."""
        self.phase = phase
        owner = self.owner
        seconds = owner.seconds[phase.number]
        if phase is WAITING and self.trip is not None:
            seconds = self.trip.request.first_byte or seconds
        self.entered = now = owner.deadlines.now
        self.deadline = now + seconds

    def expire(self) -> None:
        """End the phase whose deadline has passed."""
        if self.trip is None:
            self.abort()
        else:
            self.trip.expire()

    # Its requests, one after the other.

    @property
    def usable(self) -> bool:
        """True if another request may be sent on it."""
        return self._transport is not None and self._reusable and not self._transport.is_closing()

    def send(self, data: bytes, request: UpstreamRequest, source: Pausable | None = None) -> RoundTrip:
        """Send a head with what there is of the body; the trip's `upload` sends the rest if it has a source.

        Raises StaleError if the connection has ended.
        """
        transport = self._transport
        if transport is None:
            raise StaleError
        if source is None:
            trip = self.trip = RoundTrip(self, transport, request, data, None)
            self.enter(WAITING)
            self.owner.coalescer.add(trip)
        else:
            upload = UpstreamUpload(self, transport, source, request)
            trip = self.trip = RoundTrip(self, transport, request, b"", upload)
            self.enter(UPLOADING)
            # At once: its body follows from callbacks, and could not be taken back.
            transport.write(data)
        self._parser.expect(trip, bodiless=request.bodiless)
        return trip

    def withdraw(self) -> None:
        """Let go of the request, of which nothing was sent; the connection stays claimed."""
        self.trip = None
        self.enter(CLAIMED)

    def detach(self) -> None:
        """Tell the pool that the request runs to its end without its caller."""
        self.owner.detach(self)

    def put_back(self) -> None:
        """Give the connection back to its pool, or close it if it is too old: no request is on it."""
        self.reused = True
        self.enter(IDLE)
        if self.owner.deadlines.now > self._born + self.owner.limits.age:
            self.abort()
        else:
            self.owner.release(self)

    def abort(self) -> None:
        """Close at once; the request on it fails."""
        self._reusable = False
        if self._transport is not None:
            self._transport.abort()

    def _deliver(self, trip: RoundTrip) -> None:
        """Pass on what was parsed, and free the connection if that was all."""
        parser = self._parser
        response = parser.response
        if response is not None:
            trip.deliver(response)
            if response.complete:
                self._conclude(trip)
                return
        if self.phase in OF_RESPONSE:
            if parser.part is not response_parser.NONE:
                if self.phase is not READING:
                    self.enter(READING)
            elif self.phase is READING:
                # It was an interim response. One that comes whole leaves the time as it is.
                self.enter(WAITING)

    def _conclude(self, trip: RoundTrip) -> None:
        """Let go of a request whose response is whole; the connection is free again, or closed."""
        self.trip = None
        persistent = self._parser.conclude()
        if not (persistent and self._reusable and trip.clean):
            self.abort()
            return
        if self._transport is not None and not self._transport.is_reading():
            # The last bytes went to a slow client, and it had this connection held back.
            self._transport.resume_reading()
        self.put_back()

    # asyncio's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = transport  # type: ignore[assignment]  # a stream transport, by create_connection
        self.owner.deadlines.watch(self)

    def data_received(self, data: bytes) -> None:
        """Parse; a byte without a request before it ends the connection."""
        trip = self.trip
        if trip is None:
            self.abort()
            return
        if self.phase is READING and self._parser.response is not None:
            # Its time begins anew with each part of a body, and not with each of a head.
            self.enter(READING)
        try:
            self._parser.feed(data)
        except UpstreamUnreachableError as failure:
            trip.fail(failure)
            self.abort()
        else:
            self._deliver(trip)

    def eof_received(self) -> bool:
        """End a response that has no length; anything else that is open was cut short."""
        self._reusable = False
        if self.trip is not None and self._parser.end():
            self._deliver(self.trip)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is open and tell the pool."""
        self._transport = None
        trip, self.trip = self.trip, None
        if trip is not None:
            trip.lose(silent=self._parser.silent)
        self._parser.close()
        self.owner.lost(self)

    def pause_writing(self) -> None:
        """Hold back the client: Core is slower than it."""
        if self.trip is not None and self.trip.upload is not None:
            self.trip.upload.pause()

    def resume_writing(self) -> None:
        """Let the client send on."""
        if self.trip is not None and self.trip.upload is not None:
            self.trip.upload.resume()
