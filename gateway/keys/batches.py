"""Reads that many wait for, done as few: whatever is wanted by then goes into one read, one at a time.

Rules kept here:
- What is asked for while a read is under way goes into the next, so an answer is never from before
  its question.
- How many may wait is bounded, and so is how often is read, whatever the number of those who ask.
- A failure fails everyone who waits, at once: behind a dead link nobody waits in line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from gateway.errors import Code, GatewayError

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """`size` of one read, `waiting` at once, and the `pause` in seconds between two reads."""

    size: int
    waiting: int
    pause: float


class Batches(Generic[Found]):
    """Answers by name, read by `read`: a mapping of those that it found."""

    def __init__(
        self, read: Callable[[list[str]], Awaitable[Mapping[str, Found]]], limits: BatchLimits
    ) -> None:
        self._read = read
        self._limits = limits
        self._wanted: dict[str, asyncio.Future[Found | GatewayError | None]] = {}
        self._work: asyncio.Task[None] | None = None

    async def get(self, name: str) -> Found | None:
        """What `name` stands for, read after this was called; None if nothing.

        Raises:
            GatewayError: the read failed, or too many wait (KEY_STORE_UNAVAILABLE).
        """
        wanted = self._wanted.get(name)
        if wanted is None:
            wanted = self._want(name)
        # Shielded: a client that leaves must not fail the others that wait.
        outcome = await asyncio.shield(wanted)
        if isinstance(outcome, GatewayError):
            raise outcome.again() from outcome
        return outcome

    async def close(self) -> None:
        """Stop reading; those who wait fail."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        _settle(self._wanted.values(), GatewayError(Code.KEY_STORE_UNAVAILABLE))

    def _want(self, name: str) -> asyncio.Future[Found | GatewayError | None]:
        if len(self._wanted) >= self._limits.waiting:
            raise GatewayError(Code.KEY_STORE_UNAVAILABLE, reason="too many keys wait for Core's database")
        loop = asyncio.get_running_loop()
        wanted = self._wanted[name] = loop.create_future()
        if self._work is None:
            self._work = loop.create_task(self._read_all())
        return wanted

    async def _read_all(self) -> None:
        while self._wanted:
            batch = {name: self._wanted.pop(name) for name in list(islice(self._wanted, self._limits.size))}
            try:
                found = await self._read(list(batch))
            except GatewayError as failure:
                _settle([*batch.values(), *self._wanted.values()], failure)
                self._wanted.clear()
            except asyncio.CancelledError:
                _settle(batch.values(), GatewayError(Code.KEY_STORE_UNAVAILABLE))
                raise
            except Exception as fault:  # a read that fails otherwise must leave nobody waiting
                outage = GatewayError(Code.KEY_STORE_UNAVAILABLE)
                outage.__cause__ = fault
                _settle([*batch.values(), *self._wanted.values()], outage)
                self._wanted.clear()
            else:
                for name, wanted in batch.items():
                    wanted.set_result(found.get(name))
            await asyncio.sleep(self._limits.pause)
        self._work = None


def _settle(waiting: Iterable[asyncio.Future[Found | GatewayError | None]], failure: GatewayError) -> None:
    for wanted in waiting:
        if not wanted.done():
            wanted.set_result(failure)
