"""A gateway whose Redis stops and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.keys.authorities import IN_MEMORY
from gateway.keys.redis.store import RedisKeyStore
from tests.conftest import Start
from tests.raw_client import Response
from tests.redis_server import RedisServer, start_redis
from tests.running import MASTER_KEY, Minted, Running

pytestmark = pytest.mark.redis

PERSISTS = ("--appendonly", "yes", "--appendfsync", "always")
UNAVAILABLE = (503, "GATEWAY_KEY_STORE_UNAVAILABLE", "1")
RECOVERY_SECONDS = 2.0
BOUND = "every replica refuses a revoked key within 1 s"


class Outage:
    """A Redis that persists; a test stops it and starts it again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.server = self._start(0)

    def begin(self) -> None:
        self.server.kill()

    def end(self) -> None:
        self.server = self._start(self.server.port)

    def _start(self, port: int) -> RedisServer:
        return start_redis(self._folder, *PERSISTS, port=port)


@pytest.fixture
def outage(tmp_path: Path) -> Iterator[Outage]:
    outage = Outage(tmp_path)
    yield outage
    outage.server.kill()


def shown(response: Response) -> tuple[int, str | None, str | None]:
    return response.status, response.code, response.value("retry-after")


async def read(gateway: Running, key: str) -> Response:
    return await gateway.ask("GET", "/ledgers", key=key)


async def wait_for_status(gateway: Running, minted: Minted, status: int) -> float:
    """Ask until the response has this status; return how many seconds that took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(10):
        while (await read(gateway, minted.key)).status != status:
            await asyncio.sleep(0.01)
    return loop.time() - began


async def test_requests_get_503_until_redis_is_back(start_gateway: Start, outage: Outage) -> None:
    gateway = await start_gateway(store=RedisKeyStore(outage.server.url))
    minted = await gateway.mint("ledgers:read", "api-keys:*")
    assert (await read(gateway, minted.key)).status == 200
    outage.begin()
    await wait_for_status(gateway, minted, 503)
    asked = [
        ("GET", "/ledgers", b""),
        ("GET", "/api-keys", b""),
        ("DELETE", f"/api-keys/{minted.id}", b""),
    ]
    for method, target, body in asked:
        assert shown(await gateway.ask(method, target, key=minted.key, body=body or None)) == UNAVAILABLE
    assert shown(await read(gateway, "A" * 43 + "=")) == UNAVAILABLE
    outage.end()
    assert await wait_for_status(gateway, minted, 200) < RECOVERY_SECONDS
    assert (await read(gateway, "A" * 43 + "=")).status == 401


async def test_with_a_grace_only_known_keys_keep_working(start_gateway: Start, outage: Outage) -> None:
    gateway = await start_gateway(store=RedisKeyStore(outage.server.url), keys={"grace": 60.0})
    known, unknown, revoked = [await gateway.mint("ledgers:read") for _ in range(3)]
    for minted in (known, revoked):
        assert (await read(gateway, minted.key)).status == 200
    target = f"/api-keys/{revoked.id}?owner=acme"
    assert (await gateway.ask("DELETE", target, key=MASTER_KEY)).status == 204
    outage.begin()
    await wait_for_status(gateway, unknown, 503)
    assert (await read(gateway, known.key)).status == 200
    # Its last change was its revocation, so the grace does not cover it.
    assert (await read(gateway, revoked.key)).status in (401, 503)
    outage.end()
    assert await wait_for_status(gateway, unknown, 200) < RECOVERY_SECONDS
    assert (await read(gateway, revoked.key)).status == 401


@pytest.mark.parametrize(
    ("grace", "sentence"),
    [
        (0.0, BOUND),
        (60.0, "one that is cut off from the key store, within 61 s (keys.grace)"),
    ],
)
async def test_the_bound_is_logged_at_the_start(
    start_gateway: Start, outage: Outage, grace: float, sentence: str
) -> None:
    gateway = await start_gateway(store=RedisKeyStore(outage.server.url), keys={"grace": grace})
    await gateway.logged(sentence)


async def test_the_bound_is_not_logged_before_redis_has_responded(
    start_gateway: Start, outage: Outage
) -> None:
    outage.begin()
    gateway = await start_gateway(store=RedisKeyStore(outage.server.url))
    assert BOUND not in await gateway.logged("degraded")
    outage.end()
    assert (await gateway.logged(BOUND)).count(BOUND) == 1


async def test_the_log_says_that_no_other_replica_knows_keys_in_memory(start_gateway: Start) -> None:
    """With keys in memory, the log names no bound, because other replicas never see a revocation."""
    gateway = await start_gateway()
    assert BOUND not in await gateway.logged(IN_MEMORY)
