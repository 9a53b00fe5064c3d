"""One request on a connection to Core, and the response to it.

Rules kept here:
- A request asks for its permission when its bytes are written to the socket, not before.
- What may have changed something at Core is never cancelled: once its time is over the caller gets
  UpstreamTimeoutError, and the request runs to its end on its connection, which nothing else uses. (Core
  leaves a cancelled request half done: its rollback is cancelled as well.)
- A GET whose client has left is cut at once; one whose client has only ended its side, after a moment.
- A response that comes before the whole request ends the upload, and the connection with it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.errors import GatewayError
from gateway.fairness.errors import OverloadedError
from gateway.fairness.futures import fail
from gateway.wire.client_presence import STALLED_SECONDS, require_present
from gateway.wire.connect_errors import BROKEN_OFF, too_slow, unreachable
from gateway.wire.deadline_timer import NEVER, Deadlines
from gateway.wire.errors import ClientGoneError, UpstreamTimeoutError
from gateway.wire.upstream_deadlines import (
    DETACHED,
    HALF_CLOSED,
    HELD,
    READING,
    WAITING,
    WITH_CLIENT,
    WITH_CORE,
    PoolLimits,
    UpstreamPhase,
)
from gateway.wire.upstream_request import UpstreamRequest
from gateway.wire.upstream_response import UpstreamResponse
from gateway.wire.upstream_upload import UpstreamUpload


class StaleError(Exception):
    """The connection ended before it gave a byte of the response."""


class WithheldError(Exception):
    """Nothing of the request was sent: `renew` has to be called first."""


class PoolBounds(Protocol):
    """The pool of a connection, as far as a round trip needs it."""

    limits: PoolLimits
    deadlines: Deadlines


class TripConnection(Protocol):
    """The connection that a round trip is made on; `entered` is when its phase began, or began anew."""

    loop: asyncio.AbstractEventLoop
    phase: UpstreamPhase
    entered: float

    @property
    def owner(self) -> PoolBounds:
        """The pool that it belongs to."""

    def enter(self, phase: UpstreamPhase) -> None:
        """Enter a phase, or begin its time anew."""

    def withdraw(self) -> None:
        """Let go of the request, of which nothing was sent; the connection stays claimed."""

    def put_back(self) -> None:
        """Give the connection back to its pool."""

    def detach(self) -> None:
        """Tell the pool that the request runs to its end without its caller."""

    def abort(self) -> None:
        """Close at once."""


class RoundTrip:
    """One request on a connection, and its response; the source of that response.

    `response` gives the response as soon as its head is there. It raises what `UpstreamResponse.stream`
    raises, StaleError, ClientGoneError, and WithheldError. `upload` sends the rest of a body that still
    comes. `clean` is False once something keeps the connection from being used again.
    """

    __slots__ = (
        "_connection",
        "_failure",
        "_incoming",
        "_transport",
        "_unsent",
        "clean",
        "loop",
        "request",
        "response",
        "upload",
    )

    def __init__(
        self,
        connection: TripConnection,
        transport: asyncio.Transport,
        request: UpstreamRequest,
        unsent: bytes,
        upload: UpstreamUpload | None,
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._unsent = unsent
        self._incoming: UpstreamResponse | None = None
        self._failure: Exception | None = None
        self.loop = connection.loop
        self.request = request
        self.upload = upload
        self.response: asyncio.Future[UpstreamResponse] = self.loop.create_future()
        self.clean = True
        if request.client is not None:
            request.client.when_leaving(self._client_leaves)

    @property
    def uploads(self) -> bool:
        """True while the request's body still comes."""
        return self.upload is not None and self.upload.runs

    def flush(self) -> None:
        """Send the request, if it still may be sent."""
        unsent, self._unsent = self._unsent, b""
        if not unsent:
            return
        client = self.request.client
        if client is not None and client.ended_at != NEVER:
            try:
                require_present(client)
            except (ClientGoneError, GatewayError) as refusal:
                self._withdraw(refusal)
                self._connection.put_back()
                return
        if self.request.passes():
            self._transport.write(unsent)
        else:
            self._withdraw(WithheldError())

    def _withdraw(self, reason: Exception) -> None:
        """Take back the request, of which nothing was sent."""
        self._connection.withdraw()
        self._forget_client()
        fail(self.response, reason)

    # Its client.

    @property
    def unwanted(self) -> bool:
        """True if its client has ended its side, and has most likely left."""
        return self._connection.phase is HALF_CLOSED

    @property
    def waits_for_client(self) -> bool:
        """True if its client has kept it waiting for long enough to lose the connection to another party."""
        if self._failure is not None:
            # It has given way already.
            return False
        if self.unwanted:
            return True
        connection = self._connection
        since = connection.owner.deadlines.now - connection.entered
        return connection.phase in WITH_CLIENT and since >= STALLED_SECONDS

    def give_way(self) -> None:
        """End the request, which waits for its client: another party needs the connection."""
        self.fail(ClientGoneError() if self.unwanted else OverloadedError())
        self._connection.abort()

    def _client_leaves(self) -> None:
        """React to a client that has left, or has ended its side."""
        client = self.request.client
        if client is None:
            return
        if self._unsent:
            if client.gone:
                self._unsent = b""
                self._withdraw(ClientGoneError())
                self._connection.put_back()
        elif self.request.changes:
            return
        elif client.gone:
            self.fail(ClientGoneError())
            self._connection.abort()
        elif self._connection.phase is WAITING:
            self._connection.enter(HALF_CLOSED)

    def _forget_client(self) -> None:
        if self.request.client is not None:
            self.request.client.when_leaving(None)

    # The response's way.

    def pause_reading(self) -> None:
        """Stop reading the response: the client is slower than Core. Its time does not count against Core."""
        if self._transport.is_reading():
            self._transport.pause_reading()
            self._connection.enter(HELD)

    def resume_reading(self) -> None:
        """Read on."""
        if not self._transport.is_reading():
            self._transport.resume_reading()
            self._connection.enter(READING)

    def abort(self) -> None:
        """Close the connection: the response does not come to its end."""
        self._connection.abort()

    def deliver(self, response: UpstreamResponse) -> None:
        """Pass on what has come of the response."""
        detached = self._connection.phase is DETACHED
        if self._incoming is None and self._failure is None:
            self._incoming = response
            if not response.complete:
                # The rest waits until the caller takes it; what came so far goes out first.
                self._transport.pause_reading()
            if self.response.done():
                # The caller was cancelled.
                self.clean = False
            else:
                self.response.set_result(response)
        elif response.complete:
            response.conclude()
        if self.upload is not None and self.upload.stop():
            # The response came before the whole body.
            self.clean = False
        if response.complete:
            self._forget_client()
            if detached:
                self.clean = False
                self.request.ended_late(response.status)
        elif detached:
            response.discard()

    def fail(self, failure: Exception) -> None:
        """Raise `failure` where the response is waited for, unless the request has failed before."""
        if self._failure is None:
            self._failure = failure
        self._forget_client()
        fail(self.response, self._failure)
        if self._incoming is not None:
            self._incoming.fail(self._failure)

    def lose(self, *, silent: bool) -> None:
        """Fail, for the connection has ended; `silent` if it gave no byte of the response."""
        self._unsent = b""
        if silent and self._failure is None:
            fail(self.response, StaleError())
        self.fail(unreachable(BROKEN_OFF))
        if self.upload is not None:
            self.upload.lose()
        if self._connection.phase is DETACHED:
            self.request.ended_late(None)

    # Its time.

    def expire(self) -> None:
        """End the phase whose deadline has passed."""
        if self.request.changes and self._connection.phase in WITH_CORE:
            failure = self._too_late()
            self._connection.enter(DETACHED)
            self.fail(failure)
            if self._incoming is not None:
                self._incoming.discard()
            self._connection.detach()
            self._transport.resume_reading()
        elif self.unwanted:
            self.give_way()
        else:
            self.fail(self._too_late())
            self._connection.abort()

    def _too_late(self) -> UpstreamTimeoutError:
        """Return the failure that says what was not done in time."""
        limits = self._connection.owner.limits
        if self._connection.phase is READING:
            return too_slow(f"Core's response stalled for {limits.between_bytes:g} s")
        if self.uploads:
            return too_slow(f"Core took no byte of a request for {limits.between_bytes:g} s")
        return too_slow(f"Core does not respond within {self.request.first_byte or limits.first_byte:g} s")
