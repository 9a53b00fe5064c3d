"""When the store is asked for leases, and for which keys."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.errors import GatewayError
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.leases import Lease, LeaseBatch, LeaseRequest
from gateway.proxy.allowance import LAZY_SECONDS, Allowance
from gateway.proxy.leasing import PRESENCE_SECONDS, Leasing
from tests.running import eventually


class Store:
    """Gives every replica what it wants, out of buckets that never get empty."""

    def __init__(self) -> None:
        self.calls: list[list[LeaseRequest]] = []
        self.failing = False
        self.replicas = 1
        self.asked = asyncio.Event()

    async def lease(self, replica: str, requests: Sequence[LeaseRequest]) -> LeaseBatch:
        self.calls.append(list(requests))
        self.asked.set()
        if self.failing:
            raise StoreUnavailableError
        return LeaseBatch(1.0, self.replicas, tuple(Lease(each.wanted, 50.0, 1.0, 0) for each in requests))


class Scene:
    """A replica whose time is set by the test."""

    def __init__(self) -> None:
        self.now = 100.0
        self.store = Store()
        self.outcomes: list[GatewayError | None] = []
        self.leasing = Leasing(self.store, "a", lambda: self.now, self.outcomes.append)

    def use(self, key_id: str, count: int = 1) -> Allowance:
        allowance = Allowance(100, 100, self.leasing.even, self.now)
        for _ in range(count):
            allowance.take(self.now)
        self.leasing.note(key_id, allowance, self.now)
        return allowance

    async def lease(self, after: float = 0.0) -> list[list[str]]:
        """Let what is due be asked for after so many seconds; return the keys of each call."""
        self.now += after
        self.store.calls.clear()
        await self.leasing.lease_due()
        return [[request.key_id for request in call] for call in self.store.calls]


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_keys_are_asked_for_together(scene: Scene) -> None:
    """Two keys that were used take one call, and nothing is asked once they are settled."""
    scene.use("one")
    scene.use("two")
    assert await scene.lease() == [["one", "two"]]
    assert await scene.lease(after=0.1) == []


async def test_a_call_has_a_bounded_number_of_keys(scene: Scene) -> None:
    """300 keys take three calls, so that none holds Redis for long."""
    for number in range(300):
        scene.use(str(number))
    assert [len(keys) for keys in await scene.lease()] == [128, 128, 44]


async def test_requests_cause_no_further_calls(scene: Scene) -> None:
    """A key with ten thousand requests between two calls takes part in one call."""
    scene.use("busy", 10_000)
    assert await scene.lease() == [["busy"]]


async def test_what_is_used_a_little_is_reported_within_a_second(scene: Scene) -> None:
    """A request that uses a small part of the tokens is reported after a second, not at once."""
    allowance = scene.use("calm")
    await scene.lease()
    allowance.take(scene.now)
    scene.leasing.note("calm", allowance, scene.now)
    assert await scene.lease(after=LAZY_SECONDS / 2) == []
    assert await scene.lease(after=LAZY_SECONDS / 2) == [["calm"]]


async def test_a_replica_is_present_while_its_keys_are_idle(scene: Scene) -> None:
    """Once keys have limits, a replica without requests calls every 2 s, for no key."""
    scene.store.replicas = 4
    assert await scene.lease(after=PRESENCE_SECONDS) == [[]]
    assert await scene.lease(after=PRESENCE_SECONDS / 2) == []
    assert scene.leasing.even == 0.25


async def test_without_limits_nothing_is_asked(scene: Scene) -> None:
    """Before there is a key with a limit, the store is not asked."""
    running = asyncio.create_task(scene.leasing.run())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await scene.store.asked.wait()
    scene.leasing.expect()
    async with asyncio.timeout(5):
        await scene.store.asked.wait()
    running.cancel()


async def test_a_failure_and_its_end_are_told_once(scene: Scene) -> None:
    """Of several calls that fail, the first is told, and then the first that succeeds."""
    scene.store.failing = True
    scene.use("key")
    for _ in range(3):
        await scene.lease(after=1)
    scene.store.failing = False
    await scene.lease(after=1)
    assert [type(outcome) for outcome in scene.outcomes] == [StoreUnavailableError, type(None)]
    assert dict(scene.leasing.results) == {"granted": 1, "empty": 0, "failed": 3}


async def test_after_a_failure_the_store_is_tried_without_any_request(scene: Scene) -> None:
    """A replica whose call failed tries again by itself."""
    scene.store.failing = True
    scene.leasing.expect()
    running = asyncio.create_task(scene.leasing.run())
    scene.now += PRESENCE_SECONDS
    await eventually(lambda: scene.leasing.failing, "a failed call")
    scene.store.failing = False
    scene.now += PRESENCE_SECONDS
    await eventually(lambda: not scene.leasing.failing, "another call")
    running.cancel()
