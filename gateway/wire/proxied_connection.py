"""Connections that begin with a header of the PROXY protocol: the header is read before anything else.

Rules kept here:
- Every connection of the listener has a header, or is closed: nothing is guessed from what comes.
- Only trusted proxies may send one. Any other peer is closed before a byte of it is read.
- Until its header is whole, a connection is nobody's: a few may wait, for as long as a request head may take.
  Then its bytes go to the connection above, whose peer is the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable
from typing import Protocol

from gateway.wire.client_address import ANNOUNCED, peer_of
from gateway.wire.deadline_timer import NEVER, Deadlines
from gateway.wire.proxy_header import BadProxyHeaderError, ProxyHeader, read_proxy_header
from gateway.wire.stacked_transport import StackedTransport

Connect = Callable[[], asyncio.Protocol]


class HeaderRefusal(enum.Enum):
    """The reason why a connection was closed before anything was read behind its header."""

    UNTRUSTED = "untrusted"
    MALFORMED = "malformed"
    LATE = "late"
    CROWDED = "crowded"


class HeaderObserver(Protocol):
    """Observes connections that are closed for want of a header."""

    def header_refused(self, refusal: HeaderRefusal, peer: str, reason: str) -> None:
        """Take note that a connection of `peer` was closed; `reason` is for operators."""


class ProxyHeaders:
    """Reads the headers of all connections of the listeners for clients.

    Args:
        trusts: returns True for the address of a trusted proxy.
        bounds: returns how many connections may wait for their header, and for how many seconds.
        observer: observes refusals.
        loop: the event loop.
    """

    def __init__(
        self,
        trusts: Callable[[str], bool],
        bounds: Callable[[], tuple[int, float]],
        observer: HeaderObserver,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.trusts = trusts
        self._bounds = bounds
        self.observer = observer
        self.deadlines = Deadlines(loop)
        self._waiting: dict[ProxiedConnection, None] = {}
        self._forgotten = asyncio.Event()

    def before(self, connect: Connect) -> Connect:
        """Return what makes the connections of `connect`, each once its header was read."""
        return lambda: ProxiedConnection(self, connect)

    def wait(self, connection: ProxiedConnection) -> None:
        """Take in a connection whose header is not whole; beyond the bound, end the oldest of them."""
        most, seconds = self._bounds()
        if len(self._waiting) >= most:
            next(iter(self._waiting)).refuse(HeaderRefusal.CROWDED, "too many connections wait for a header")
        self._waiting[connection] = None
        self.deadlines.watch(connection)
        connection.deadline = self.deadlines.now + seconds

    def forget(self, connection: ProxiedConnection) -> None:
        """Take note that a connection waits no longer."""
        self._waiting.pop(connection, None)
        self.deadlines.forget(connection)
        self._forgotten.set()

    async def emptied(self, seconds: float) -> int:
        """Wait up to `seconds` until every header is whole; return how many were cut in their middle."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._waiting:
                    self._forgotten.clear()
                    await self._forgotten.wait()
        cut = sum(connection.begun for connection in self._waiting)
        self.close()
        return cut

    def close(self) -> None:
        """Close the connections whose header is not whole."""
        for connection in list(self._waiting):
            connection.abort()


class ProxiedConnection(asyncio.Protocol):
    """The protocol of a connection until its header is whole; the connection above takes its place then."""

    __slots__ = ("_connect", "_headers", "_peer", "_received", "_transport", "deadline")

    _transport: asyncio.Transport

    def __init__(self, headers: ProxyHeaders, connect: Connect) -> None:
        self._headers = headers
        self._connect = connect
        self._peer = ""
        self._received = b""
        self.deadline = NEVER

    @property
    def begun(self) -> bool:
        """True if a part of the header has come."""
        return bool(self._received)

    # asyncio's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the header, or close the connection of a peer that is no proxy."""
        self._transport = transport  # type: ignore[assignment]  # a stream transport, by create_server
        self._peer = peer_of(transport)
        if not self._headers.trusts(self._peer):
            self.refuse(HeaderRefusal.UNTRUSTED, "trusted_proxies does not name its peer")
            return
        self._headers.wait(self)

    def data_received(self, data: bytes) -> None:
        """Read the header."""
        if self._transport.is_closing():
            return
        self._received += data
        try:
            header = read_proxy_header(self._received)
        except BadProxyHeaderError as problem:
            self.refuse(HeaderRefusal.MALFORMED, str(problem))
            return
        if header is not None:
            self._hand_over(header)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the end of the connection."""
        self._headers.forget(self)

    def _hand_over(self, header: ProxyHeader) -> None:
        """Let the connection above go on, with the client as its peer, and the bytes behind the header."""
        self._headers.forget(self)
        behind, self._received = self._received[header.length :], b""
        above, transport = self._connect(), self._transport
        transport.set_protocol(above)
        above.connection_made(AnnouncedTransport(transport, header.client or self._peer))
        if behind and not transport.is_closing():
            above.data_received(behind)

    # Its end.

    def expire(self) -> None:
        """Close the connection: its header did not come in time."""
        self.refuse(HeaderRefusal.LATE, "its PROXY header did not come in time")

    def refuse(self, refusal: HeaderRefusal, reason: str) -> None:
        """Close the connection, without a byte: what it speaks is not known."""
        self.abort()
        self._headers.observer.header_refused(refusal, self._peer, reason)

    def abort(self) -> None:
        """Close at once."""
        self._headers.forget(self)
        self._transport.abort()


class AnnouncedTransport(StackedTransport):
    """The transport of a connection whose client a proxy has announced; all else is that of the socket."""

    def __init__(self, below: asyncio.Transport, client: str) -> None:
        super().__init__(below, {ANNOUNCED: client})
        # The one that each response calls.
        self.write = below.write  # type: ignore[method-assign]

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another protocol take what comes."""
        self._below.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol that takes what comes."""
        return self._below.get_protocol()

    def can_write_eof(self) -> bool:
        """Return whether this side can end before the other."""
        return self._below.can_write_eof()

    def write_eof(self) -> None:
        """End this side."""
        self._below.write_eof()

    def close(self) -> None:
        """Close once everything is sent."""
        self._below.close()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the bytes beyond which the connection above is held back, and lets go again."""
        return self._below.get_write_buffer_limits()
