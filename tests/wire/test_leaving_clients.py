"""A client that leaves: nothing is sent for it any more, a read of it is cut, a change of it runs on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.errors import Code
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.record import KeyRecord
from gateway.wire.client_presence import HALF_CLOSED_SECONDS
from gateway.wire.deadline_timer import TICK
from tests.conftest import Start
from tests.core_stand_in import StandInCore, held, raw
from tests.raw_client import RawClient, request
from tests.running import Running, eventually
from tests.wire.asserting import READ, STAMPED, STREAMED, assert_error

BODY = b'{"name":"x"}'
SLOW = "/ledgers?slow"


def logged(gateway: Running, route: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in gateway.log.getvalue().splitlines()]
    return [line for line in lines if line.get("route") == route]


def waiting(gateway: Running) -> int:
    page = gateway.gateway.metrics.exposition("")[0].decode()
    (line,) = [line for line in page.splitlines() if 'upstream_connections{state="waiting"}' in line]
    return int(float(line.split()[1]))


class OnePlace:
    """A gateway with one place at Core, which a request holds until `release`."""

    def __init__(self, gateway: Running, upstream: StandInCore, key: str) -> None:
        self.gateway, self.upstream, self.key = gateway, upstream, key
        self.release = asyncio.Event()

    async def occupy(self) -> asyncio.Task[Any]:
        self.upstream.script(held(self.release))
        busy = asyncio.create_task(self.gateway.ask("GET", SLOW, key=self.key))
        await self.upstream.arrived()
        return busy

    async def queue(self, data: bytes) -> RawClient:
        client = await self.gateway.connect()
        await client.send(data)
        await eventually(lambda: waiting(self.gateway) == 1, "one that waits")
        return client


@pytest.fixture
async def one_place(start_gateway: Start, upstream: StandInCore) -> OnePlace:
    gateway = await start_gateway(upstream={"connections": 1})
    return OnePlace(gateway, upstream, (await gateway.mint("ledgers:*")).key)


@pytest.mark.parametrize("target", [STAMPED, STREAMED])
async def test_what_waits_for_a_connection_is_not_sent(one_place: OnePlace, target: str) -> None:
    """Its client has reset its connection, and may have asked somewhere else since."""
    busy = await one_place.occupy()
    client = await one_place.queue(request("POST", target, key=one_place.key, body=BODY))
    client.abort()
    await eventually(lambda: waiting(one_place.gateway) == 0, "an empty queue")
    one_place.release.set()
    assert (await busy).status == 200
    assert (await one_place.gateway.ask("GET", READ, key=one_place.key)).status == 200
    assert one_place.upstream.targets == [SLOW, READ]


async def test_what_waits_for_a_client_that_only_ended_its_side_is_refused(one_place: OnePlace) -> None:
    """Most such clients have left; one that has not is told that nothing was done."""
    busy = await one_place.occupy()
    client = await one_place.queue(request("POST", STAMPED, key=one_place.key, body=BODY))
    await client.half_close()
    assert_error(await client.response(), Code.UNAVAILABLE)
    one_place.release.set()
    await busy
    assert one_place.upstream.targets == [SLOW]


async def leave(client: RawClient, how: str) -> None:
    """Leave in a way that the gateway can be sure of, or in the usual one, some time ago."""
    if how == "reset":
        client.abort()
        await asyncio.sleep(0.1)
    else:
        await client.close()
        await asyncio.sleep(HALF_CLOSED_SECONDS + 2 * TICK)


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_what_waits_for_a_slow_key_store_is_not_sent(
    start_gateway: Start, upstream: StandInCore, how: str
) -> None:
    """Whose key it was is known when nobody waits any more."""

    class Slow(MemoryKeyStore):
        asked = asyncio.Event()
        response = asyncio.Event()

        async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
            self.asked.set()
            await self.response.wait()
            return await super().get_by_digest(digest, client)

    store = Slow()
    gateway = await start_gateway(store=store)
    key = (await gateway.mint("ledgers:*")).key
    client = await gateway.connect()
    await client.send(request("POST", STAMPED, key=key, body=BODY))
    await store.asked.wait()
    await leave(client, how)
    store.response.set()
    assert (await gateway.ask("GET", READ, key=key)).status == 200
    assert upstream.targets == [READ]


async def test_a_read_is_cut_at_once(one_place: OnePlace) -> None:
    """Its connection to Core is free for the next, and Core need not work on."""
    one_place.upstream.script(held(one_place.release))
    client = await one_place.gateway.connect()
    await client.send(request("GET", SLOW, key=one_place.key))
    await one_place.upstream.arrived()
    client.abort()
    assert (await one_place.gateway.ask("GET", READ, key=one_place.key)).status == 200
    await one_place.gateway.logged('"status":0')


async def test_a_client_that_leaves_in_the_middle_of_its_response_is_logged_as_gone(
    one_place: OnePlace,
) -> None:
    """The status of the log is 0, although the client has received the head with a 200."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    one_place.upstream.script(raw(head + b"x" * 100, *[b"x" * 1000] * 500, pause=0.01))
    client = await one_place.gateway.connect()
    await client.send(request("GET", READ, key=one_place.key))
    assert (await client.read_head())[0] == 200
    client.abort()
    await one_place.gateway.logged('"status":0')


