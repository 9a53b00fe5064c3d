"""The watch over the key store while it responds: does it lose keys, is it nearly full?

Rules kept here:
- The store is checked again after a while, since a failover may have put another Redis in its place and its
  memory may be used up; and at once where changes of it were missed.
- A warning is logged when it begins, and shown on the health page until it is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from gateway.admin.health import Health
from gateway.errors import GatewayError
from gateway.keys.authority import Authority
from gateway.keys.redis.durability import NEARLY_FULL, NEARLY_FULL_RATIO, ROOM_RATIO
from gateway.keys.store import StoreHealth

EMPTY: Final = "the key store is empty: every client but one with the master key will get 401"
MISSED: Final = "changes in the key store were missed: it was emptied, restored, or much was changed at once"
LOOK_SECONDS: Final = 10.0
SOON_SECONDS: Final = 0.5


class StoreObserver(Protocol):
    """Observes whether the key store responds."""

    def store_responded(self) -> None:
        """Take note that it responded."""

    def store_failed(self, failure: GatewayError) -> None:
        """Take note that it failed."""


class StoreWatch:
    """Checks one store.

    Args:
        store: is checked.
        log: takes the warnings.
        health: shows the warnings.
        failed: is called where the store does not respond.
        only_record: True if the keys are nowhere else, so that an empty store knows nobody.

    Attributes:
        memory: the part of its memory limit that the store used at the last check; None if it has no limit.
    """

    def __init__(
        self,
        store: StoreHealth,
        log: Any,
        health: Health,
        failed: Callable[[GatewayError], None],
        *,
        only_record: bool,
    ) -> None:
        self.memory: float | None = None
        self._store = store
        self._log = log
        self._health = health
        self._failed = failed
        self._only_record = only_record
        self._said: tuple[str, ...] = ()
        self._missed = asyncio.Event()

    def missed(self) -> None:
        """Take note that some changes of the store could not be read."""
        self._missed.set()
        self._log.warning(MISSED)

    async def run(self, every: float = LOOK_SECONDS) -> None:
        """Check every so many seconds for ever; returns only by cancellation."""
        while True:
            self._missed.clear()
            pause = await self._look(every)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._missed.wait(), pause)

    async def _look(self, every: float) -> float:
        """Check once; return the seconds until the next check."""
        try:
            found = await self._found()
        except GatewayError as failure:
            self._failed(failure)
            return SOON_SECONDS
        before, self._said = self._said, found
        self._health.replace_warnings(before, found)
        for warning in found:
            if warning not in before:
                self._log.warning(warning)
        return SOON_SECONDS if EMPTY in found else every

    async def _found(self) -> tuple[str, ...]:
        empty = (EMPTY,) if self._only_record and await self._store.is_empty() else ()
        warnings = await self._store.warnings()
        self.memory = await self._store.memory_ratio()
        most = ROOM_RATIO if NEARLY_FULL in self._said else NEARLY_FULL_RATIO
        full = (NEARLY_FULL,) if self.memory is not None and self.memory > most else ()
        return (*empty, *full, *warnings)


async def report_failures(
    authority: Authority, observer: StoreObserver, seconds: float = SOON_SECONDS
) -> None:
    """Report every so many seconds whether the authority of keys fails, for ever, without any request."""
    while True:
        await asyncio.sleep(seconds)
        if authority.failure is None:
            observer.store_responded()
        else:
            observer.store_failed(authority.failure)
