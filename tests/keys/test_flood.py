"""A gateway flooded with unknown keys still serves known keys and revocations in time."""

from __future__ import annotations

import time

import pytest

from gateway.keys.redis.store import RedisKeyStore
from tests import redis_acl
from tests.conftest import Start
from tests.keys.flood import flood
from tests.keys.slow_link import slow_link
from tests.raw_client import Response
from tests.redis_server import RedisServer
from tests.running import MASTER_KEY, Running

pytestmark = pytest.mark.redis


async def timed(gateway: Running, method: str, target: str, key: str) -> tuple[Response, float]:
    """Return the response, and how many seconds it took."""
    began = time.monotonic()
    response = await gateway.ask(method, target, key=key)
    return response, time.monotonic() - began


async def test_a_key_is_revoked_within_a_second_during_a_flood(start_gateway: Start, redis_url: str) -> None:
    one = await start_gateway(store=RedisKeyStore(redis_url))
    two = await start_gateway(store=RedisKeyStore(redis_url))
    stolen = await one.mint("ledgers:read")
    for gateway in (one, two):
        assert (await gateway.ask("GET", "/ledgers", key=stolen.key)).status == 200
    async with flood(one.gateway.address, 100) as statuses, flood(two.gateway.address, 100):
        response, took = await timed(one, "DELETE", f"/api-keys/{stolen.id}?owner=acme", MASTER_KEY)
        refused = time.monotonic()
        while (await two.ask("GET", "/ledgers", key=stolen.key)).status != 401:
            assert time.monotonic() - refused < 1
    assert response.status == 204
    assert took < 1
    assert set(statuses) == {401}


async def test_a_first_use_takes_less_than_a_second_during_a_flood(
    start_gateway: Start, redis_server: RedisServer, redis_url: str
) -> None:
    """This holds even if Redis is so far away that it cannot look up the whole flood in time."""
    async with slow_link(redis_server.port, 0.15) as port:
        gateway = await start_gateway(store=RedisKeyStore(redis_acl.url(f"127.0.0.1:{port}")))
        minted = await gateway.mint("ledgers:read")
        async with flood(gateway.gateway.address, 500) as statuses:
            response, took = await timed(gateway, "GET", "/ledgers", minted.key)
            await gateway.logged('"status":503')
            log, (metrics, _) = gateway.log.getvalue(), gateway.gateway.metrics.exposition("")
        await gateway.close()
    assert response.status == 200
    assert took < 1
    assert set(statuses) == {401, 503}
    # The store works: a flood of look-ups is not a failure of it.
    assert "degraded" not in log
    assert b'key_cache_total{result="refused"} 0.0' not in metrics
