"""Flow control: a source that can be held back, and the two directions of one transport."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

# Bytes that a transport holds before it calls `pause_writing`.
_HIGH_WATER: Final = 16 * 1024


class Pausable(Protocol):
    """A source of bytes that can be held back."""

    def pause_reading(self) -> None:
        """Hold back."""

    def resume_reading(self) -> None:
        """Let them come."""


class FlowControl:
    """Reading from one transport, held back by the gateway; and writing to it, held back by its other end.

    `paused` says that the gateway holds back the other end, and `blocked` that the other end is slower than
    what is written. `unread` is how many bytes the transport held when that began, or at the last
    `measure_anew`. The source that a response comes from is held back while `blocked`.
    """

    __slots__ = ("_paused_at", "_source", "_transport", "blocked", "paused", "unread")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport: asyncio.Transport | None = transport
        self._paused_at = 0.0
        self.paused = False
        self._source: Pausable | None = None
        self.blocked = False
        self.unread = 0
        transport.set_write_buffer_limits(high=_HIGH_WATER)

    # Reading.

    def pause_reading(self, now: float) -> bool:
        """Stop reading; return False if that changes nothing. `now` is in seconds."""
        if self.paused or self._transport is None:
            return False
        self.paused, self._paused_at = True, now
        self._transport.pause_reading()
        return True

    def resume_reading(self, now: float) -> float:
        """Read on; return for how many seconds reading was stopped."""
        if not self.paused or self._transport is None:
            return 0.0
        self.paused = False
        self._transport.resume_reading()
        return now - self._paused_at

    # Writing.

    def follow(self, source: Pausable | None) -> None:
        """Hold back `source` from now on while the other end is slow; None: nothing any more."""
        self._source = source

    def pause_writing(self) -> None:
        """Hold back the source: the other end is slower than it."""
        self.blocked = True
        self.unread = self.buffered()
        if self._source is not None:
            self._source.pause_reading()

    def resume_writing(self) -> None:
        """Let the source send on."""
        self.blocked = False
        if self._source is not None:
            self._source.resume_reading()

    def buffered(self) -> int:
        """Return how many bytes the transport holds."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def taken(self) -> int:
        """Return how many of the `unread` bytes the other end has taken."""
        return self.unread - self.buffered()

    def measure_anew(self) -> None:
        """Count from now on what the other end takes."""
        self.unread = self.buffered()

    def lose(self) -> None:
        """Let go of the transport, which has ended; the source is not held back for it."""
        self._transport = None
        if self._source is not None:
            self._source.resume_reading()
