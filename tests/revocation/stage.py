"""Three gateways, each with a link of its own to Redis, and how long a revoked key lives in each.

Rules kept here:
- A key lives as long as requests with it reach Core: the lag of a replica is the time from the 204 to the
  last arrival by way of that replica, 0 if there is none after it.
- Requests with the key are sent all the time, over several connections to each replica, and some of them take
  longer than the bound to arrive completely.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests import redis_acl
from tests.core_stand_in import StandInCore
from tests.core_stand_in.arrivals import NotesArrivals
from tests.faults.gateways import Replica, launch, mint
from tests.faults.requests import OWNER, Key
from tests.raw_client import BrokenResponse, RawClient, request
from tests.revocation.link import Link
from tests.running import MASTER_KEY

REPLICAS = 3
BOUND = 1.0
WATCHED = BOUND + 0.2
"""Seconds after the revocation in which requests go on, so that a key that lives too long is noticed."""

_CLIENTS = 3
_SLOW_SENDERS = 6
_SLOW_SECONDS = BOUND + 0.15
_PAUSE = 0.008
_PATIENCE = 15.0


@dataclass(slots=True)
class Stage:
    """All running parts; `another` starts one more gateway, which uses the store's own address."""

    arrivals: NotesArrivals
    replicas: tuple[Replica, ...]
    links: tuple[Link, ...]
    another: Callable[[], Awaitable[Replica]]
    rounds: Iterator[int] = field(default_factory=itertools.count)


@asynccontextmanager
async def staged(
    folder: Path, stores: Callable[[Link | None], str], port: int | None
) -> AsyncIterator[Stage]:
    """Yield ready gateways; `stores` gives the store's URL over the link to `port`, or over None."""
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(StandInCore(MASTER_KEY, records=False))
        core.behaviour = arrivals = NotesArrivals()
        links = [await stack.enter_async_context(Link(port)) for _ in range(REPLICAS)] if port else []
        names = (f"gateway-{number}" for number in itertools.count())

        def begin(link: Link | None) -> Replica:
            settings = {
                "BLNK_GATEWAY_UPSTREAM__URL": core.url,
                "BLNK_GATEWAY_KEYS__STORE": stores(link),
                "BLNK_GATEWAY_DRAIN__DELAY": "0s",
            }
            replica = launch(folder, next(names), settings)
            stack.callback(replica.kill)
            return replica

        async def another() -> Replica:
            replica = begin(None)
            await replica.started()
            return replica

        replicas = [begin(links[number] if links else None) for number in range(REPLICAS)]
        for replica in replicas:
            await replica.started()
        yield Stage(arrivals, tuple(replicas), tuple(links), another)


def over_link(link: Link | None) -> str:
    """Return the URL of the Redis behind a link."""
    assert link is not None
    return redis_acl.url(f"127.0.0.1:{link.port}")


class Round:
    """One key, from its first request to its end."""

    def __init__(self, stage: Stage, name: str, key: str, key_id: str) -> None:
        self.stage = stage
        self.revoked_at = 0.0
        self._name = name
        self._key = key
        self._key_id = key_id

    async def revoke(self, replica: int = 0) -> None:
        """Send the DELETE until it is acknowledged, to the replica whose link to the store is good."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                async with await RawClient.connect(self.stage.replicas[replica].listen) as client:
                    target = f"/api-keys/{self._key_id}?owner={OWNER}"
                    response = await client.ask("DELETE", target, key=MASTER_KEY)
                if response.status == 204:
                    break
                await asyncio.sleep(0.02)
        self.revoked_at = time.monotonic()

    async def lags(self, since: float = 0.0) -> list[float]:
        """Return for each replica how many seconds the key lived after its revocation, or after `since`."""
        start = max(self.revoked_at, since)
        await asyncio.sleep(max(0.0, start + WATCHED - time.monotonic()))
        arrived = self.stage.arrivals.arrived
        return [max(0.0, arrived[self._mark(number)] - start) for number in range(REPLICAS)]

    async def warm(self) -> None:
        """Wait until every replica follows the stream, and has let the key through since."""
        async with asyncio.timeout(_PATIENCE):
            while not all(link.flowing for link in self.stage.links):
                await asyncio.sleep(0.005)
            arrived = self.stage.arrivals.arrived
            arrived.clear()
            while any(self._mark(number) not in arrived for number in range(REPLICAS)):
                await asyncio.sleep(0.005)

    async def lag_at_a_new_gateway(self) -> float:
        """Return 0 if a gateway that starts now refuses the key, else infinity.

        Right after a failover it may not reach the store yet; such a 503 does not count.
        """
        replica = await self.stage.another()
        async with asyncio.timeout(_PATIENCE):
            while True:
                async with await RawClient.connect(replica.listen, keep=False) as client:
                    response = await client.ask("GET", self._read(REPLICAS), key=self._key)
                if response.status != 503:
                    return 0.0 if response.status == 401 else float("inf")
                await asyncio.sleep(0.02)

    async def send_slowly(self, number: int, pause: float) -> None:
        """Send creates to one replica for ever, whose bodies take longer than the bound to arrive."""
        address, body = self.stage.replicas[number].listen, b'{"amount": 1}'
        whole = request("POST", f"/transactions?mark={self._mark(number)}", key=self._key, body=body)
        await asyncio.sleep(pause)
        while True:
            with contextlib.suppress(BrokenResponse, OSError):
                async with await RawClient.connect(address, keep=False) as client:
                    await client.send(whole[:-5])
                    await asyncio.sleep(_SLOW_SECONDS)
                    await client.call(whole[-5:])

    async def ask(self, number: int) -> None:
        """Send requests to one replica for ever."""
        target, address = self._read(number), self.stage.replicas[number].listen
        while True:
            with contextlib.suppress(BrokenResponse, OSError):
                async with await RawClient.connect(address, keep=False) as client:
                    while True:
                        await client.ask("GET", target, key=self._key)
                        await asyncio.sleep(_PAUSE)

    def _mark(self, number: int) -> str:
        """Return the mark of the requests to this replica."""
        return f"{self._name}-{number}"

    def _read(self, number: int) -> str:
        """Return the target of a marked read."""
        return f"/transactions/{self._name}?mark={self._mark(number)}"


@asynccontextmanager
async def played(stage: Stage, name: str) -> AsyncIterator[Round]:
    """Yield a round with a new key that every replica knows and accepts."""
    name = f"{name}{next(stage.rounds)}"
    async with asyncio.timeout(_PATIENCE):
        key = await _minted(stage, name)
    round_ = Round(stage, name, key.key, key.id)
    asking = [asyncio.create_task(round_.ask(number)) for number in range(REPLICAS) for _ in range(_CLIENTS)]
    pauses = [_SLOW_SECONDS * part / _SLOW_SENDERS for part in range(_SLOW_SENDERS)]
    asking += [asyncio.create_task(round_.send_slowly(n, pause)) for n in range(REPLICAS) for pause in pauses]
    try:
        await round_.warm()
        yield round_
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def _minted(stage: Stage, name: str) -> Key:
    while True:
        try:
            return await mint(stage.replicas[0], name)
        except KeyError:
            # The store was not back yet.
            await asyncio.sleep(0.02)
