"""The stage of a scenario: gateways with their dependencies, and the load in front of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.core_stand_in import StandInCore
from tests.core_stand_in.creates import RecordsCreates
from tests.faults.balancer import Balancer
from tests.faults.gateways import Replica, launch, mint
from tests.faults.link import RedisLink
from tests.faults.load import Load
from tests.faults.requests import Key
from tests.redis_server import RedisServer, start_redis
from tests.running import MASTER_KEY

_KEYS = 6


@dataclass(frozen=True, slots=True)
class Pace:
    """Durations in seconds, and the requests in a second."""

    rate: float
    calm: float  # before the fault
    fault: float
    settled: float  # without a failure, after which the recovery is complete
    ignores: float  # how long the balancer ignores that a replica is not ready
    drain_delay: float


FULL = Pace(rate=200, calm=1.0, fault=1.5, settled=1.0, ignores=4.0, drain_delay=5.0)
SHORT = Pace(rate=100, calm=0.2, fault=0.8, settled=0.3, ignores=0.8, drain_delay=1.0)


@dataclass(frozen=True, slots=True)
class Cast:
    """The parts that a scenario needs besides a gateway and a Core."""

    redis: bool = False
    replicas: int = 1
    mints: bool = False
    settings: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """All running parts, on which a fault can act."""

    pace: Pace
    core: StandInCore
    creates: RecordsCreates
    replicas: tuple[Replica, ...]
    load: Load
    keys: tuple[Key, ...]
    server: RedisServer | None
    link: RedisLink | None

    @property
    def redis(self) -> RedisServer:
        assert self.server is not None
        return self.server

    @property
    def redis_link(self) -> RedisLink:
        assert self.link is not None
        return self.link


@asynccontextmanager
async def staged(cast: Cast, pace: Pace, folder: Path) -> AsyncIterator[Stage]:
    """Yield a stage whose load is not started yet. Raises StartError."""
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(StandInCore(MASTER_KEY, records=False))
        core.behaviour = core.probe_behaviour = creates = RecordsCreates()
        server, link = None, None
        settings = {
            "BLNK_GATEWAY_UPSTREAM__URL": core.url,
            "BLNK_GATEWAY_KEYS__STORE": "memory://",
            "BLNK_GATEWAY_DRAIN__DELAY": f"{pace.drain_delay * 1000:.0f}ms",
        } | dict(cast.settings or {})
        if cast.redis:
            server = start_redis(folder)
            stack.callback(server.kill)
            link = await stack.enter_async_context(RedisLink(server.port))
            settings["BLNK_GATEWAY_KEYS__STORE"] = f"redis://127.0.0.1:{link.port}/0"
        replicas = [launch(folder, f"gateway-{number}", settings) for number in range(cast.replicas)]
        for replica in replicas:
            stack.callback(replica.kill)
        for replica in replicas:
            await replica.started()
        keys = [await mint(replicas[0], f"key {number}") for number in range(_KEYS)]
        port = replicas[0].port
        if cast.replicas > 1:
            port = (await stack.enter_async_context(Balancer(replicas, pace.ignores))).port
        load = Load(port, keys, MASTER_KEY, rate=pace.rate, mints=cast.mints)
        stack.push_async_callback(load.stop)
        yield Stage(pace, core, creates, tuple(replicas), load, tuple(keys), server, link)


async def watched(stage: Stage, until: float) -> None:
    """Let the load run until nothing has failed for a while, at most until a moment of the loop's clock."""
    loop = asyncio.get_running_loop()
    calm_since = loop.time()
    while loop.time() < min(until, calm_since + stage.pace.settled):
        await asyncio.sleep(stage.pace.settled / 10)
        failed = [outcome.ended for outcome in stage.load.outcomes if not outcome.good]
        calm_since = max([calm_since, *failed])
