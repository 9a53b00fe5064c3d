"""The faults, each done to one dependency of a gateway, or to a gateway among three.

Rules kept here:
- A scenario says what requests that fail may get, and one must be seen to: a fault that
  nobody felt proves nothing.
- A fault is over when its block ends; what comes of a request later counts against recovery.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from redis.asyncio import Redis

from gateway.keys.cache import LINK_PROOF_SECONDS
from gateway.keys.redis.lookups import COMMAND_SECONDS
from tests.core_stand_in import Behaviour, abort, cut_after, delayed, held, in_halves, raw
from tests.core_stand_in.creates import Fault
from tests.faults.judging import Run
from tests.faults.requests import Kind
from tests.faults.stage import Cast, Pace, Stage, staged, watched

RECOVERY_SECONDS = 2.0
_GARBAGE = b"\x16\x03\x01\x00\xa5\x01\x00 \xff\xfe 201 Created\r\n\r\n{}"
_LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"
_UNREACHABLE = ("502 GATEWAY_UPSTREAM_UNREACHABLE",)
_TIMED_OUT = ("504 GATEWAY_UPSTREAM_TIMEOUT",)
_OVERLOADED = ("503 GATEWAY_UNAVAILABLE",)
_NO_STORE = ("503 GATEWAY_KEY_STORE_UNAVAILABLE",)
# How long the cache speaks for a store that is gone, and how long a look-up waits for its answer.
_UNFELT = LINK_PROOF_SECONDS
_UNFELT_STALL = LINK_PROOF_SECONDS + COMMAND_SECONDS
# More than the connections to Redis: one that died unseen is found.
_BURST = 40
_HELD_SECONDS = 0.5
_UNDER_WAY_SECONDS = 0.2
_SLOW_SECONDS = 0.15

Blow = Callable[[Stage], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fault of `dependency`; `failures` is what requests that fail may get: nothing, if none may fail."""

    dependency: str
    fault: str
    blow: Blow
    failures: tuple[str, ...]
    cast: Cast = field(default_factory=Cast)
    unfelt: float = 0.0  # seconds that nobody feels it
    burst: int = 0  # look-ups at once, before the fault and once it must be over

    @property
    def name(self) -> str:
        return f"{self.dependency}: {self.fault}"

    def seconds(self, pace: Pace) -> float:
        """How long the fault lasts."""
        return self.unfelt + pace.fault


def _core(fault: Fault) -> Blow:
    @asynccontextmanager
    async def blow(stage: Stage) -> AsyncIterator[None]:
        with stage.creates.failing(fault):
            yield

    return blow


def _core_refuses(stage: Stage) -> AbstractAsyncContextManager[None]:
    return stage.core.refusing()


@asynccontextmanager
async def _core_resets(stage: Stage) -> AsyncIterator[None]:
    with stage.core.resetting():
        yield


@asynccontextmanager
async def _core_is_silent(stage: Stage) -> AsyncIterator[None]:
    """Nobody gets a response; behind the fault each request that still waits gets its own."""
    over = asyncio.Event()
    try:
        with stage.creates.failing(partial(held, over)):
            yield
    finally:
        over.set()


@asynccontextmanager
async def _cut(stage: Stage) -> AsyncIterator[None]:
    await stage.redis_link.cut()
    yield
    await stage.redis_link.open()


@asynccontextmanager
async def _stalled(stage: Stage) -> AsyncIterator[None]:
    with stage.redis.stalled():
        yield


@asynccontextmanager
async def _half_open(stage: Stage) -> AsyncIterator[None]:
    with stage.redis_link.lossy():
        yield


def _responding(reply: bytes) -> Blow:
    @asynccontextmanager
    async def blow(stage: Stage) -> AsyncIterator[None]:
        with stage.redis_link.responding(reply):
            yield

    return blow


@asynccontextmanager
async def _read_only(stage: Stage) -> AsyncIterator[None]:
    # A replica of nobody: it answers reads with what it has, as one that was cut off by a failover.
    assert stage.redis.command("REPLICAOF", "127.0.0.1", "1") == b"+OK\r\n"
    yield
    assert stage.redis.command("REPLICAOF", "NO", "ONE") == b"+OK\r\n"


@asynccontextmanager
async def _password_changed(stage: Stage) -> AsyncIterator[None]:
    async with Redis(port=stage.redis.port, single_connection_client=True) as control:
        await control.config_set("requirepass", "another")
        await control.client_kill_filter(_type="normal", skipme=True)
        yield
        await control.config_set("requirepass", "")


