"""Real pipes and terminals as streams of a log, which a test fills and reads as it likes."""

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
        """Write what is left, for at most `patience` seconds."""


class Pipe:
    """Two descriptors: the test reads from `reader` what is written to `stream`."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader = reader
        self.stream: BinaryIO = os.fdopen(writer, "wb", buffering=0)
        self._filled = 0

    def fill(self) -> None:
        """Write until no more fits; a terminal has room once more after it was full."""
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
        """Close the stream; return all that comes until `log` has written its last line and is closed."""
        self.stream.close()
        closing = threading.Thread(target=log.close, args=(10.0,))
        closing.start()
        text = b""
        # To read from a terminal whose other end is closed is an error.
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
    """Yield a pipe of this kind, and close it at the end."""
    pipe = Pipe(*kind())
    try:
        yield pipe
    finally:
        pipe.close()


KINDS: dict[str, Callable[[], tuple[int, int]]] = {"pipe": os.pipe, "terminal": _terminal}
