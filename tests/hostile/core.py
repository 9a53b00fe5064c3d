"""Core behind an attacked gateway, in a process of its own: `python -m tests.hostile.core`.

Rules kept here:
- It responds at once and shortly, unless the query says otherwise: after `wait` seconds, with `size` bytes.
- It records when the last request with a `mark` arrived, by the clock that all processes share. A request
  that arrived while this process was busy counts as arrived when the process last looked: so the recorded
  time is never too late, and too early by at most 40 ms while the process is not busy.
- It keeps nothing of a request, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop

from tests.core_stand_in import Exchange, StandInCore, delayed, like_core, of_size
from tests.core_stand_in.arrivals import NotesArrivals
from tests.running import MASTER_KEY

NOTED = "/noted"
_LOOK_SECONDS = 0.02


class LastLook:
    """A clock that shows when this process last looked at its sockets."""

    def __init__(self) -> None:
        self._last = self._before = time.monotonic()

    def __call__(self) -> float:
        return self._before

    async def run(self) -> None:
        """Look at the time for ever; late while the process is busy."""
        while True:
            self._before, self._last = self._last, time.monotonic()
            await asyncio.sleep(_LOOK_SECONDS)


async def as_asked(exchange: Exchange) -> None:
    """Read the body, wait and respond as the query says."""
    query = exchange.request.query
    await exchange.body()
    behave = of_size(int(query["size"])) if "size" in query else like_core
    if "wait" in query:
        behave = delayed(float(query["wait"]), behave)
    await behave(exchange)


class AttackedCore:
    """A Core that records arrivals, and returns them at `NOTED`."""

    def __init__(self) -> None:
        self.clock = LastLook()
        self._arrivals = NotesArrivals(as_asked, self.clock)

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.path == NOTED:
            await exchange.respond(body=str(self._arrivals.arrived.get(request.query["mark"], 0.0)).encode())
        else:
            await self._arrivals(exchange)


async def serve() -> None:
    """Print the port that it listens on, then serve until standard input ends."""
    async with StandInCore(MASTER_KEY, records=False) as upstream:
        upstream.keep_bodies = False
        upstream.behaviour = core = AttackedCore()
        looking = asyncio.ensure_future(core.clock.run())
        sys.stdout.write(f"{upstream.port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        looking.cancel()


if __name__ == "__main__":
    uvloop.run(serve())
