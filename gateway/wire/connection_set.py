"""The open connections to one Core, and which of them are idle.

Rules kept here:
- The connection used last is used next, so that the others can go idle and end.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.fairness.errors import OverloadedError
from gateway.wire.connect_errors import CLOSED, unreachable
from gateway.wire.dialing import Dialer
from gateway.wire.upstream_connection import UpstreamConnection, UpstreamConnectionOwner


class ConnectionSet:
    """Connections that `dialer` has made for `owner`; iterates over all that are open."""

    def __init__(self, dialer: Dialer, owner: UpstreamConnectionOwner) -> None:
        self._dialer = dialer
        self._owner = owner
        self._open: set[UpstreamConnection] = set()
        self._idle: list[UpstreamConnection] = []
        self.closed = False

    def __iter__(self) -> Iterator[UpstreamConnection]:
        return iter(self._open)

    @property
    def idle(self) -> int:
        """Number of idle connections."""
        return len(self._idle)

    async def connect(self) -> UpstreamConnection:
        """Make a connection. Raises UpstreamError, and OverloadedError if the set was closed meanwhile."""
        connection = await self._dialer.connect(
            lambda: UpstreamConnection(self._owner), self._owner.limits.connect
        )
        self._open.add(connection)
        if not connection.usable:
            self._owner.lost(connection)
            raise unreachable(CLOSED)
        if self.closed:
            connection.abort()
            raise OverloadedError
        return connection

    def take_idle(self) -> UpstreamConnection | None:
        """Return the connection that went idle last, which is idle no longer; None if there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    def put_idle(self, connection: UpstreamConnection) -> None:
        """Keep a connection that has no request."""
        self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> bool:
        """Drop a connection that has ended; return False if it ended while it was made."""
        if connection not in self._open:
            return False
        self._open.remove(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        return True

    def drop_idle(self) -> None:
        """Close the idle ones."""
        for connection in list(self._idle):
            connection.abort()

    def close(self) -> None:
        """Close all at once, and whatever connection is made later."""
        self.closed = True
        for connection in list(self._open):
            connection.abort()
