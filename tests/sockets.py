"""Options of sockets for which the standard library has no name."""

from __future__ import annotations

import socket
import struct
from typing import Protocol

_RESET = struct.pack("ii", 1, 0)


class Adjustable(Protocol):
    """A socket, or the object that asyncio gives for one."""

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None: ...


def reset_on_close(connection: Adjustable) -> None:
    """Make closing the connection reset it, instead of ending it (RFC 9293, section 3.6)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
