"""Stamping that may take long, one body at a time and in turns by network and key.

Rules kept here:
- What is cheap is stamped at once. Everything else waits here, so that no number of bodies holds the event
  loop: all of them together take TURN_SECONDS of each of its turns, and one step more at most.
- A turn belongs to one key of one network. The next network's turn comes next, and of a network the next
  key's, however many bodies or keys the one before has waiting.
- At most MOST_WAITING bodies wait. One more takes the place of the newest of whoever has most waiting.
- Nothing is stamped for a client that has gone.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final

from gateway.fairness.errors import OverloadedError
from gateway.fairness.shares import Caller, PairedShares
from gateway.policy.routes import Route
from gateway.stamping.stamp import is_cheap, stamp, stamp_in_steps
from gateway.wire.errors import ClientGoneError

TURN_SECONDS: Final = 0.002
MOST_WAITING: Final = 1024


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """One body that is stamped in steps, whose it is, and who waits for it."""

    caller: Caller
    steps: Generator[None, None, bytes]
    done: asyncio.Future[bytes]
    wanted: Callable[[], bool]


class StampQueue:
    """Stamps the bodies of all clients. `monotonic` gives seconds."""

    def __init__(self, monotonic: Callable[[], float], most_waiting: int = MOST_WAITING) -> None:
        self._monotonic = monotonic
        self._waiting = PairedShares(most_waiting)
        # By network and key, those whose turn is next first.
        self._jobs: OrderedDict[str, OrderedDict[str, deque[_Job]]] = OrderedDict()

    async def stamp(
        self, body: bytes, route: Route, caller: Caller, most: int, wanted: Callable[[], bool]
    ) -> bytes:
        """The body with the stamp of the caller's key, at most `most` bytes; the same if it needs none.

        `wanted` is asked before each turn. Raises what `stamping.stamp` raises, OverloadedError
        where too many wait, ClientGoneError where it is not wanted any more.
        """
        key_id, optional = caller.party, route.body_optional
        if is_cheap(body, route.stamp):
            return stamp(body, route.stamp, key_id, body_optional=optional, max_length=most)
        steps = stamp_in_steps(body, route.stamp, key_id, body_optional=optional, max_length=most)
        job = _Job(caller, steps, asyncio.get_running_loop().create_future(), wanted)
        self._add(job)
        return await job.done

    def _add(self, job: _Job) -> None:
        if not self._waiting.fits(1):
            self._make_room(job.caller)
        if not self._jobs:
            job.done.get_loop().call_soon(self._turn)
        key_id, network = job.caller
        self._jobs.setdefault(network, OrderedDict()).setdefault(key_id, deque()).append(job)
        self._waiting.take(job.caller)

    def _make_room(self, caller: Caller) -> None:
        """Refuse the newest body of whoever has most; raises GatewayError where nobody has to yield."""
        if not self._waiting.may_yield(caller):
            raise OverloadedError
        newest = (jobs[-1] for keys in self._jobs.values() for jobs in keys.values())
        yielding = (job for job in newest if self._waiting.yields(job.caller, caller))
        heaviest = max(yielding, key=lambda job: self._waiting.weight(job.caller), default=None)
        if heaviest is None:
            raise OverloadedError
        _fail(heaviest, OverloadedError())
        self._remove(heaviest)

    def _remove(self, job: _Job) -> None:
        key_id, network = job.caller
        keys = self._jobs[network]
        keys[key_id].remove(job)
        self._waiting.give(job.caller)
        if not keys[key_id]:
            del keys[key_id]
        if not keys:
            del self._jobs[network]

    def _turn(self) -> None:
        """Work for the key whose turn it is, and leave the rest for the next turn of the event loop."""
        end = self._monotonic() + TURN_SECONDS
        network, keys = next(iter(self._jobs.items()))
        key_id, jobs = next(iter(keys.items()))
        loop = jobs[0].done.get_loop()
        self._jobs.move_to_end(network)
        keys.move_to_end(key_id)
        while jobs and self._work(jobs[0], end):
            self._remove(jobs[0])
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
