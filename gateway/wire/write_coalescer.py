"""What is written in one turn of the event loop, sent together at its end.

Rules kept here:
- A write at once would go into the kernel and back for each request, and wake the reader on another
  core each time; sent together, caches stay warm and one waking serves all. uvloop's own `write` sends
  at once where the socket takes it.
- Order is kept: what a connection writes around its outbox it flushes first.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Sender(Protocol):
    """A connection with bytes to send."""

    def flush(self) -> None:
        """Send them."""


class WriteCoalescer:
    """The connections that have something to send."""

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
