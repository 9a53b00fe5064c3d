"""The clocks of a running process, and its request ids."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

# Linux; elsewhere the monotonic clock goes on by itself, or there is no such sleep.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


# Without a frame of Python: each request reads it several times.
uptime: Callable[[], float] = partial(time.clock_gettime, _CLOCK)
"""Returns seconds that never step, and go on while the machine sleeps: no cache is fresh after that."""


def utc_now() -> datetime:
    """Return the time, aware and in UTC."""
    return datetime.now(UTC)


def request_ids(prefix: str) -> Callable[[], str]:
    """Return a maker of ids that no other process has: the prefix, which is random, and a count."""
    counter = itertools.count(1)
    return lambda: f"{prefix}-{next(counter):x}"
