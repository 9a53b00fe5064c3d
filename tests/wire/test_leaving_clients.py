"""A client that leaves: nothing more is sent to Core for it, its read is cut, its change runs on."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import pytest

from gateway.config.sections.tls import TlsConfig
from gateway.errors import Code
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.record import KeyRecord
from gateway.policy.terms import KeyTerms
from gateway.wire.client_deadlines import LOOK_SECONDS
from gateway.wire.client_presence import HALF_CLOSED_SECONDS
from gateway.wire.deadline_timer import TICK
from gateway.wire.request_body import UNASKED_BODY
from tests.conftest import Start
from tests.core_stand_in import StandInCore, echo, held, raw, responding
from tests.raw_client import RawClient, request
from tests.running import Running, eventually
from tests.tls import Authority
from tests.wire.asserting import READ, STAMPED, STREAMED, assert_error
from tests.wire.test_proxied_connections import TEXT, TRUSTED

BODY = b'{"name":"x"}'
SLOW = "/ledgers?slow"


def logged(gateway: Running, route: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in gateway.log.getvalue().splitlines()]
    return [line for line in lines if line.get("route") == route]


def measured(gateway: Running, name: str) -> int:
    page = gateway.gateway.metrics.exposition("")[0].decode()
    (line,) = [line for line in page.splitlines() if line.startswith(f"{name} ")]
    return int(float(line.split()[1]))


def waiting(gateway: Running) -> int:
    return measured(gateway, 'blnk_gateway_upstream_connections{state="waiting"}')


def connections(gateway: Running) -> int:
    return measured(gateway, "blnk_gateway_connections")


class SlowStore(MemoryKeyStore):
    """A key store that answers no look-up before `release`."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.release = asyncio.Event(), asyncio.Event()

    async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
        self.asked.set()
        await self.release.wait()
        return await super().get_by_digest(digest, client)


class OneSlot:
    """A gateway with one slot at Core, which a request holds until `release`."""

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
async def one_slot(start_gateway: Start, upstream: StandInCore) -> OneSlot:
    gateway = await start_gateway(upstream={"connections": 1})
    return OneSlot(gateway, upstream, (await gateway.mint("ledgers:*")).key)


@pytest.mark.parametrize("target", [STAMPED, STREAMED])
async def test_what_waits_for_a_connection_is_not_sent(one_slot: OneSlot, target: str) -> None:
    """A request that waits for a connection is not sent once its client, which may retry it, has left."""
    busy = await one_slot.occupy()
    client = await one_slot.queue(request("POST", target, key=one_slot.key, body=BODY))
    client.abort()
    await eventually(lambda: waiting(one_slot.gateway) == 0, "an empty queue")
    one_slot.release.set()
    assert (await busy).status == 200
    assert (await one_slot.gateway.ask("GET", READ, key=one_slot.key)).status == 200
    assert one_slot.upstream.targets == [SLOW, READ]


async def test_what_waits_for_a_client_that_only_ended_its_side_is_refused(one_slot: OneSlot) -> None:
    """A request that waits is 503 after a half-close: most such clients have left, and nothing was done."""
    busy = await one_slot.occupy()
    client = await one_slot.queue(request("POST", STAMPED, key=one_slot.key, body=BODY))
    await client.half_close()
    assert_error(await client.response(), Code.UNAVAILABLE)
    one_slot.release.set()
    await busy
    assert one_slot.upstream.targets == [SLOW]


async def leave(client: RawClient, how: str) -> None:
    """Reset the connection, or close it and wait until the gateway takes the client for gone."""
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
    """A request whose client leaves while its key is looked up is not sent."""

    store = SlowStore()
    gateway = await start_gateway(store=store)
    key = (await gateway.mint("ledgers:*")).key
    client = await gateway.connect()
    await client.send(request("POST", STAMPED, key=key, body=BODY))
    await store.asked.wait()
    await leave(client, how)
    store.release.set()
    assert (await gateway.ask("GET", READ, key=key)).status == 200
    assert upstream.targets == [READ]


async def test_a_read_is_cut_at_once(one_slot: OneSlot) -> None:
    """A read is cut as soon as its client resets the connection, and its connection to Core is free."""
    one_slot.upstream.script(held(one_slot.release))
    client = await one_slot.gateway.connect()
    await client.send(request("GET", SLOW, key=one_slot.key))
    await one_slot.upstream.arrived()
    client.abort()
    assert (await one_slot.gateway.ask("GET", READ, key=one_slot.key)).status == 200
    await one_slot.gateway.logged('"status":0')


