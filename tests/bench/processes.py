"""Processes on a core of their own, and what they cost.

Rules kept here:
- A process is pinned before it starts, so that what it forks is pinned too.
- Its CPU time counts that of its children: nginx works in one.
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
# Debian keeps nginx where the PATH of a user does not lead.
_SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"


def find(program: str) -> str | None:
    """Where a program is, if it is installed."""
    return shutil.which(program) or shutil.which(program, path=_SYSTEM)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on, no two the same."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def start(
    command: Sequence[str | Path], core: int, output: BinaryIO, environ: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts a process whose every thread and child stays on `core`; it writes to `output`."""
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
    """A process, as `start` makes it, that ends with the block."""
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
    """The CPU time, user and system, of a process and its living children, to within a clock tick."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    # proc(5): utime and stime are fields 14 and 15; the name, field 2, may hold blanks.
    utime, stime = stat.rpartition(")")[2].split()[11:13]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(utime) + int(stime)) / _TICKS + sum(cpu_seconds(int(child)) for child in children)
