"""The failures during a revocation; the first replica, whose link stays good, gets the DELETE."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.crc import key_slot

from gateway.keys.redis.names import PREFIX
from tests.keys.flood import flood
from tests.keys.redis_setups import (
    SERVICE,
    Replicated,
    cluster,
    replica_of,
    replicated,
    sentinels,
    until,
)
from tests.redis_server import RedisServer, start_redis
from tests.revocation.link import Fault
from tests.revocation.stage import Round, Stage, over_link, played, staged

_HEALED = 0.5
_FLOOD = 100
"""Connections that send unknown keys to each gateway, one after the other."""
PERSISTS = ("--appendonly", "yes", "--appendfsync", "always")


@dataclass(slots=True)
class Single:
    """One Redis that persists, behind the links."""

    stage: Stage
    server: RedisServer
    folder: Path

    async def restart(self) -> None:
        """Kill Redis, and start it again with the data that it wrote."""
        self.server.kill()
        self.server = await asyncio.to_thread(start_redis, self.folder, *PERSISTS, port=self.server.port)

    def fail(self, *, stream: Fault = Fault.NONE, look_ups: Fault = Fault.NONE) -> None:
        for link in self.stage.links[1:]:
            link.fail(stream=stream, look_ups=look_ups)

    def heal(self) -> None:
        for link in self.stage.links:
            link.heal()


@asynccontextmanager
async def single(folder: Path) -> AsyncIterator[Single]:
    folder.mkdir(parents=True, exist_ok=True)
    server = start_redis(folder, *PERSISTS)
    try:
        async with staged(folder, over_link, server.port) as stage:
            playing = Single(stage, server, folder)
            try:
                yield playing
            finally:
                playing.server.kill()
    finally:
        server.kill()


Play = Callable[[Single], Awaitable[list[float]]]


async def calm(playing: Single) -> list[float]:
    """nothing"""
    async with played(playing.stage, "calm") as round_:
        await round_.revoke()
        return await round_.lags()


async def flooded(playing: Single) -> list[float]:
    """unknown keys flood every gateway (from when the DELETE was sent)"""
    async with AsyncExitStack() as floods, played(playing.stage, "flooded") as round_:
        for replica in playing.stage.replicas:
            await floods.enter_async_context(flood(replica.listen, _FLOOD))
        sent = time.monotonic()
        await round_.revoke()
        asked = round_.revoked_at - sent
        return [asked + lag for lag in await round_.lags()]


async def cut(playing: Single) -> list[float]:
    """the stream's link is cut"""
    return await _failing(playing, "cut", stream=Fault.CUT)


async def stalled(playing: Single) -> list[float]:
    """the stream's link drops every packet"""
    return await _failing(playing, "stalled", stream=Fault.STALL)


async def cut_off(playing: Single) -> list[float]:
    """both links are cut"""
    return await _failing(playing, "cutoff", stream=Fault.CUT, look_ups=Fault.CUT)


async def silent(playing: Single) -> list[float]:
    """both links drop every packet"""
    return await _failing(playing, "silent", stream=Fault.STALL, look_ups=Fault.STALL)


async def in_flight(playing: Single) -> list[float]:
    """a look-up was read before the revocation, and its reply came 0.6 to 1.05 s later; the stream is cut"""
    held = 0.6 + 0.05 * random.randrange(10)  # noqa: S311  # it does not matter which
    async with played(playing.stage, "inflight") as round_:
        playing.fail(stream=Fault.CUT)
        # By now the link is not proven any more, so every request is a look-up.
        await asyncio.sleep(0.8)
        playing.fail(stream=Fault.CUT, look_ups=Fault.HOLD)
        await asyncio.sleep(0.03)
        await round_.revoke()
        await asyncio.sleep(held)
        for link in playing.stage.links[1:]:
            link.heal()
        return (await round_.lags())[1:]


async def restart(playing: Single) -> list[float]:
    """Redis is killed right after the 204, and comes back"""
    async with played(playing.stage, "restart") as round_:
        await round_.revoke()
        await playing.restart()
        return await round_.lags()


