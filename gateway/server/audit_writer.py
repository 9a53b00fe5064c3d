"""Writes what this process has recorded to the audit stream, in the background.

Rules kept here:
- Entries are written in the order in which they happened. While the store fails, they wait.
- An entry whose write may have failed is written again: the stream has each at least once.
- The end of the process waits for it a moment, and no longer. What it leaves is logged by kind.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway.errors import GatewayError
from gateway.keys.store import AuditStream
from gateway.server.audit_recorder import AuditRecorder

SETTLE_SECONDS: Final = 60.0
"""How long denied attempts are counted before they become entries."""
LOOK_SECONDS: Final = 0.25
RETRY_SECONDS: Final = 1.0
LAST_SECONDS: Final = 0.5
"""How long the end of the process waits."""
LEFT: Final = "audit entries were not written before the end"
_AT_ONCE: Final = 100


class AuditWriter:
    """Writes the entries of one recorder.

    Args:
        recorder: has the entries.
        stream: takes them.
        log: takes what is left at the end.
        settle: the seconds for which denied attempts are counted.
    """

    def __init__(
        self,
        recorder: AuditRecorder,
        stream: AuditStream,
        log: FilteringBoundLogger,
        settle: float = SETTLE_SECONDS,
    ) -> None:
        self._recorder = recorder
        self._stream = stream
        self._log = log
        self._settle = settle

    async def run(self) -> None:
        """Write for ever; returns only by cancellation."""
        loop = asyncio.get_running_loop()
        settled = loop.time()
        while True:
            if loop.time() - settled >= self._settle:
                settled = loop.time()
                self._recorder.settle_denials()
            try:
                await self._write()
            except GatewayError:
                # The store watch reports it.
                await asyncio.sleep(RETRY_SECONDS)
            else:
                await asyncio.sleep(LOOK_SECONDS)

    async def finish(self) -> None:
        """Write what is left, if the store takes it within a moment; log what it does not take."""
        with contextlib.suppress(GatewayError, TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self._write()
        if kinds := self._recorder.queue.kinds:
            self._log.warning(LEFT, count=kinds.total(), **kinds)

    async def _write(self) -> None:
        queue = self._recorder.queue
        while entries := queue.first(_AT_ONCE):
            await self._stream.append_entries(entries)
            queue.written(len(entries))
