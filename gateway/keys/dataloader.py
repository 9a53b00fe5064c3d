"""Loads values by name in few reads: all names that are wanted by then go into one read, one read at a time.

Rules kept here:
- A name that is asked for during a read goes into the next read, so a result is never older than its
  question.
- Networks are served in turn (`FairQueue`): a flood from one network delays another by one name for each
  read, and may use every place that the others leave free.
- The number of names that wait is bounded, and so is the time: a name that has waited for `patience` seconds
  is refused and not read. What one turn of the event loop settles is bounded too: between two reads every
  other task gets a turn, even when clients ask again as soon as they are refused.
- A failure fails every name that waits: with a dead connection, none waits for a read of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gateway.errors import GatewayError
from gateway.fairness.fair_queue import FairQueue
from gateway.fairness.shares import Caller
from gateway.keys.errors import KeysUnavailableError, LookupOverloadError
from gateway.keys.singleflight import result_of

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds of a `BatchLoader`.

    `size` is the most names in one read, `waiting` the most names that wait; `pause` is the time between two
    reads and `patience` the longest wait, both in seconds.
    """

    size: int
    waiting: int
    pause: float = 0.0
    patience: float = float("inf")


@dataclass(slots=True, eq=False)
class _Wait(Generic[Found]):
    """One name that a network waits for.

    `number` counts all waits from 1; `since` is when it began, in monotonic seconds.
    """

    claimant: Caller
    name: str
    number: int
    since: float
    outcome: asyncio.Future[Found | GatewayError | None] = field(init=False)


class BatchLoader(Generic[Found]):
    """Loads values by name.

    Args:
        read: reads names; returns those that it found, with a GatewayError for each that failed alone.
        limits: bounds one read and the waiting.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        read: Callable[[list[str]], Awaitable[Mapping[str, Found | GatewayError]]],
        limits: BatchLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._limits = limits
        self._clock = clock
        self._waits: dict[tuple[str, str], _Wait[Found]] = {}
        self._queue: FairQueue[_Wait[Found]] = FairQueue(limits.waiting)
        self._work: asyncio.Task[None] | None = None
        self._begun = 0
        # The cause of the last failed read, and the number of the newest wait at that time.
        self._failure: GatewayError = KeysUnavailableError()
        self._failed = 0

    async def get(self, name: str, party: str = "") -> Found | None:
        """Return the value of `name`, read after this call; None if there is none.

        `party` is the network that asks.

        Raises:
            LookupOverloadError: too many names wait, or this one has waited for too long.
            GatewayError: the read failed.
        """
        # Each network waits for itself: another network's wait for the name may be at the end of a long
        # queue.
        wait = self._waits.get((party, name)) or self._begin(party, name)
        return await result_of(wait.outcome)

    async def close(self) -> None:
        """Stop reading; every name that waits fails."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        while self._queue:
            self._fail([self._queue.take()], KeysUnavailableError())

    def _begin(self, party: str, name: str) -> _Wait[Found]:
        loop = asyncio.get_running_loop()
        self._begun += 1
        # Names take no turns of their own, so the network is both names of the claimant.
        wait = _Wait[Found](Caller(party, party), name, self._begun, self._clock())
        wait.outcome = loop.create_future()
        self._waits[party, name] = wait
        refused = self._queue.add(wait)
        if refused is not None:
            self._fail([refused], _overload())
        if self._work is None:
            self._work = loop.create_task(self._read_all())
        return wait

    async def _read_all(self) -> None:
        while self._queue:
            batch = self._next_batch()
            if batch:
                await self._read_batch(batch)
            await asyncio.sleep(self._limits.pause)
        self._work = None

    def _next_batch(self) -> list[_Wait[Found]]:
        """Take the waits whose turn it is; settle at most as many others, which fail without a read."""
        oldest = self._clock() - self._limits.patience
        batch: list[_Wait[Found]] = []
        failed = 0
        while self._queue and max(len(batch), failed) < self._limits.size:
            wait = self._queue.take()
            if wait.number <= self._failed:
                self._fail([wait], self._failure)
                failed += 1
            elif wait.since < oldest:
                self._fail([wait], _overload())
                failed += 1
            else:
                del self._waits[wait.claimant.party, wait.name]
                batch.append(wait)
        return batch

    async def _read_batch(self, batch: list[_Wait[Found]]) -> None:
        failure: GatewayError = KeysUnavailableError()
        try:
            found = await self._read(list(dict.fromkeys(wait.name for wait in batch)))
        except asyncio.CancelledError:
            self._fail(batch, failure)
            raise
        except Exception as fault:  # whatever it is, it must leave no look-up waiting
            if isinstance(fault, GatewayError):
                failure = fault
            else:
                failure.__cause__ = fault
            self._failure, self._failed = failure, self._begun
            self._fail(batch, failure)
        else:
            for wait in batch:
                wait.outcome.set_result(found.get(wait.name))

    def _fail(self, waits: Iterable[_Wait[Found]], failure: GatewayError) -> None:
        for wait in waits:
            if self._waits.get((wait.claimant.party, wait.name)) is wait:
                del self._waits[wait.claimant.party, wait.name]
            wait.outcome.set_result(failure)


def _overload() -> LookupOverloadError:
    return LookupOverloadError(reason="too many keys are looked up at once")
