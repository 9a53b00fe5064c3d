"""Options of sockets that the standard library has no name for."""

from __future__ import annotations

import socket
import struct
from typing import Protocol

_RESET = struct.pack("ii", 1, 0)


class Adjustable(Protocol):
    """A socket, or what asyncio shows of one."""

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None: ...


def reset_on_close(connection: Adjustable) -> None:
    """Have the connection reset when it is closed, instead of ended (RFC 9293, section 3.6)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
