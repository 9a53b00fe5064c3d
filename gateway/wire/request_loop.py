"""The task of one connection, which handles its requests one after the other.

Rules kept here:
- One task for each connection, none for a request.
- Between two requests of a connection every other connection gets its turn (`request_turns`).
- The next request is handled once the client has taken enough of the response before.
- Nothing that a client sent in a refused head is echoed.
- A request that ends without a response ends the connection: the next response would be taken for its own.
- A connection that ends while reading is stopped lingers: bytes in the kernel that nobody reads would reset
  it, and take the response with them (RFC 9112 section 9.6).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.errors import GatewayError
from gateway.wire.client_input import OPEN, ClientInput
from gateway.wire.exchange import Exchange
from gateway.wire.flow import FlowControl
from gateway.wire.request_queue import RequestQueue
from gateway.wire.request_turns import RequestTurns
from gateway.wire.write_coalescer import CoalescingWriter


class RequestLoopOwner(Protocol):
    """The handler of all requests."""

    request_turns: RequestTurns
    handle: Callable[[Exchange], Awaitable[None]]
    """Responds to one request; raises nothing."""
    refusal: Callable[[GatewayError, str], bytes]
    """Returns the whole response to what could not be read, from the client at an address."""


class LoopConnection(Protocol):
    """The connection whose requests are handled."""

    party: str
    peer: str
    gone: bool
    flow: FlowControl
    input: ClientInput
    requests: RequestQueue
    writer: CoalescingWriter

    def close(self, *, linger: bool) -> None:
        """Close after the response; linger if the client still sends."""


class RequestLoop:
    """Handles the requests of one connection."""

    __slots__ = ("_connection", "_handler")

    def __init__(self, connection: LoopConnection, handler: RequestLoopOwner) -> None:
        self._connection = connection
        self._handler = handler

    async def serve(self) -> None:
        """Handle requests until no more can come, then close the connection."""
        connection, requests = self._connection, self._connection.requests
        unread = False
        try:
            while (item := await self._next()) is not None:
                if isinstance(item, GatewayError):
                    connection.writer.write(self._handler.refusal(item, connection.peer))
                    unread = True
                    break
                await self._handler.handle(item)
                requests.finish()
                if not item.responded or not item.keep_alive or not item.body.complete or connection.gone:
                    unread = not item.body.complete or connection.flow.paused
                    break
                if requests.waiting:
                    # Each of many small requests would be handled before anybody else is served.
                    self._handler.request_turns.wait(connection)
                    await requests.change()
                else:
                    connection.input.resume_reading()
        finally:
            requests.finish()
            connection.close(linger=unread)

    async def _next(self) -> Exchange | GatewayError | None:
        """Return the next request or refusal, None if no more can come."""
        connection, requests = self._connection, self._connection.requests
        while connection.flow.blocked or not requests.waiting:
            if connection.gone or (not connection.flow.blocked and connection.input.state is not OPEN):
                return None
            await requests.change()
        return requests.take()
