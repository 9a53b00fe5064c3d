"""Run processes on a core of their own, and measure their CPU time and memory.

Rules kept here:
- A process is pinned before it starts, so that what it forks is pinned too.
- Its CPU time includes that of its children, because nginx works in one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 5.0
# Debian installs nginx and haproxy in a folder that is not on the PATH of a user.
_SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"


def find(program: str) -> str | None:
    """Return the path of a program, or None if it is installed neither here nor in this environment."""
    places = (str(Path(sys.executable).parent), None, _SYSTEM)
    return next((found for place in places if (found := shutil.which(program, path=place))), None)


def start(
    command: Sequence[str | Path],
    core: int,
    output: BinaryIO | int,
    environ: Mapping[str, str] | None = None,
    stdin: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that stays on `core` with all its threads and children; it writes to `output`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return subprocess.Popen(command, stdin=stdin, stdout=output, stderr=subprocess.STDOUT, env=environ)
    finally:
        os.sched_setaffinity(0, before)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process: by SIGTERM, and by SIGKILL where that takes longer than 5 s."""
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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
        end(process)


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds, user and system, of a process and its children.

    They are counted in nanoseconds, but not those of threads that have ended.
    """
    spent = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        # A thread may end in between.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            spent += int((task / "schedstat").read_text().split()[0]) / 1e9
            spent += sum(cpu_seconds(int(child)) for child in (task / "children").read_text().split())
    return spent


def busy_seconds(core: int) -> float:
    """Return the seconds for which a core has worked, for any process or for the kernel."""
    rows = (line.split() for line in Path("/proc/stat").read_text().splitlines())
    # proc(5): user, nice, system, idle, iowait, irq, softirq, steal.
    user, nice, system, _, _, irq, softirq, steal = next(
        map(int, row[1:9]) for row in rows if row[0] == f"cpu{core}"
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS


def memory_kb(pid: int) -> dict[str, int]:
    """Return the memory of a process in KiB by kind, such as `Rss` and `Pss`."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(kib) for name, kib in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}
