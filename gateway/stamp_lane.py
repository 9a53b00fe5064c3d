"""Stamping that may take long, one body at a time and in turns by key.

Rules kept here:
- What is cheap is stamped at once. Everything else waits here, so that no number of bodies holds the event
  loop: all of them together take TURN_SECONDS of each of its turns, and one step more at most.
- A turn belongs to one key: the next key's turn comes next, however many bodies the key before has waiting.
- At most MOST_WAITING bodies wait. One more takes the place of the newest of the key that has most waiting.
- Nothing is stamped for a client that has gone.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final

from gateway.errors import Code, GatewayError
from gateway.policy.routes import Route
from gateway.stamping import is_cheap, stamp, stamp_in_steps
from gateway.wire.flow import ClientGoneError

TURN_SECONDS: Final = 0.002
MOST_WAITING: Final = 1024


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """One body that is stamped in steps, and who waits for it."""

    steps: Generator[None, None, bytes]
    done: asyncio.Future[bytes]
    wanted: Callable[[], bool]


class StampLane:
    """Stamps the bodies of all clients. `monotonic` gives seconds."""

    def __init__(self, monotonic: Callable[[], float], most_waiting: int = MOST_WAITING) -> None:
        self._monotonic = monotonic
        self._most_waiting = most_waiting
        # By key id, the key whose turn is next first.
        self._jobs: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._waiting = 0

    async def stamp(
        self, body: bytes, route: Route, key_id: str, most: int, wanted: Callable[[], bool]
    ) -> bytes:
        """The body with the stamp of `key_id`, at most `most` bytes; the same object where it needs none.

        `wanted` is asked before each turn. Raises what `stamping.stamp` raises, GatewayError(UNAVAILABLE)
        where too many wait, ClientGoneError where it is not wanted any more.
        """
        if is_cheap(body, route.stamp):
            return stamp(body, route.stamp, key_id, body_optional=route.body_optional, max_length=most)
        steps = stamp_in_steps(body, route.stamp, key_id, body_optional=route.body_optional, max_length=most)
        job = _Job(steps, asyncio.get_running_loop().create_future(), wanted)
        self._add(key_id, job)
        return await job.done

    def _add(self, key_id: str, job: _Job) -> None:
        if self._waiting >= self._most_waiting:
            self._make_room(key_id)
        if not self._jobs:
            job.done.get_loop().call_soon(self._turn)
        self._jobs.setdefault(key_id, deque()).append(job)
        self._waiting += 1

    def _make_room(self, key_id: str) -> None:
        """Refuse the newest body of the key that has most; raises GatewayError where that is `key_id`."""
        largest = max(self._jobs.values(), key=len)
        if len(self._jobs.get(key_id, ())) + 1 >= len(largest):
            raise GatewayError(Code.UNAVAILABLE)
        _fail(largest.pop(), GatewayError(Code.UNAVAILABLE))
        self._waiting -= 1

    def _turn(self) -> None:
        """Work for the key whose turn it is, and leave the rest for the next turn of the event loop."""
        end = self._monotonic() + TURN_SECONDS
        key_id, jobs = next(iter(self._jobs.items()))
        loop = jobs[0].done.get_loop()
        while jobs and self._work(jobs[0], end):
            jobs.popleft()
            self._waiting -= 1
        self._jobs.move_to_end(key_id)
        if not jobs:
            del self._jobs[key_id]
        if self._jobs:
            loop.call_soon(self._turn)

    def _work(self, job: _Job, end: float) -> bool:
        """Stamp until `end` (monotonic seconds); returns whether nothing is left to do for the body."""
        if not job.done.done() and not job.wanted():
            _fail(job, ClientGoneError())
        if job.done.done():
            return True
        try:
            while self._monotonic() < end:
                next(job.steps)
        except StopIteration as last:
            job.done.set_result(last.value)
        except Exception as problem:  # whatever it is belongs to this body alone
            job.done.set_exception(problem)
        return job.done.done()


def _fail(job: _Job, problem: Exception) -> None:
    if not job.done.done():
        job.done.set_exception(problem)
