"""Stamps bodies that may take long, a step of one body at a time, in turn by network and key.

Rules kept here:
- A cheap body is stamped at once. Every other body waits here, so that no number of bodies blocks the event
  loop: all of them together take TURN_SECONDS of each turn of the loop, and one step more at most.
- Each turn of the event loop belongs to one key of one network; the order of turns is that of `FairQueue`.
- At most MOST_WAITING bodies wait. Another one replaces the newest body of whoever has most waiting, or is
  refused.
- Nothing is stamped for a client that has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final

from gateway.fairness.errors import OverloadedError
from gateway.fairness.fair_queue import FairQueue
from gateway.fairness.futures import fail
from gateway.fairness.shares import Caller
from gateway.policy.routes import Route
from gateway.stamping.stamp import stamp_at_once, stamp_in_steps
from gateway.wire.errors import ClientGoneError

TURN_SECONDS: Final = 0.002
MOST_WAITING: Final = 1024


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """One body that is stamped in steps; `done` gets the stamped body."""

    claimant: Caller
    steps: Generator[None, None, bytes]
    done: asyncio.Future[bytes]
    wanted: Callable[[], bool]


class StampQueue:
    """Stamps the bodies of all clients. `monotonic` gives seconds."""

    def __init__(self, monotonic: Callable[[], float], most_waiting: int = MOST_WAITING) -> None:
        self._monotonic = monotonic
        self._jobs: FairQueue[_Job] = FairQueue(most_waiting)

    async def stamp(
        self, body: bytes, route: Route, caller: Caller, most: int, wanted: Callable[[], bool]
    ) -> bytes:
        """Return the body with the stamp of the caller's key, at most `most` bytes long.

        `wanted` is asked before each turn. Raises what `stamping.stamp` raises, OverloadedError
        where too many wait, ClientGoneError once the body is not wanted any more.
        """
        key_id, optional = caller.party, route.body_optional
        stamped = stamp_at_once(body, route.stamp, key_id, body_optional=optional, max_length=most)
        if stamped is not None:
            return stamped
        steps = stamp_in_steps(body, route.stamp, key_id, body_optional=optional, max_length=most)
        job = _Job(caller, steps, asyncio.get_running_loop().create_future(), wanted)
        self._add(job)
        return await job.done

    def _add(self, job: _Job) -> None:
        idle = not self._jobs
        refused = self._jobs.add(job)
        if refused is not None:
            fail(refused.done, OverloadedError())
        if idle and self._jobs:
            job.done.get_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Work for the key whose turn it is, and leave the rest for the next turn of the event loop."""
        end = self._monotonic() + TURN_SECONDS
        first = self._jobs.next()
        caller, loop = first.claimant, first.done.get_loop()
        self._jobs.end_turn(caller)
        job: _Job | None = first
        while job is not None and self._work(job, end):
            self._jobs.remove(job)
            job = self._jobs.first_of(caller)
        if self._jobs:
            loop.call_soon(self._turn)

    def _work(self, job: _Job, end: float) -> bool:
        """Stamp until `end` (monotonic seconds); return whether nothing is left to do for the body."""
        if not job.done.done() and not job.wanted():
            fail(job.done, ClientGoneError())
        if job.done.done():
            return True
        try:
            while self._monotonic() < end:
                next(job.steps)
        except StopIteration as last:
            job.done.set_result(last.value)
        except Exception as problem:  # whatever it is, it belongs to this body alone
            job.done.set_exception(problem)
        return job.done.done()
