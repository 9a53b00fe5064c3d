"""Real pipes and terminals as streams of a log, full or not, read by the test as it likes."""

from __future__ import annotations

import os
import pty
import select
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Protocol


class Closable(Protocol):
    """A log, or a sink."""

    def close(self, patience: float) -> None:
        """Write what is left."""


class Pipe:
    """Two descriptors: what is written to `stream`, the test reads from `reader`."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader = reader
        self.stream: BinaryIO = os.fdopen(writer, "wb", buffering=0)
        self._filled = 0

    def fill(self) -> None:
        """Write until not a byte more goes in; a terminal makes room once more after it was full."""
        os.set_blocking(self.stream.fileno(), False)
        while self._took(b"x" * 64) + self._took(b"x"):
            select.select([], [self.stream], [], 0.05)
        os.set_blocking(self.stream.fileno(), True)

    def _took(self, piece: bytes) -> int:
        before = self._filled
        with suppress(BlockingIOError):
            while True:
                self._filled += os.write(self.stream.fileno(), piece)
        return self._filled - before

    def drained(self, log: Closable) -> bytes:
        """Everything that comes until `log`, which is closed, has written its last line."""
        self.stream.close()
        closing = threading.Thread(target=log.close, args=(10.0,))
        closing.start()
        text = b""
        # A terminal whose other end is closed is not empty but an error.
        with suppress(OSError):
            while piece := os.read(self.reader, 1 << 16):
                text += piece
        closing.join()
        return text[self._filled :]

    def close(self) -> None:
        """Close both ends."""
        self.stream.close()
        os.close(self.reader)


def _terminal() -> tuple[int, int]:
    reader, writer = pty.openpty()
    tty.setraw(writer)
    return reader, writer


@contextmanager
def opened(kind: Callable[[], tuple[int, int]]) -> Iterator[Pipe]:
    """A pipe of this kind, closed at the end."""
    pipe = Pipe(*kind())
    try:
        yield pipe
    finally:
        pipe.close()


KINDS: dict[str, Callable[[], tuple[int, int]]] = {"pipe": os.pipe, "terminal": _terminal}
