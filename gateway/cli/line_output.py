"""Writes lines to standard output from an event loop, for a command that runs until it is ended.

Rules kept here:
- The loop is never held up: a pipe that nobody reads takes nothing, and a signal still ends the command.
- Lines that were written to a file are on disk before they count, and those in a pipe have been read.
- A line that a crash has cut is ended first, so that it costs no other line.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import stat
import struct
import termios
from pathlib import Path
from typing import Final

_AT_ONCE: Final = 4096
"""PIPE_BUF of Linux: a pipe that polls as writable takes as many bytes without waiting."""
_LOOK_SECONDS: Final = 0.01


class LineOutput:
    """Writes to one descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        mode = os.fstat(descriptor).st_mode
        self._file = stat.S_ISREG(mode)
        self._pipe = stat.S_ISFIFO(mode)
        if self._file and _ends_within_a_line(descriptor):
            os.write(descriptor, b"\n")

    async def write(self, data: bytes) -> None:
        """Write bytes whole; return once they are on disk, or the pipe has them.

        Raises:
            BrokenPipeError: nobody reads the pipe any more.
            OSError: the file takes no more.
        """
        while data:
            if not self._file:
                await self._writable()
            size = len(data) if self._file else _AT_ONCE
            data = data[os.write(self._descriptor, data[:size]) :]
        if self._file:
            os.fsync(self._descriptor)

    async def taken(self) -> None:
        """Return once nothing is left in the pipe: its buffer of 64 KiB is lost if its reader crashes.

        Raises:
            BrokenPipeError: nobody reads the pipe any more.
        """
        while self._pipe and _unread(self._descriptor):
            await asyncio.sleep(_LOOK_SECONDS)

    async def _writable(self) -> None:
        loop, writable = asyncio.get_running_loop(), asyncio.Event()
        try:
            loop.add_writer(self._descriptor, writable.set)
        except PermissionError:
            # A device such as /dev/null, which never waits.
            return
        try:
            await writable.wait()
        finally:
            loop.remove_writer(self._descriptor)


def _unread(descriptor: int) -> int:
    """Return how many bytes are in a pipe. Raises BrokenPipeError if nobody can read them."""
    (count,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))
    poll = select.poll()
    poll.register(descriptor, 0)
    if count and poll.poll(0):
        raise BrokenPipeError
    return int(count)


def _ends_within_a_line(descriptor: int) -> bool:
    """Return whether the last byte of a file is no line feed; False where the file cannot be read."""
    try:
        # The descriptor itself was opened for writing only.
        with Path(f"/proc/self/fd/{descriptor}").open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False
