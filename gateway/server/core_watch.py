"""The watch over Core: asked until it is verified, and again while it is lost.

Rules kept here:
- Core counts as verified once it was seen secure and accepted the master key.
- A lost Core that is back is noticed without any request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway.admin.health import Health
from gateway.proxy.core_access import CoreAccess
from gateway.server.core_check import Check, Finding
from gateway.server.dependencies import UPSTREAM, Dependencies
from gateway.server.errors import StartError
from gateway.server.exit_codes import Exit
from gateway.server.reminder import Reminder

ASK_SECONDS: Final = 0.5


class CoreWatch:
    """Asks Core.

    Args:
        check: asks Core once.
        core: is marked as verified.
        health: shows why Core is not verified.
        dependencies: record whether Core responds.
        log: takes the reasons.
    """

    def __init__(
        self,
        check: Callable[[], Awaitable[Check]],
        core: CoreAccess,
        health: Health,
        dependencies: Dependencies,
        log: FilteringBoundLogger,
    ) -> None:
        self._check = check
        self._core = core
        self._health = health
        self._dependencies = dependencies
        self._log = log
        self._asked = asyncio.Event()
        self._verified: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ask_now(self) -> None:
        """Ask Core at once, if it is not verified yet."""
        self._asked.set()

    async def verified(self) -> None:
        """Return once Core is verified. Raises StartError if it is unsafe."""
        await asyncio.shield(self._verified)

    async def verify(self) -> None:
        """Ask Core until it is verified, or seen to be unsafe."""
        reminder, loop = Reminder(), asyncio.get_running_loop()
        began = loop.time()
        while True:
            self._asked.clear()
            found = await self._check()
            if found.finding is Finding.SAFE:
                break
            self._health.core_waits(found.reason)
            waited = loop.time() - began
            if reminder.due(found.reason, waited):
                self._log.warning("waiting for core", reason=found.reason, seconds=round(waited))
            if found.finding is Finding.UNSAFE:
                self._verified.set_exception(StartError(found.reason, Exit.DEPENDENCY))
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), ASK_SECONDS)
        self._health.core_verified()
        self._core.verify()
        self._verified.set_result(None)
        self._log.info("ready", upstream=self._core.url)

    async def watch(self) -> None:
        """Ask a Core that is lost, for ever; returns only by cancellation."""
        while True:
            await asyncio.sleep(ASK_SECONDS)
            if self._dependencies.up(UPSTREAM) or not self._core.verified:
                continue
            found = await self._check()
            if found.finding is Finding.SAFE:
                self._dependencies.responded(UPSTREAM)
            else:
                self._dependencies.failed(UPSTREAM, found.reason)

    def close(self) -> None:
        """Let nobody miss the outcome that nobody waited for."""
        if self._verified.done() and not self._verified.cancelled():
            self._verified.exception()
