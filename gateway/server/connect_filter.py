"""A filter of Linux that lets no new connection begin at a socket that is about to be closed.

Rules kept here:
- Only the first packet of a connection is dropped: handshakes that have begun go on. A client repeats that
  packet after a second, and then finds another process at the port, or none.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from array import array
from typing import Final

# asm-generic/socket.h; the socket module does not name it.
_SO_ATTACH_FILTER: Final = 26
# Byte 13 of a packet of TCP has its flags (RFC 9293 section 3.1): SYN without ACK begins a connection.
_FLAGS, _SYN, _SYN_OR_ACK = 13, 0x02, 0x12
_PROGRAM: Final = (
    (0x30, 0, 0, _FLAGS),  # load this byte
    (0x54, 0, 0, _SYN_OR_ACK),  # keep these bits
    (0x15, 0, 1, _SYN),  # if it is SYN alone, go on with the next line, else skip one
    (0x06, 0, 0, 0),  # take nothing of the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # take all of it
)
"""Instructions of classic BPF: code, jumps if true and if false, operand."""


def ignore_new_connections(listening: socket.socket) -> None:
    """Begin no further connection at this socket and its duplicates, if the system can do that."""
    if sys.platform != "linux":
        return
    code = array("B", b"".join(struct.pack("HBBI", *line) for line in _PROGRAM))
    address, _ = code.buffer_info()
    program = struct.pack("HP", len(_PROGRAM), address)
    # A sandbox may not know the option. Connections that are made in the last moment are reset then.
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
