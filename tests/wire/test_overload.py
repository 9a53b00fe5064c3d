"""More requests than Core can take: some are served as fast as ever, the others are refused at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from statistics import median

from tests.conftest import Start
from tests.core_stand_in import StandInCore
from tests.core_stand_in.behaviours import delayed
from tests.raw_client import RawClient
from tests.running import Running

CORE_SECONDS = 0.02
CLIENTS = 60
"""Thirty times as many as Core's connections."""
OVERLOADED_SECONDS = 1.5
SETTLED_SECONDS = 0.6


class Flood:
    """Clients that send one request after the other with one key, for a while."""

    def __init__(self, gateway: Running, key: str) -> None:
        self.gateway = gateway
        self.key = key
        self.statuses: Counter[int] = Counter()
        self.served: list[float] = []
        self.without_retry = 0

    async def run(self) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(self._ask(began))

    async def _ask(self, began: float) -> None:
        async with await RawClient.connect(self.gateway.gateway.address, keep=False) as client:
            while (sent := time.monotonic()) < began + OVERLOADED_SECONDS:
                response = await client.ask("GET", "/ledgers/x", key=self.key)
                self.statuses[response.status] += 1
                if response.status == 200 and sent > began + SETTLED_SECONDS:
                    self.served.append(time.monotonic() - sent)
                self.without_retry += response.status == 503 and response.value("retry-after") != "1"
                await asyncio.sleep(0.03)


async def test_what_is_served_keeps_its_latency(start_gateway: Start, upstream: StandInCore) -> None:
    """Of a flood, requests are served in about Core's time and the wait that is set, the others get 503."""
    upstream.behaviour = delayed(CORE_SECONDS)
    gateway = await start_gateway(upstream={"connections": 2, "queue_wait": 0.05})
    flood = Flood(gateway, (await gateway.mint("ledgers:read")).key)
    await flood.run()
    assert flood.statuses.keys() == {200, 503}
    assert flood.without_retry == 0
    # All would wait for half a second, and those in the full queue of a longer flood for 2 s.
    assert median(flood.served) < 0.25


async def test_a_client_with_few_requests_is_served_meanwhile(
    start_gateway: Start, upstream: StandInCore
) -> None:
    """While one key floods, each request of another key is served."""
    upstream.behaviour = delayed(CORE_SECONDS)
    gateway = await start_gateway(upstream={"connections": 2, "queue_wait": 0.05})
    flood = Flood(gateway, (await gateway.mint("ledgers:read")).key)
    other = (await gateway.mint("ledgers:read")).key
    flooding = asyncio.create_task(flood.run())
    await asyncio.sleep(SETTLED_SECONDS)
    statuses = [(await gateway.ask("GET", "/ledgers/y", key=other)).status for _ in range(5)]
    await flooding
    assert statuses == [200] * 5
