"""Core's record of what was created, and with whose key; for load that fails on purpose.

Rules kept here:
- A request counts once its head has arrived; a create is recorded before it is acknowledged.
- A fault holds from the moment it is switched on: a request whose body is still arriving fails too.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator

from tests.core_stand_in.behaviours import in_halves
from tests.core_stand_in.exchange import Behaviour, Exchange, Request

Fault = Callable[[Behaviour], Behaviour]
"""Makes, of a behaviour that responds, one that fails."""


class RecordsCreates:
    """A behaviour that counts requests and records the stamp of each POST, by reference.

    The reference is `ref` in the query, or the last segment of the path. `hold` in the query is how many
    seconds pass before the end of the response.
    """

    def __init__(self) -> None:
        self.arrivals: Counter[tuple[str, str]] = Counter()
        self.record: dict[str, str | None] = {}
        self._fault: Fault | None = None

    @contextlib.contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        """Fail in this way inside the block."""
        self._fault = fault
        try:
            yield
        finally:
            self._fault = None

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        reference = _reference(request)
        self.arrivals[request.method, reference] += 1
        body = await exchange.body()
        if request.method == "POST":
            self.record[reference] = _stamp_of(body)
        if self._fault is not None:
            await self._fault(_acknowledge)(exchange)
        else:
            await in_halves(float(request.query.get("hold", 0)), _acknowledge)(exchange)


async def _acknowledge(exchange: Exchange) -> None:
    request = exchange.request
    status = "201 Created" if request.method == "POST" else "200 OK"
    await exchange.respond(status, json.dumps({"reference": _reference(request)}).encode())


def _reference(request: Request) -> str:
    return request.query.get("ref") or request.path.rpartition("/")[2]


def _stamp_of(body: bytes) -> str | None:
    stamp = json.loads(body).get("meta_data", {}).get("BLNK_GENERATED_BY")
    return None if stamp is None else str(stamp)
