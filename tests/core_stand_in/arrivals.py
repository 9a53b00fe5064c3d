"""The times at which requests reached Core, by the mark that each carries; to measure revocations."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.core_stand_in.behaviours import like_core
from tests.core_stand_in.exchange import Behaviour, Exchange

_MARK = re.compile(r"[?&]mark=([\w-]+)")


@dataclass(slots=True)
class NotesArrivals:
    """A behaviour that records when the head of the last request with a `mark` in its query arrived.

    `arrived` maps the mark to that time, in seconds of `clock`.
    """

    then: Behaviour = like_core
    clock: Callable[[], float] = time.monotonic
    arrived: dict[str, float] = field(default_factory=dict)

    async def __call__(self, exchange: Exchange) -> None:
        if found := _MARK.search(exchange.request.target):
            self.arrived[found[1]] = self.clock()
        await self.then(exchange)
