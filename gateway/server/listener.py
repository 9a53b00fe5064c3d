"""One listening socket, and the connections that it accepts.

Rules kept here:
- One turn of the event loop accepts a few connections only, so that those beyond a bound are closed before
  others take the last descriptor.
- It accepts several nevertheless: a turn is long where many clients send, and a new connection waits behind
  all that have come before.
- The file of a Unix socket is removed before the socket is closed, so that no new connection begins there.
- Linux resets the connections that wait at a socket when it is closed, although their clients have seen
  them made. So at a drain no new one begins, handshakes get their time, and all that wait are accepted; the
  socket is closed in the very turn in which none waits any more.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final

from gateway.config import Address, ListenAddress, UnixAddress
from gateway.server.connect_filter import ignore_new_connections
from gateway.server.sockets import QUEUE
from gateway.server.unix_sockets import SocketFile

_SHORT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
SHORT_SECONDS: Final = 0.01
"""The time after which the gateway tries again to accept, if descriptors were short."""
HANDSHAKE_SECONDS: Final = 0.1
"""The time for the handshakes that have begun when a drain closes the socket; most take a round trip."""

Connect = Callable[[], asyncio.Protocol]
"""Returns the protocol of a new connection."""


class Listener:
    """A listening socket; `start` begins to accept its connections.

    Args:
        opened: the socket, which is closed with the listener.
        connect: is called for each connection.
        accepted: connections that one turn accepts.
        loop: the event loop that serves connections.
    """

    def __init__(
        self, opened: socket.socket, connect: Connect, accepted: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        # Its duplicates share this with it.
        opened.setblocking(False)
        self._socket = opened
        self._connect = connect
        self._accepted = accepted
        self._loop = loop
        self._servers: list[asyncio.Server] = []
        self.address: ListenAddress
        self._file: SocketFile | None = None
        if opened.family == socket.AF_UNIX:
            self.address = UnixAddress(opened.getsockname())
            self._file = SocketFile(self.address.path)
        else:
            self.address = Address(*opened.getsockname()[:2])

    async def start(self) -> None:
        """Begin to accept connections. Raises OSError if another process has begun to listen there."""
        # uvloop would not say so.
        self._socket.listen(QUEUE)
        if isinstance(self._loop, asyncio.BaseEventLoop):
            # asyncio accepts as many in a turn as its backlog says.
            await self._serve(backlog=self._accepted)
            self._socket.listen(QUEUE)
            return
        # uvloop accepts one in a turn for each of its servers.
        for _ in range(self._accepted):
            await self._serve(backlog=QUEUE)

    async def _serve(self, backlog: int) -> None:
        create = self._loop.create_server if self._file is None else self._loop.create_unix_server
        self._servers.append(await create(self._connect, sock=self._socket.dup(), backlog=backlog))

    def close(self) -> None:
        """Accept no more, and let Linux reset the connections that wait."""
        self._remove_file()
        for server in self._servers:
            server.close()
        self._socket.close()

    async def drain(self) -> None:
        """Accept every connection that waits or is being made, and then no more."""
        if self._file is None:
            ignore_new_connections(self._socket)
            await asyncio.sleep(HANDSHAKE_SECONDS)
        self._remove_file()
        await self._stop_servers()
        waiting = True
        while waiting:
            accepted, waiting = self._accept()
            if not waiting:
                self._socket.close()
            await asyncio.gather(*map(self._take_in, accepted))
            # Where descriptors are short, others have to end first.
            await asyncio.sleep(0 if accepted else SHORT_SECONDS)

    def _remove_file(self) -> None:
        if self._file is not None:
            self._file.remove()

    async def _stop_servers(self) -> None:
        if isinstance(self._loop, asyncio.BaseEventLoop):
            for server in self._servers:
                for opened in server.sockets:
                    self._loop.remove_reader(opened)
            # A server of asyncio that is closed drops what it accepted in this turn.
            await asyncio.sleep(0)
        for server in self._servers:
            server.close()

    def _accept(self) -> tuple[list[socket.socket], bool]:
        """Return connections that waited, as many as a turn accepts, and whether others may wait."""
        accepted: list[socket.socket] = []
        for _ in range(self._accepted):
            try:
                connection, _peer = self._socket.accept()
            except BlockingIOError:
                return accepted, False
            except ConnectionAbortedError:
                # Its client has left.
                continue
            except OSError as problem:
                # Descriptors or memory are short; anything else is not going to pass.
                return accepted, problem.errno in _SHORT
            connection.setblocking(False)
            accepted.append(connection)
        return accepted, True

    async def _take_in(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._connect, connection)
        except OSError:
            # Its client has left.
            connection.close()