async def test_a_read_whose_client_ended_its_side_gives_way_to_the_next(one_place: OnePlace) -> None:
    """It is most likely abandoned, and somebody waits."""
    one_place.upstream.script(held(one_place.release))
    client = await one_place.gateway.connect()
    await client.send(request("GET", SLOW, key=one_place.key))
    await one_place.upstream.arrived()
    await client.half_close()
    began = asyncio.get_running_loop().time()
    assert (await one_place.gateway.ask("GET", READ, key=one_place.key)).status == 200
    assert asyncio.get_running_loop().time() - began < 0.5


async def test_a_read_whose_client_ended_its_side_is_cut_after_a_moment(
    gateway: Running, upstream: StandInCore
) -> None:
    """Core cannot tell by itself that nobody waits."""
    key = (await gateway.mint("ledgers:*")).key
    release = asyncio.Event()
    upstream.script(held(release))
    client = await gateway.connect()
    await client.send(request("GET", SLOW, key=key))
    await upstream.arrived()
    await client.half_close()
    assert await client.rest() == b""
    await gateway.logged('"status":0')


async def test_a_quick_read_is_answered_though_its_client_has_ended_its_side(
    gateway: Running, upstream: StandInCore
) -> None:
    """Some clients say so that they send nothing more."""
    key = (await gateway.mint("ledgers:*")).key
    client = await gateway.connect()
    await client.send(request("GET", READ, key=key))
    await client.half_close()
    assert (await client.response()).status == 200


async def test_a_change_that_was_sent_runs_to_its_end(one_place: OnePlace) -> None:
    """It may be done by now, and its status is in the log."""
    one_place.upstream.script(held(one_place.release))
    client = await one_place.gateway.connect()
    await client.send(request("POST", STAMPED, key=one_place.key, body=BODY))
    await one_place.upstream.arrived()
    client.abort()
    await asyncio.sleep(0.05)
    one_place.release.set()
    assert (await one_place.gateway.ask("GET", READ, key=one_place.key)).status == 200
    await one_place.gateway.logged('"route":"POST /ledgers"')
    (line,) = logged(one_place.gateway, "POST /ledgers")
    assert (line["status"], line["answered_by"]) == (200, "core")


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_key_is_not_made_for_a_client_that_has_left(start_gateway: Start, how: str) -> None:
    """Nobody would ever see it."""

    class Slow(MemoryKeyStore):
        asked = asyncio.Event()
        response = asyncio.Event()
        slow = False

        async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
            if self.slow:
                self.asked.set()
                await self.response.wait()
            return await super().get_by_digest(digest, client)

    store = Slow()
    gateway = await start_gateway(store=store)
    key = await gateway.mint("*:*")
    store.slow = True
    wanted = json.dumps(
        {"name": "n", "owner": key.owner, "scopes": [], "expires_at": "2999-01-01T00:00:00Z"}
    ).encode()
    client = await gateway.connect()
    await client.send(request("POST", "/api-keys", key=key.key, body=wanted))
    await store.asked.wait()
    await leave(client, how)
    store.response.set()
    await gateway.logged('"route":"POST /api-keys"')
    assert len(await store.owned(key.owner)) == 1