SCENARIOS: tuple[Play, ...] = (calm, flooded, cut, stalled, cut_off, silent, in_flight, restart)


async def _failing(
    playing: Single, name: str, *, stream: Fault = Fault.NONE, look_ups: Fault = Fault.NONE
) -> list[float]:
    async with played(playing.stage, name) as round_:
        playing.fail(stream=stream, look_ups=look_ups)
        await round_.revoke()
        try:
            await round_.lags()
        finally:
            playing.heal()
        # If a key were accepted again after the link is good, it would be noticed now.
        await asyncio.sleep(_HEALED)
        return (await round_.lags())[1:]


@dataclass(frozen=True, slots=True)
class Replaceable:
    """A primary that can be replaced, and whether every client is now sent to another.

    `fail_over` replaces it although it works.
    """

    stage: Stage
    primary: RedisServer
    is_promoted: Callable[[], bool]
    fail_over: Callable[[], object]

    async def promoted(self) -> float:
        """Return about when the replica was promoted."""
        await asyncio.to_thread(until, self.is_promoted, "a promotion")
        return time.monotonic()


@asynccontextmanager
async def under_sentinels(folder: Path) -> AsyncIterator[Replaceable]:
    """Three Sentinels, which fail over to one of two Redis replicas half a second after a failure."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        replicated(folder) as pair,
        replica_of(folder / "second", pair.primary) as second,
        sentinels(folder, pair.primary.port, replicas=2) as watching,
    ):
        async with staged(folder, lambda _: watching.url, None) as stage:
            yield Replaceable(
                stage,
                pair.primary,
                lambda: any(watching.name(each.port) for each in (pair.replica, second)),
                lambda: watching.servers[0].command("SENTINEL", "FAILOVER", SERVICE),
            )


@asynccontextmanager
async def in_a_cluster(folder: Path) -> AsyncIterator[Replaceable]:
    """Three primaries, which fail over one second after a failure (`cluster-node-timeout`)."""
    folder.mkdir(parents=True, exist_ok=True)
    with cluster(folder, key_slot(PREFIX.encode()), others=2, node_timeout=1000) as nodes:
        async with staged(folder, lambda _: nodes.url, None) as stage:
            promoted = Replicated(nodes.ours, nodes.replica).promoted
            yield Replaceable(stage, nodes.ours, promoted, nodes.fail_over)


async def killed(playing: Replaceable) -> list[float]:
    """the primary is killed right after the 204"""
    async with played(playing.stage, "killed") as round_:
        await round_.revoke()
        playing.primary.kill()
        return await _lags(round_, since=await playing.promoted())


async def replaced(playing: Replaceable) -> list[float]:
    """the primary freezes, the key is revoked on its successor, and the old primary thaws"""
    async with played(playing.stage, "replaced") as round_:
        with playing.primary.stalled():
            promoted = await playing.promoted()
            await round_.revoke()
        return await _lags(round_, since=promoted)


async def planned(playing: Replaceable) -> list[float]:
    """the primary is replaced on purpose, and the key is revoked meanwhile"""
    async with played(playing.stage, "planned") as round_:
        failing_over = asyncio.ensure_future(asyncio.to_thread(playing.fail_over))
        await asyncio.sleep(0.3 * random.random())  # noqa: S311  # at any point of the failover
        await round_.revoke()
        await failing_over
        return await _lags(round_, since=await playing.promoted())


async def _lags(round_: Round, since: float) -> list[float]:
    return [*await round_.lags(since=since), await round_.lag_at_a_new_gateway()]


@dataclass(frozen=True, slots=True)
class Failover:
    """A failover that is played once, on a setup of its own that `open` makes in a folder."""

    where: str
    open: Callable[[Path], AbstractAsyncContextManager[Replaceable]]
    play: Callable[[Replaceable], Awaitable[list[float]]]

    def __str__(self) -> str:
        return f"{self.where}: {self.play.__doc__}"


FAILOVERS = tuple(
    Failover(where, opened, play)
    for where, opened in (("Sentinel", under_sentinels), ("Cluster", in_a_cluster))
    for play in (killed, replaced, planned)
)
