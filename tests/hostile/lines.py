"""One connection of an attacker on a raw socket: it sends bytes and counts the responses.

Rules kept here:
- A connection costs a socket and nothing else, so that one process holds thousands.
- It is closed by a reset, so that its port is free at once for the next one.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tests.http_messages import HEAD_END, read_status_and_length
from tests.sockets import reset_on_close

CONNECTED = "connected"

_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Target:
    """The gateway to attack: the ports of its listeners by setting, and the keys that the attacker has."""

    ports: Mapping[str, int]
    key: str
    minter: str

    def address(self, number: int) -> str:
        """Return one of the addresses of the loopback that only attackers use."""
        return f"127.0.0.{10 + number}"


class Line:
    """A connection that is reset at the end of its block; `counts` has its responses by status."""

    def __init__(self, target: Target, counts: Counter[str], *, receive_buffer: int = 0) -> None:
        self.target = target
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._socket = socket.socket()
        self._socket.setblocking(False)
        reset_on_close(self._socket)
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)

    async def __aenter__(self) -> Line:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    async def connect(self, address: str, port: int) -> None:
        # The port is chosen by the destination, so that all are there for each (ip(7)).
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
        self._socket.bind((address, 0))
        await self._loop.sock_connect(self._socket, ("127.0.0.1", port))
        self._counts[CONNECTED] += 1

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def take(self, size: int) -> bytes:
        """Return up to `size` bytes, whatever they are. Raises EOFError."""
        data = await self._loop.sock_recv(self._socket, size)
        if not data:
            raise EOFError
        return data

    async def response(self) -> None:
        """Read the next response and count its status. Raises EOFError."""
        while HEAD_END not in self._received:
            await self._more()
        head, _, rest = self._received.partition(HEAD_END)
        status, size = read_status_and_length(head)
        while len(rest) < size:
            self._received = b""
            await self._more()
            rest += self._received
        self._received = rest[size:]
        self._counts[status] += 1

    async def responses(self) -> None:
        """Read responses until the gateway ends the connection. Raises EOFError then."""
        while True:
            await self.response()

    async def _more(self) -> None:
        self._received += await self.take(_PIECE)
