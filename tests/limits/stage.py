"""Three gateways as processes of their own that share one limit through one real Redis, and a load on them.

Rules kept here:
- A request is sent at its time, whatever the outcome of earlier ones.
- Redis keeps its keys when it restarts, but not the buckets of the limits: its snapshot was made before.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.core_stand_in import StandInCore
from tests.faults.gateways import Replica, mint, serve
from tests.faults.requests import Key
from tests.raw_client import RawClient
from tests.redis_server import RedisServer, start_redis
from tests.running import MASTER_KEY

REPLICAS = 3


@dataclass(slots=True)
class Stage:
    """All running parts; every replica knows `key`."""

    folder: Path
    redis: RedisServer
    replicas: tuple[Replica, ...]
    key: Key

    async def restart_redis(self, pause: float) -> None:
        """Kill Redis, and start it again after a pause, in seconds."""
        await asyncio.to_thread(self.redis.kill)
        await asyncio.sleep(pause)
        self.redis = await asyncio.to_thread(start_redis, self.folder, port=self.redis.port)


@asynccontextmanager
async def staged(folder: Path, settings: Mapping[str, str]) -> AsyncIterator[Stage]:
    """Yield ready gateways; `settings` are further `BLNK_GATEWAY_*`."""
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(StandInCore(MASTER_KEY, records=False))
        redis = await asyncio.to_thread(start_redis, folder)
        stack.callback(lambda: stage.redis.kill())
        environment = {
            "BLNK_GATEWAY_UPSTREAM__URL": core.url,
            "BLNK_GATEWAY_KEYS__STORE": redis.url,
            "BLNK_GATEWAY_KEYS__GRACE": "30s",
            "BLNK_GATEWAY_DRAIN__DELAY": "0s",
        } | {f"BLNK_GATEWAY_{name}": value for name, value in settings.items()}
        stage = Stage(folder, redis, (), Key("", ""))
        replicas = [serve(folder, f"gateway-{number}", environment) for number in range(REPLICAS)]
        for replica in replicas:
            stack.callback(replica.kill)
        for replica in replicas:
            await replica.started()
        stage.replicas = tuple(replicas)
        stage.key = await mint(replicas[0], "limited")
        redis.command("SAVE")
        yield stage


@dataclass(slots=True)
class Passed:
    """The time of each request that was let through, and how many had each status."""

    times: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def between(self, begin: float, end: float) -> float:
        """Return how many were let through in a second between two times."""
        return sum(begin <= at < end for at in self.times) / (end - begin)


class Load:
    """Sends reads with one key to each replica, at a rate of its own, for so many seconds."""

    def __init__(self, stage: Stage, rates: Sequence[float], seconds: float) -> None:
        self.passed = Passed()
        self._stage = stage
        self._rates = rates
        self._seconds = seconds

    async def run(self) -> float:
        """Send everything; return when it began (monotonic seconds)."""
        began = time.monotonic() + 0.05
        async with asyncio.TaskGroup() as all_replicas:
            for replica, rate in zip(self._stage.replicas, self._rates, strict=True):
                if rate:
                    all_replicas.create_task(self._pace(replica, rate, began))
        return began

    async def _pace(self, replica: Replica, rate: float, began: float) -> None:
        idle: deque[RawClient] = deque()
        async with asyncio.TaskGroup() as requests:
            for number in range(int(rate * self._seconds)):
                await asyncio.sleep(began + number / rate - time.monotonic())
                client = idle.popleft() if idle else await RawClient.connect(replica.listen, keep=False)
                requests.create_task(self._ask(client, idle))
        for client in idle:
            await client.close()

    async def _ask(self, client: RawClient, idle: deque[RawClient]) -> None:
        response = await client.ask("GET", "/transactions/txn_1", key=self._stage.key.key)
        self.passed.statuses[response.status] += 1
        if response.status == 200:
            self.passed.times.append(time.monotonic())
        idle.append(client)


async def measured(
    stage: Stage, rates: Sequence[float], seconds: float, fault: Callable[[], object] | None = None
) -> tuple[Passed, float]:
    """Send a load, with a fault in its middle if there is one; return what passed, and when it began."""
    load = Load(stage, rates, seconds)
    running = asyncio.create_task(load.run())
    if fault is not None:
        await asyncio.sleep(seconds / 2)
        done = fault()
        if asyncio.iscoroutine(done):
            await done
    return load.passed, await running
