"""The lag of the event loop: how late a timer fires, which is how long everybody else waited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.durations import Durations

_EVERY_SECONDS: Final = 0.25
_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class LoopLag:
    """Measures the lag four times a second; `now` gives monotonic seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.lags = Durations(_BOUNDS)

    async def run(self) -> None:
        """Measure for ever; returns only by cancellation."""
        while True:
            due = self._now() + _EVERY_SECONDS
            await asyncio.sleep(_EVERY_SECONDS)
            self.lags.add(self._now() - due)
