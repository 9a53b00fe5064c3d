"""Writes of one turn of the event loop, sent together at its end.

Rules kept here:
- A write at once would go into the kernel and back for each request, and wake the reader on another
  core each time; sent together, caches stay warm and one waking serves all. uvloop's own `write` sends
  at once where the socket takes it.
- Order is kept: what a connection writes past its coalescer it flushes first.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, Final, Protocol

# What one turn of the event loop may bring from Core before it is written: back-pressure begins there.
_AT_ONCE: Final = 64 * 1024
_RESET: Final = struct.pack("ii", 1, 0)


class Sender(Protocol):
    """A sender of bytes that can wait until the end of the turn."""

    def flush(self) -> None:
        """Send them."""


class WriteCoalescer:
    """The senders that have something to send at the end of the turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._senders: list[Sender] = []

    def add(self, sender: Sender) -> None:
        """Let `sender` send at the end of this turn."""
        if not self._senders:
            self._loop.call_soon(self._flush)
        self._senders.append(sender)

    def _flush(self) -> None:
        senders, self._senders = self._senders, []
        for sender in senders:
            sender.flush()


class CoalescingWriter:
    """The writes of one connection, sent at the end of the turn, or as soon as there is much of them."""

    __slots__ = ("_outbox", "_size", "_transport", "_unsent")

    def __init__(self, transport: asyncio.Transport, coalescer: WriteCoalescer) -> None:
        self._transport: asyncio.Transport | None = transport
        self._outbox = coalescer
        self._unsent: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Send bytes, unless the connection has ended."""
        if self._transport is None:
            return
        if not self._unsent:
            self._outbox.add(self)
        self._unsent.append(data)
        self._size += len(data)
        if self._size > _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Send now what was written."""
        unsent, self._unsent, self._size = self._unsent, [], 0
        if unsent and self._transport is not None:
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def reset(self) -> None:
        """Break the connection so that its other end sees it: an end would pass for that of the response."""
        if self._transport is not None:
            raw: Any = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    def lose(self) -> None:
        """Drop what is written from now on: the connection has ended."""
        self._transport = None
