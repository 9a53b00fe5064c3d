"""Processes of the tool, and the resources of a process as /proc shows them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.running import ROOT

_PATIENCE = 5.0


@asynccontextmanager
async def module(name: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `python -m NAME` inside the block; it ends when its standard input does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", name, *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            assert process.stdin is not None
            process.stdin.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


def memory(pid: int) -> int:
    """Return the resident bytes."""
    return _status(pid, "VmRSS:")


def most_memory(pid: int) -> int:
    """Return the most bytes that were resident since the process began."""
    return _status(pid, "VmHWM:")


def descriptors(pid: int) -> int:
    """Return how many files it has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def _status(pid: int, name: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(name))
