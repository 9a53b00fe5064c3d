"""Run processes on a core of their own, and measure their CPU time.

Rules kept here:
- A process is pinned before it starts, so that what it forks is pinned too.
- Its CPU time includes that of its children, because nginx works in one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 5.0
# Debian installs nginx in a folder that is not on the PATH of a user.
_SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"


def find(program: str) -> str | None:
    """Return the path of a program, or None if it is not installed."""
    return shutil.which(program) or shutil.which(program, path=_SYSTEM)


def free_ports(count: int) -> list[int]:
    """Return different free ports of the loopback interface."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def start(
    command: Sequence[str | Path], core: int, output: BinaryIO, environ: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that stays on `core` with all its threads and children; it writes to `output`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return subprocess.Popen(command, stdout=output, stderr=output, env=environ)
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def started(
    command: Sequence[str | Path], core: int, output: Path, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process as `start` does, and end it with the block."""
    with output.open("wb") as stream:
        process = start(command, core, stream, environ)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds, user and system, of a process and its children, to within a clock tick."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    # proc(5): utime and stime are fields 14 and 15; the name, field 2, may contain blanks.
    utime, stime = stat.rpartition(")")[2].split()[11:13]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(utime) + int(stime)) / _TICKS + sum(cpu_seconds(int(child)) for child in children)
