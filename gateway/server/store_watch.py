"""What an operator is to know of the key store while it answers: that it loses keys, or is nearly full.

Rules kept here:
- It is looked at again after a while, for a failover may have made another Redis of it or its memory be
  used up, and at once where its changes were missed.
- A warning is logged when it begins, and stands on the health page until it is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from gateway.admin.health import Health
from gateway.errors import GatewayError
from gateway.keys.authority import Authority
from gateway.keys.redis.durability import NEARLY_FULL, NEARLY_FULL_RATIO, ROOM_RATIO
from gateway.keys.redis.store import RedisKeyStore
from gateway.keys.store import KeyStore

EMPTY: Final = "the key store is empty: every client but one with the master key will get 401"
MISSED: Final = "changes in the key store were missed: it was emptied, restored, or much was changed at once"
LOOK_SECONDS: Final = 10.0
SOON_SECONDS: Final = 0.5


class StoreWatch:
    """Looks at one store.

    Args:
        store: it.
        log: takes the warnings.
        health: shows the warnings.
        failed: told where the store does not answer.
        only_record: whether the keys are nowhere else, so that an empty store is one that knows nobody.
        look_seconds: how often it looks.

    `memory` is how much of its bound the store used when it was last looked at; None if it has none.
    """

    def __init__(
        self,
        store: KeyStore,
        log: Any,
        health: Health,
        failed: Callable[[GatewayError], None],
        *,
        only_record: bool,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self.memory: float | None = None
        self._look_seconds = look_seconds
        self._store = store
        self._log = log
        self._health = health
        self._failed = failed
        self._only_record = only_record
        self._said: tuple[str, ...] = ()
        self._missed = asyncio.Event()

    def missed(self) -> None:
        """Some of the store's changes could not be read."""
        self._missed.set()
        self._log.warning(MISSED)

    async def run(self) -> None:
        """Look for ever; returns only by cancellation."""
        while True:
            self._missed.clear()
            pause = await self._look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._missed.wait(), pause)

    async def _look(self) -> float:
        """Take note of what is so now; returns in how many seconds to look again."""
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
        return SOON_SECONDS if EMPTY in found else self._look_seconds

    async def _found(self) -> tuple[str, ...]:
        empty = (EMPTY,) if self._only_record and await self._store.empty() else ()
        if not isinstance(self._store, RedisKeyStore):
            return empty
        warnings = await self._store.warnings()
        self.memory = await self._store.memory_ratio()
        most = ROOM_RATIO if NEARLY_FULL in self._said else NEARLY_FULL_RATIO
        full = (NEARLY_FULL,) if self.memory is not None and self.memory > most else ()
        return (*empty, *full, *warnings)


async def report_failures(
    authority: Authority, report: Callable[[GatewayError | None], None], seconds: float = SOON_SECONDS
) -> None:
    """Report every so many seconds whether the authority of keys fails, for ever, without any request."""
    while True:
        await asyncio.sleep(seconds)
        report(authority.failure)