async def test_a_client_that_ends_its_side_in_a_body_gets_the_responses_before_it_whole(
    one_slot: OneSlot,
) -> None:
    """The client reads slowly: the earlier response is still on its way when the later request breaks off."""
    large = 2_000_000
    one_slot.upstream.script(responding(body=b"x" * large))
    client = await one_slot.gateway.connect()
    await client.send(request("GET", READ, key=one_slot.key))
    await client.send(request("POST", STAMPED, key=one_slot.key, body=BODY)[:-1])
    await client.half_close()
    await one_slot.gateway.logged('"status":0')
    first = await client.response()
    assert (first.status, len(first.body)) == (200, large)
    assert await client.ended()


async def test_a_client_that_leaves_in_the_middle_of_its_response_is_logged_as_gone(
    one_slot: OneSlot,
) -> None:
    """The line of a client that leaves within its response has status 0, even if the client got a 200."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    one_slot.upstream.script(raw(head + b"x" * 100, *[b"x" * 1000] * 500, pause=0.01))
    client = await one_slot.gateway.connect()
    await client.send(request("GET", READ, key=one_slot.key))
    assert (await client.read_head())[0] == 200
    client.abort()
    await one_slot.gateway.logged('"status":0')


async def test_a_read_whose_client_ended_its_side_gives_way_to_the_next(one_slot: OneSlot) -> None:
    """A read whose client has half-closed is cut for the next request, since it is most likely abandoned."""
    one_slot.upstream.script(held(one_slot.release))
    client = await one_slot.gateway.connect()
    await client.send(request("GET", SLOW, key=one_slot.key))
    await one_slot.upstream.arrived()
    await client.half_close()
    began = asyncio.get_running_loop().time()
    assert (await one_slot.gateway.ask("GET", READ, key=one_slot.key)).status == 200
    assert asyncio.get_running_loop().time() - began < 0.5


async def test_a_read_whose_client_ended_its_side_is_cut_after_a_moment(
    gateway: Running, upstream: StandInCore
) -> None:
    """A read whose client has half-closed is cut after a moment even if no other request waits."""
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
    """A quick read gets its response after a half-close, by which some clients say that they are done."""
    key = (await gateway.mint("ledgers:*")).key
    client = await gateway.connect()
    await client.send(request("GET", READ, key=key))
    await client.half_close()
    assert (await client.response()).status == 200


async def test_a_change_that_was_sent_runs_to_its_end(one_slot: OneSlot) -> None:
    """A change that was sent runs to its end, and its status is logged."""
    one_slot.upstream.script(held(one_slot.release))
    client = await one_slot.gateway.connect()
    await client.send(request("POST", STAMPED, key=one_slot.key, body=BODY))
    await one_slot.upstream.arrived()
    client.abort()
    await asyncio.sleep(0.05)
    one_slot.release.set()
    assert (await one_slot.gateway.ask("GET", READ, key=one_slot.key)).status == 200
    await one_slot.gateway.logged('"route":"POST /ledgers"')
    (line,) = logged(one_slot.gateway, "POST /ledgers")
    assert (line["status"], line["answered_by"]) == (200, "core")


class Behind:
    """Clients that send further requests behind one that Core holds, so that nothing more of them is read."""

    REQUESTS = 300

    def __init__(self, way: str, folder: Path) -> None:
        self.proxied = way == "PROXY header"
        self.settings: dict[str, Any] = dict(TRUSTED) if self.proxied else {}
        self.context: ssl.SSLContext | None = None
        if way == "TLS":
            authority = Authority(folder)
            shown = authority.issue("gateway", "localhost")
            self.settings["tls"] = TlsConfig(certificate=shown.certificate, key=shown.key)
            self.context = authority.trusting()

    async def connect(self, gateway: Running) -> RawClient:
        client = await gateway.connect(tls=self.context)
        if self.proxied:
            await client.send(TEXT)
        return client

    async def pipeline(self, gateway: Running, upstream: StandInCore, first: bytes) -> RawClient:
        client = await self.connect(gateway)
        await client.send(first + request("GET", READ) * self.REQUESTS)
        await upstream.arrived()
        return client


@pytest.fixture(params=["plain", "PROXY header", "TLS"])
def behind(request: pytest.FixtureRequest, tmp_path: Path) -> Behind:
    return Behind(request.param, tmp_path)


async def test_a_client_that_leaves_with_requests_unread_gives_back_its_place(
    start_gateway: Start, upstream: StandInCore, behind: Behind
) -> None:
    """Its read is cut, and its place among the requests of its key is free."""
    gateway = await start_gateway(**behind.settings)
    key = (await gateway.mint("ledgers:*", terms=KeyTerms(concurrency=1))).key
    upstream.script(held(asyncio.Event()))
    client = await behind.pipeline(gateway, upstream, request("GET", SLOW, key=key))
    async with await behind.connect(gateway) as other:
        assert (await other.ask("GET", READ, key=key)).status == 429
        client.abort()
        await gateway.logged('"status":0')
        assert (await other.ask("GET", READ, key=key)).status == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_client_that_ends_its_side_behind_several_requests_gets_every_response(
    gateway: Running, upstream: StandInCore, method: str
) -> None:
    """Each request gets its own response, however slow the first one is."""
    key = (await gateway.mint("ledgers:*")).key
    upstream.behaviour = echo
    release = asyncio.Event()
    upstream.script(held(release, echo))
    targets = [f"/ledgers?number={number}" for number in range(8)]
    client = await gateway.connect()
    await client.send(b"".join(request(method, target, key=key, body=BODY) for target in targets))
    await client.half_close()
    await upstream.arrived()
    await asyncio.sleep(HALF_CLOSED_SECONDS + LOOK_SECONDS + 3 * TICK)
    release.set()
    responses = [await client.response() for _ in targets]
    assert [response.json()[1] for response in responses] == targets


async def test_a_client_that_resets_its_connection_while_its_sending_stalls_is_noticed(
    gateway: Running, upstream: StandInCore
) -> None:
    """More requests than the gateway and the kernel take are on their way when the client leaves."""
    key = (await gateway.mint("ledgers:*")).key
    upstream.script(held(asyncio.Event()))
    client = await gateway.connect(send_buffer=1 << 16)
    await client.send(request("GET", SLOW, key=key))
    await upstream.arrived()
    flood = asyncio.create_task(client.send(request("GET", READ) * 400_000))
    done, _ = await asyncio.wait([flood], timeout=1.0)
    assert done == set(), "20 MB of requests were taken in"
    client.abort()
    await gateway.logged('"status":0')
    await flood


async def test_a_change_of_a_client_that_leaves_with_requests_unread_runs_to_its_end(
    start_gateway: Start, upstream: StandInCore, behind: Behind
) -> None:
    """The connection is given up at once, and the change is logged with the status that it had."""
    gateway = await start_gateway(**behind.settings)
    key = (await gateway.mint("ledgers:*")).key
    release = asyncio.Event()
    upstream.script(held(release))
    change = request("POST", STAMPED, key=key, body=BODY)
    client = await behind.pipeline(gateway, upstream, change)
    client.abort()
    await eventually(lambda: connections(gateway) == 0, "a connection that has ended")
    release.set()
    await gateway.logged('"route":"POST /ledgers"')
    (line,) = logged(gateway, "POST /ledgers")
    assert (line["status"], line["answered_by"], upstream.targets) == (200, "core", [STAMPED])


async def test_a_body_whose_rest_is_not_read_yet_survives_the_end_of_its_clients_side(
    one_slot: OneSlot,
) -> None:
    """A client that ends its side behind a long body, of which only a part was read, gets its response."""
    busy = await one_slot.occupy()
    upload = request("POST", STREAMED, key=one_slot.key, body=b"x" * 4 * UNASKED_BODY)
    client = await one_slot.queue(upload[: 2 * UNASKED_BODY])
    await client.send(upload[2 * UNASKED_BODY :])
    await client.half_close()
    await asyncio.sleep(HALF_CLOSED_SECONDS + LOOK_SECONDS + 3 * TICK)
    one_slot.release.set()
    assert ((await client.response()).status, (await busy).status) == (200, 200)


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_key_is_not_made_for_a_client_that_has_left(start_gateway: Start, how: str) -> None:
    """A key is not made for a client that has left, since nobody would see it."""

    class Slow(MemoryKeyStore):
        asked = asyncio.Event()
        release = asyncio.Event()
        slow = False

        async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
            if self.slow:
                self.asked.set()
                await self.release.wait()
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
    store.release.set()
    await gateway.logged('"route":"POST /api-keys"')
    assert len(await store.owned(key.owner)) == 1
