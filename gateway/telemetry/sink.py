"""Whole lines onto a stream, in order, without ever holding up or failing whoever hands them over.

Rules kept here:
- A descriptor is written to by a thread of its own. A full pipe, a stopped terminal or a slow disk blocks
  that thread and nothing else.
- What waits to be written is bounded in bytes; beyond that lines are dropped and counted. Ordinary lines
  leave a part of the bound to urgent ones.
- An error of the stream (its reader is gone, its disk is full) costs the lines at hand, which are counted.
  The next lines are tried again, on a line of their own.
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
URGENT_ROOM: Final = 1 << 20
"""Bytes of those that only urgent lines may fill."""

# What an empty pipe of Linux takes at once, so that another writer to it does not come in between.
_PIECE: Final = 1 << 16
_AGAIN_MS: Final = 100


class LineSink(Protocol):
    """Where lines go. Only one thread may hand them over."""

    @property
    def dropped(self) -> int:
        """How many lines were never written."""

    def put(self, lines: bytes, *, urgent: bool = False) -> None:
        """Take lines, each with its line feed. Returns at once and raises nothing."""

    def close(self, patience: float) -> None:
        """Wait up to `patience` seconds until everything is written; later lines are dropped."""


def open_sink(
    stream: TextIO | BinaryIO, *, most: int = MOST_WAITING, reserved: int = URGENT_ROOM
) -> LineSink:
    """A sink on the descriptor of `stream`, or on the stream itself where it has none.

    `most` bytes may wait to be written; `reserved` of them only on urgent lines.
    """
    try:
        descriptor = os.dup(stream.fileno())
    except (OSError, ValueError):
        return _StreamSink(stream)
    return _DescriptorSink(descriptor, most, reserved)


class _StreamSink:
    """A stream without a descriptor, such as one in memory."""

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
    """A descriptor, which it owns, with its writer."""

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
        """How many bytes of `lines` there is room for, in whole lines."""
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
    """Writes what is in `lines` until it gets None there. A daemon: the process may end while it is stuck.

    `settled` counts the bytes that wait no more, written or not, `lost` the lines that could not be written.
    Each attribute is written by one thread only.
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
        """Write until the end."""
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
        """How many bytes were written; raises OSError where none can be."""
        while True:
            try:
                return os.write(self._descriptor, piece)
            except BlockingIOError:
                # Somebody who shares the descriptor made it non-blocking.
                if self.hurried:
                    raise
                room = select.poll()
                room.register(self._descriptor, select.POLLOUT)
                room.poll(_AGAIN_MS)


def _end(lines: bytes, start: int) -> int:
    """Where the piece of whole lines that begins at `start` ends; too long a line is its own."""
    if len(lines) - start <= _PIECE:
        return len(lines)
    end = lines.rfind(b"\n", start, start + _PIECE) + 1
    return end or lines.index(b"\n", start) + 1
