"""Core behind an attacked gateway, in a process of its own: `python -m tests.hostile.core`.

Rules kept here:
- It answers at once and shortly, unless the query says otherwise: after `wait` seconds, with `size` bytes.
- It notes when a request with a `mark` reached it last, by the clock that all processes share. What came
  while it was busy counts as come when it last looked: that is never too late, and 40 ms too early at most
  where it is not busy.
- It keeps nothing of a request, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys
import time
from urllib.parse import parse_qs, urlsplit

import uvloop

from tests.recording import Exchange, RecordingUpstream, head
from tests.running import MASTER_KEY

NOTED = "/noted"
_FORGET_SECONDS = 0.5
_LOOK_SECONDS = 0.02
_PIECE = b"x" * (64 * 1024)


class Answering:
    """What Core does with a request; `arrived` maps a mark to the time of its last arrival."""

    def __init__(self) -> None:
        self.arrived: dict[str, float] = {}
        # When it last looked for what has come, and the time before.
        self._looked = self._looked_before = time.monotonic()

    async def look(self) -> None:
        """Takes note of the time for ever: late where it is busy."""
        while True:
            self._looked_before, self._looked = self._looked, time.monotonic()
            await asyncio.sleep(_LOOK_SECONDS)

    async def __call__(self, exchange: Exchange) -> None:
        parts = urlsplit(exchange.request.target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        mark = query.get("mark", "")
        if parts.path == NOTED:
            await exchange.answer(body=str(self.arrived.get(mark, 0.0)).encode())
            return
        if mark:
            self.arrived[mark] = self._looked_before
        await exchange.body()
        if "wait" in query:
            await asyncio.sleep(float(query["wait"]))
        if "size" in query:
            await _write(exchange, int(query["size"]))
        else:
            await exchange.answer()


async def _write(exchange: Exchange, size: int) -> None:
    """A response of so many bytes, at the pace at which they are taken."""
    await exchange.write(head("200 OK", [("Content-Length", str(size))]))
    for start in range(0, size, len(_PIECE)):
        await exchange.write(_PIECE[: size - start])


async def _forgetting(core: RecordingUpstream) -> None:
    while True:
        await asyncio.sleep(_FORGET_SECONDS)
        core.take()
        core.probes.clear()
        core.connections[:] = [one for one in core.connections if not one.gone.is_set()]
        for connection in core.connections:
            connection.requests.clear()


async def serve() -> None:
    """Prints the port that it listens on, then serves until standard input ends."""
    async with RecordingUpstream(MASTER_KEY) as core:
        core.keep_bodies = False
        core.behaviour = answering = Answering()
        working = [asyncio.ensure_future(_forgetting(core)), asyncio.ensure_future(answering.look())]
        sys.stdout.write(f"{core.port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        for task in working:
            task.cancel()


if __name__ == "__main__":
    uvloop.run(serve())
