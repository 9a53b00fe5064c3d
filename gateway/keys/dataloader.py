"""Reads that many wait for, done as few: whatever is wanted by then goes into one read, one at a time.

Rules kept here:
- What is asked for while a read is under way goes into the next, so an answer is never from before
  its question.
- Those who wait are served by turns of their parties (`turns`): a flood from one delays the others by one
  name each, and may have every place that they do not need.
- How many may wait is bounded, and so is for how long: who waited for `patience` is refused, and not read.
  So is what is answered in one turn of the event loop: whoever else waits for the loop has a turn between
  two reads, also while clients ask again as soon as they are refused.
- A failure fails everyone who waits: behind a dead link nobody waits for a read of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gateway.errors import GatewayError
from gateway.fairness.fair_queue import FairQueue
from gateway.keys.errors import KeysUnavailableError, LookupOverloadError

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """`size` of one read, `waiting` at once; seconds of `pause` between two reads, and of `patience`."""

    size: int
    waiting: int
    pause: float = 0.0
    patience: float = float("inf")


@dataclass(slots=True, eq=False)
class _Wait(Generic[Found]):
    """One name that a party waits for, since a moment (monotonic seconds); `number` counts them all."""

    party: str
    name: str
    number: int
    since: float
    outcome: asyncio.Future[Found | GatewayError | None] = field(init=False)


class BatchLoader(Generic[Found]):
    """Answers by name.

    Args:
        read: reads names: a mapping of those that it found, with a GatewayError for what failed alone.
        limits: bounds what is read and who waits.
        clock: monotonic seconds.
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
        self._turns: FairQueue[_Wait[Found]] = FairQueue()
        self._work: asyncio.Task[None] | None = None
        self._begun = 0
        # Why the last read that failed did, and the number of the last who waited then.
        self._failure: GatewayError = KeysUnavailableError()
        self._failed = 0

    async def get(self, name: str, party: str = "") -> Found | None:
        """What `name` stands for, read after this was called; None if nothing.

        Raises:
            LookupOverloadError: too many wait, or have waited for too long (KEY_STORE_UNAVAILABLE).
            GatewayError: the read failed (KEY_STORE_UNAVAILABLE).
        """
        # Each party has its own wait for a name: another's may be at the end of a long queue.
        wait = self._waits.get((party, name)) or self._begin(party, name)
        # Shielded: a client that leaves must not fail the others that wait.
        outcome = await asyncio.shield(wait.outcome)
        if isinstance(outcome, GatewayError):
            raise outcome.again() from outcome
        return outcome

    async def close(self) -> None:
        """Stop reading; those who wait fail."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        while self._turns:
            self._settle([self._turns.take()], KeysUnavailableError())

    def _begin(self, party: str, name: str) -> _Wait[Found]:
        loop = asyncio.get_running_loop()
        self._begun += 1
        wait = _Wait[Found](party, name, self._begun, self._clock())
        wait.outcome = loop.create_future()
        self._waits[party, name] = wait
        self._turns.add(party, wait)
        if len(self._turns) > self._limits.waiting:
            self._settle([self._turns.shed()], _overload())
        if self._work is None:
            self._work = loop.create_task(self._read_all())
        return wait

    async def _read_all(self) -> None:
        while self._turns:
            batch = self._next_batch()
            if batch:
                await self._answer(batch)
            await asyncio.sleep(self._limits.pause)
        self._work = None

    def _next_batch(self) -> list[_Wait[Found]]:
        """Those whose turn it is, besides at most as many that fail without a read."""
        oldest = self._clock() - self._limits.patience
        batch: list[_Wait[Found]] = []
        failed = 0
        while self._turns and max(len(batch), failed) < self._limits.size:
            wait = self._turns.take()
            if wait.number <= self._failed:
                self._settle([wait], self._failure)
                failed += 1
            elif wait.since < oldest:
                self._settle([wait], _overload())
                failed += 1
            else:
                del self._waits[wait.party, wait.name]
                batch.append(wait)
        return batch

    async def _answer(self, batch: list[_Wait[Found]]) -> None:
        failure: GatewayError = KeysUnavailableError()
        try:
            found = await self._read(list(dict.fromkeys(wait.name for wait in batch)))
        except asyncio.CancelledError:
            self._settle(batch, failure)
            raise
        except Exception as fault:  # whatever it is, it must leave nobody waiting
            if isinstance(fault, GatewayError):
                failure = fault
            else:
                failure.__cause__ = fault
            self._failure, self._failed = failure, self._begun
            self._settle(batch, failure)
        else:
            for wait in batch:
                wait.outcome.set_result(found.get(wait.name))

    def _settle(self, waits: Iterable[_Wait[Found]], failure: GatewayError) -> None:
        for wait in waits:
            if self._waits.get((wait.party, wait.name)) is wait:
                del self._waits[wait.party, wait.name]
            wait.outcome.set_result(failure)


def _overload() -> LookupOverloadError:
    return LookupOverloadError(reason="too many keys are looked up at once")
