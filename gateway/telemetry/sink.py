"""Writes whole lines to a stream, in order, without ever blocking the caller or raising to it.

Rules kept here:
- A thread of its own writes to the descriptor. A full pipe, a stopped terminal or a slow disk blocks that
  thread and nothing else.
- The bytes that wait to be written are bounded; further lines are dropped and counted. A part of the bound is
  reserved for urgent lines.
- After an error of the stream (its reader has closed it, its disk is full) the lines at hand are dropped and
  counted. The next lines are tried again, and begin on a new line.
"""

from __future__ import annotations

import io
import os
import select
import threading
from queue import SimpleQueue
from typing import BinaryIO, Final, Protocol, TextIO, cast

MOST_WAITING: Final = 8 << 20
"""Bytes that may wait to be written."""
URGENT_RESERVE: Final = 1 << 20
"""Bytes of those that are reserved for urgent lines."""

# An empty pipe of Linux takes so much at once, so that no other writer to it comes in between.
_PIECE: Final = 1 << 16
_AGAIN_MS: Final = 100


class LineSink(Protocol):
    """Takes lines and writes them. Only one thread may call it."""

    @property
    def dropped(self) -> int:
        """Return how many lines were never written."""

    def put(self, lines: bytes, *, urgent: bool = False) -> None:
        """Take lines, each with its line feed. It never blocks and never raises."""

    def close(self, patience: float) -> None:
        """Wait up to `patience` seconds until everything is written; later lines are dropped."""


def open_sink(
    stream: TextIO | BinaryIO, *, most: int = MOST_WAITING, reserved: int = URGENT_RESERVE
) -> LineSink:
    """Return a sink on the descriptor of `stream`, or on the stream itself if it has none.

    `most` bytes may wait to be written; `reserved` of them are for urgent lines.
    """
    try:
        descriptor = os.dup(stream.fileno())
    except (OSError, ValueError):
        return _StreamSink(stream)
    return _DescriptorSink(descriptor, most, reserved)


class _StreamSink:
    """A sink on a stream without a descriptor, such as one in memory."""

    def __init__(self, stream: TextIO | BinaryIO) -> None:
        self._stream = stream
        self.dropped = 0

    def put(self, lines: bytes, *, urgent: bool = False) -> None:
        try:
            if isinstance(self._stream, io.TextIOBase):
                self._stream.write(lines.decode())
            else:
                cast("BinaryIO", self._stream).write(lines)
        except (OSError, ValueError):
            self.dropped += lines.count(b"\n")

    def close(self, patience: float) -> None:
        """Do nothing: everything was written when it was put."""


class _DescriptorSink:
    """A sink on a descriptor, which it owns, with a thread that writes."""

    def __init__(self, descriptor: int, most: int, reserved: int) -> None:
        self._most = most
        self._reserved = reserved
        self._taken = 0
        self._refused = 0
        self._closed = False
        self._writer = _Writer(descriptor)
        self._writer.start()

    @property
    def dropped(self) -> int:
        return self._refused + self._writer.lost

    def put(self, lines: bytes, *, urgent: bool = False) -> None:
        fitting = self._fitting(lines, urgent=urgent)
        if fitting < len(lines):
            self._refused += lines.count(b"\n", fitting)
            lines = lines[:fitting]
        if lines:
            self._taken += len(lines)
            self._writer.lines.put(lines)

    def _fitting(self, lines: bytes, *, urgent: bool) -> int:
        """Return how many bytes of `lines` fit, in whole lines."""
        if self._closed:
            return 0
        most = self._most if urgent else self._most - self._reserved
        room = max(0, most - (self._taken - self._writer.settled))
        return len(lines) if len(lines) <= room else lines.rfind(b"\n", 0, room) + 1

    def close(self, patience: float) -> None:
        if not self._closed:
            self._closed = True
            self._writer.lines.put(None)
        self._writer.join(patience)
        self._writer.hurried = True


class _Writer(threading.Thread):
    """Writes what is in `lines` until it gets None. It is a daemon: the process may end while it is blocked.

    `settled` counts the bytes that no longer wait, written or not; `lost` counts the lines that could not be
    written. Only one thread writes each attribute.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(name="log", daemon=True)
        self.lines: SimpleQueue[bytes | None] = SimpleQueue()
        self.settled = 0
        self.lost = 0
        self.hurried = False
        self._descriptor = descriptor
        self._torn = False

    def run(self) -> None:
        """Write until None comes, then close the descriptor."""
        while (lines := self.lines.get()) is not None:
            self._write(b"\n" + lines if self._torn else lines)
            self.settled += len(lines)
        os.close(self._descriptor)

    def _write(self, lines: bytes) -> None:
        start = 0
        try:
            while start < len(lines):
                start += self._take(memoryview(lines)[start : _end(lines, start)])
        except OSError:
            self.lost += lines.count(b"\n", start) - (self._torn and start == 0)
            self._torn = self._torn if start == 0 else not lines.startswith(b"\n", start - 1)
        else:
            self._torn = False

    def _take(self, piece: memoryview) -> int:
        """Write bytes and return how many; raises OSError if none can be written."""
        while True:
            try:
                return os.write(self._descriptor, piece)
            except BlockingIOError:
                # Another process that shares the descriptor has made it non-blocking.
                if self.hurried:
                    raise
                room = select.poll()
                room.register(self._descriptor, select.POLLOUT)
                room.poll(_AGAIN_MS)


def _end(lines: bytes, start: int) -> int:
    """Return the end of the piece of whole lines that begins at `start`; a longer line is its own piece."""
    if len(lines) - start <= _PIECE:
        return len(lines)
    end = lines.rfind(b"\n", start, start + _PIECE) + 1
    return end or lines.index(b"\n", start) + 1
