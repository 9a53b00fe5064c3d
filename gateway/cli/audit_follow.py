"""Follows the audit stream, and prints its entries as they come, until the command is ended.

Rules kept here:
- Entries are printed, and those on a pipe read, before the position of the shipper is stored. A signal waits
  a moment for both, so that a shipper which is ended in the usual way prints no entry twice.
- If the entry that was printed last is gone, entries with earlier ids may have come since (`audit_reader`).
  The command goes back a little then, and prints some entries again.
- A failure of Redis is waited for, however long it takes, and said once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final, TypeVar

from gateway.cli.audit_lines import EntryPrinter
from gateway.cli.console import say
from gateway.cli.line_output import LineOutput
from gateway.errors import GatewayError
from gateway.keys.redis.audit_reader import (
    REWOUND_SECONDS,
    AuditBatch,
    RedisAuditReader,
    is_of_entry,
    rewound,
)
from gateway.keys.redis.audit_stream import BEGINNING
from gateway.policy.explanation import printable

Done = TypeVar("Done")

WAIT_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 0.5
_GONE: Final = (
    "the entry {} is gone, and perhaps others that were not printed: they were trimmed, or lost in a "
    "failover; going on {:g} s before it"
)
LAST_SECONDS: Final = 1.0
"""How long a signal waits for lines that are being written, and for their position."""


class Follower:
    """Prints entries as they come; with the name of a shipper it stores its position."""

    def __init__(self, reader: RedisAuditReader, printer: EntryPrinter, shipper: str | None) -> None:
        self._reader = reader
        self._printer = printer
        self._shipper = shipper
        self._output = LineOutput(sys.stdout.fileno())
        self._position = BEGINNING
        self._printed = 0
        self._said = ""

    async def follow(self, begin: str | None) -> None:
        """Print for ever; returns only by cancellation, or with BrokenPipeError."""
        after = await self._patiently(partial(self._begin, begin))
        of_entry = begin is None and is_of_entry(after)
        while True:
            batch = await self._patiently(partial(self._reader.read, after, WAIT_SECONDS))
            if of_entry and not batch.there:
                say(_GONE.format(after, REWOUND_SECONDS), err=True)
                after, of_entry = rewound(after), False
                continue
            await _to_its_end(self._take(batch))
            if batch.last is not None:
                after, of_entry = batch.last, True

    async def _begin(self, begin: str | None) -> str:
        """Return the position to begin at."""
        if self._shipper is None:
            return begin or BEGINNING
        self._printed = await self._reader.printed(self._shipper)
        self._position = begin or await self._reader.position(self._shipper)
        return self._position

    async def _take(self, batch: AuditBatch) -> None:
        """Print a batch, then store the position behind it."""
        await self._output.write(self._printer.lines(batch))
        printed = self._printed + len(batch.entries)
        if batch.whole:
            printed = batch.written
        if self._shipper is not None and (batch.last or printed != self._printed):
            await self._output.taken()
            self._position = batch.last or self._position
            await self._patiently(
                partial(self._reader.acknowledge, self._shipper, self._position, printed),
            )
            self._printed = printed

    async def _patiently(self, work: Callable[[], Awaitable[Done]]) -> Done:
        """Return the result of `work`, however long Redis fails; say once why."""
        while True:
            try:
                done = await work()
            except GatewayError as failure:
                if failure.reason != self._said:
                    say(f"waiting for Redis: {printable(failure.reason)}", err=True)
                self._said = failure.reason
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._said = ""
                return done


async def _to_its_end(work: Awaitable[None]) -> None:
    """Finish what was begun, also if a signal comes meanwhile; but wait for it no longer than a moment."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=LAST_SECONDS)
        task.cancel()
        raise


@contextlib.contextmanager
def usual_end() -> Iterator[None]:
    """Exit with 0 on SIGTERM, Ctrl-C, or once nobody reads the pipe."""
    try:
        yield
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Without this the interpreter fails once more when it flushes the stream at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except SystemExit as ending:
        if ending.code != 128 + signal.SIGTERM:
            raise