@asynccontextmanager
async def _terminated(stage: Stage) -> AsyncIterator[None]:
    """SIGTERM to the first, with requests in flight that end only after it has closed its listener."""
    await _hold(stage, stage.pace.drain_delay + _HELD_SECONDS)
    stage.replicas[0].signal(signal.SIGTERM)
    yield
    await stage.replicas[0].ended()


async def _hold(stage: Stage, seconds: float) -> None:
    """Requests that are in flight at the first gateway from now on, for so long."""
    for kind in (Kind.READ, Kind.CREATE, Kind.SPLIT, Kind.STREAM):
        stage.load.also(kind, seconds, stage.replicas[0].port)
    await asyncio.sleep(_UNDER_WAY_SECONDS)


@asynccontextmanager
async def _killed(stage: Stage) -> AsyncIterator[None]:
    await _hold(stage, stage.pace.fault)
    stage.replicas[0].signal(signal.SIGKILL)
    await stage.replicas[0].ended()
    yield


_REDIS = Cast(redis=True, mints=True)
# Few look-ups at once, so that connections which a burst opened lie idle through the fault.
_QUIET_REDIS = Cast(redis=True)
_THREE = Cast(redis=True, replicas=3)
# Here alone: on a busy machine the stand-in of Core may be slow, too.
_HURRIED = Cast(settings={"BLNK_GATEWAY_TIMEOUTS__FIRST_BYTE": "400ms"})
_NARROW = Cast(settings={"BLNK_GATEWAY_UPSTREAM__CONNECTIONS": "4", "BLNK_GATEWAY_UPSTREAM__QUEUE": "8"})

_HALF_A_HEAD = len("HTTP/1.1 201 Crea")
_ALL_BUT_THE_END = -8


def _slow(response: Behaviour) -> Behaviour:
    return delayed(_SLOW_SECONDS, in_halves(_SLOW_SECONDS, response))


SCENARIOS = (
    Scenario("Core", "refused", _core_refuses, _UNREACHABLE),
    Scenario("Core", "reset once connected", _core_resets, _UNREACHABLE),
    Scenario("Core", "reset without a byte", _core(lambda _: abort), _UNREACHABLE),
    Scenario("Core", "reset mid-head", _core(partial(cut_after, _HALF_A_HEAD)), _UNREACHABLE),
    Scenario("Core", "reset mid-body", _core(partial(cut_after, _ALL_BUT_THE_END)), ("cut",)),
    Scenario("Core", "garbage", _core(lambda _: raw(_GARBAGE, reset=True)), _UNREACHABLE),
    Scenario("Core", "silent, then late", _core_is_silent, _TIMED_OUT, _HURRIED),
    Scenario("Core", "slow", _core(_slow), ()),
    Scenario("Core", "slow, and too few connections", _core(_slow), _OVERLOADED, _NARROW),
    Scenario("Redis", "refused", _cut, _NO_STORE, _REDIS, _UNFELT),
    Scenario("Redis", "timed out", _stalled, _NO_STORE, _REDIS, _UNFELT_STALL),
    Scenario("Redis", "half-open", _half_open, _NO_STORE, _QUIET_REDIS, _UNFELT_STALL, burst=_BURST),
    Scenario("Redis", "`LOADING`", _responding(_LOADING), _NO_STORE, _REDIS, _UNFELT),
    Scenario("Redis", "garbage", _responding(b"\x00\xff garbage\r\n"), _NO_STORE, _REDIS, _UNFELT),
    Scenario("Redis", "`READONLY`", _read_only, _NO_STORE, _REDIS, _UNFELT),
    Scenario("Redis", "auth failure", _password_changed, _NO_STORE, _REDIS, _UNFELT),
    Scenario("gateway", "SIGTERM, one of three", _terminated, (), _THREE),
    Scenario("gateway", "SIGKILL, one of three", _killed, ("cut", "lost"), _THREE),
)


async def play(scenario: Scenario, pace: Pace, folder: Path) -> Run:
    """Plays a scenario from its calm to its end, and keeps what there is to judge. Raises StartError."""
    loop = asyncio.get_running_loop()
    async with staged(scenario.cast, pace, folder) as stage:
        stage.load.start()
        stage.load.burst(scenario.burst)
        await asyncio.sleep(pace.calm)
        began = loop.time()
        async with scenario.blow(stage):
            await asyncio.sleep(scenario.seconds(pace))
        over = loop.time()
        await watched(stage, over + 2 * RECOVERY_SECONDS)
        if scenario.burst:
            await asyncio.sleep(over + RECOVERY_SECONDS - loop.time())
            stage.load.burst(scenario.burst)
        await stage.load.stop()
        return await Run.of(stage, began, over)
