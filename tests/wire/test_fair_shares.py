"""Shares between callers: slots at Core, connections, and the bytes that connections hold."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from gateway.config import Address
from gateway.errors import Code, GatewayError
from gateway.proxy.errors import code_of
from gateway.wire.client_deadlines import ClientLimits
from gateway.wire.clients import Clients
from gateway.wire.exchange import Exchange as Responding
from tests.conftest import Start
from tests.core_stand_in import Exchange, StandInCore, echo, held, of_size
from tests.raw_client import BrokenResponse, RawClient, Response, request
from tests.running import Running, eventually
from tests.wire.asserting import READ, STREAMED, assert_error

# More than asyncio reads at once (256 KiB), so that no whole body is there before it is asked for.
LARGE = b"x" * 600_000
flood = of_size(300_000_000)  # a response that no buffer holds whole


def connections(gateway: Running, state: str) -> int:
    """Return how many connections to Core are in this state, as the metrics show it."""
    page = gateway.gateway.metrics.exposition("")[0].decode()
    (line,) = [line for line in page.splitlines() if f'upstream_connections{{state="{state}"}}' in line]
    return int(float(line.split()[1]))


class TestSlots:
    async def test_some_are_kept_for_a_key_that_holds_none(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A slot is kept for a key that holds none, and no request of the other key is cut for it."""
        gateway = await start_gateway(upstream={"connections": 4})
        many, one = await gateway.mint("ledgers:*"), await gateway.mint("ledgers:*")
        release = asyncio.Event()
        upstream.script(*[held(release)] * 4)
        asked = [
            asyncio.create_task(gateway.ask("POST", STREAMED, key=many.key, body=b"{}")) for _ in range(6)
        ]
        await upstream.arrived(4)
        await eventually(lambda: connections(gateway, "waiting") == 2, "those beyond the slots")
        assert (await gateway.ask("GET", READ, key=one.key)).status == 200
        assert connections(gateway, "waiting") == 2
        release.set()
        assert {response.status for response in await asyncio.gather(*asked)} == {200}

    async def test_some_are_kept_for_an_address_that_holds_none(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A slot is kept for an address that holds none, even if another address uses many keys."""
        full = await Crowded.of(await start_gateway(upstream={"connections": 4}), upstream, 10)
        assert connections(full.gateway, "waiting") == 5
        one = await from_address(full.gateway, "127.0.0.2")
        assert (await one.ask("GET", READ, key=full.key)).status == 200
        await full.emptied()

    async def test_a_full_queue_turns_away_the_address_that_fills_it(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A full queue refuses the address that fills it, even if each of its keys has one request there."""
        full = await Crowded.of(await start_gateway(upstream={"connections": 1, "queue": 3}), upstream, 5)
        ones = [await from_address(full.gateway, f"127.0.0.{last}") for last in (2, 3)]
        await ones[0].send(request("GET", "/ledgers/busy", key=full.key))
        await upstream.arrived(3)
        await ones[1].send(request("GET", READ, key=full.key))
        assert_error(await full.clients[4].response(), Code.UNAVAILABLE)
        await full.emptied()
        assert [(await client.response()).status for client in ones] == [200, 200]

    async def test_a_response_that_is_not_taken_gives_way_to_another_address(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A response that is not read is cut for another address, even if each reader has its own key."""
        gateway = await start_gateway(upstream={"connections": 3})
        upstream.script(*[flood] * 6)
        for last in (1, 1, 1, 1, 2, 3):
            client = await from_address(gateway, f"127.0.0.{last}")
            await client.send(request("GET", READ, key=(await gateway.mint("ledgers:*")).key))
            await asyncio.sleep(0.1)
        await eventually(lambda: connections(gateway, "busy") == 5, "five readers")
        one = await from_address(gateway, "127.0.0.4")
        assert (await one.ask("GET", READ, key=(await gateway.mint("ledgers:*")).key)).status == 200

    async def test_are_given_in_turn_by_key(self, start_gateway: Start, upstream: StandInCore) -> None:
        """Slots go to keys in turn: a key with one request does not wait behind all requests of another."""
        full = await Full.of(await start_gateway(upstream={"connections": 1}), upstream)
        gateway, many, one = full.gateway, full.keys[0], await full.gateway.mint("ledgers:*")
        targets = [f"/ledgers/many{number}" for number in range(5)]
        asked = [asyncio.create_task(gateway.ask("GET", target, key=many)) for target in targets]
        await eventually(lambda: connections(gateway, "waiting") == 5, "the many that wait")
        asked.append(asyncio.create_task(gateway.ask("GET", "/ledgers/one", key=one.key)))
        await eventually(lambda: connections(gateway, "waiting") == 6, "all that wait")
        assert {response.status for response in await full.emptied(asked)} == {200}
        assert "/ledgers/one" in upstream.targets[2:5]

    async def test_a_full_queue_turns_away_the_key_that_fills_it(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """In a full queue the newest request of the key that fills it gets 503, and another key's waits."""
        full = await Full.of(await start_gateway(upstream={"connections": 1, "queue": 2}), upstream)
        gateway, many, one = full.gateway, full.keys[0], await full.gateway.mint("ledgers:*")
        asked = []
        for _ in range(2):
            asked.append(asyncio.create_task(gateway.ask("GET", READ, key=many)))
            await eventually(lambda: connections(gateway, "waiting") == len(asked), "one more that waits")
        other = asyncio.create_task(gateway.ask("GET", READ, key=one.key))
        assert_error(await asked[1], Code.UNAVAILABLE)
        assert [response.status for response in await full.emptied([asked[0], other])] == [200, 200]

    async def test_large_bodies_hold_a_part_of_them_only(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """Uploads that have stopped leave slots for requests of any key that have no upload."""
        gateway = await start_gateway(upstream={"connections": 4})
        key = (await gateway.mint("ledgers:*")).key
        for _ in range(6):
            client = await gateway.connect()
            await client.send(request("POST", STREAMED, key=key, body=LARGE)[:-10])
        await eventually(lambda: connections(gateway, "busy") == 2, "two uploads")
        for _ in range(3):
            assert (await gateway.ask("GET", READ, key=key)).status == 200

    async def test_an_upload_that_stands_still_gives_way_to_another_key(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """The key that holds most slots loses one whose client sends nothing."""
        gateway = await start_gateway(upstream={"connections": 4})
        greedy, modest, other = [(await gateway.mint("ledgers:*")).key for _ in range(3)]
        clients = []
        for key in (greedy, greedy, modest):
            clients.append(await gateway.connect())
            await clients[-1].send(request("POST", STREAMED, key=key, body=LARGE)[:-10])
        await eventually(lambda: connections(gateway, "busy") == 3, "two uploads, and the slot that is kept")
        response = await gateway.ask("POST", STREAMED, key=other, body=LARGE)
        assert response.status == 200
        *statuses, last = await asyncio.gather(*(first_status(client) for client in clients))
        assert (sorted(statuses, key=str), last) == ([503, None], None)

    async def test_uploads_that_go_slowly_leave_some_to_another_key(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """Uploads of one key that are slow leave slots for uploads of another key."""
        gateway = await start_gateway(upstream={"connections": 4})
        greedy, other = await gateway.mint("ledgers:*"), await gateway.mint("ledgers:*")
        clients = [await gateway.connect() for _ in range(2)]
        for client in clients:
            await client.send(request("POST", STREAMED, key=greedy.key, body=LARGE)[:-1000])
        await eventually(lambda: connections(gateway, "busy") == 2, "two uploads")
        trickling = asyncio.create_task(trickle(clients))
        assert (await gateway.ask("POST", STREAMED, key=other.key, body=LARGE)).status == 200
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)

    async def test_a_response_that_is_not_taken_gives_way_to_another_key(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """Responses that nobody reads hold every slot only until another key needs one."""
        gateway = await start_gateway(upstream={"connections": 3})
        greedy, other = await gateway.mint("ledgers:*"), await gateway.mint("ledgers:*")
        upstream.script(flood, flood, flood)
        for _ in range(3):
            await stuck(gateway, greedy.key)
        await eventually(lambda: connections(gateway, "busy") == 3, "three readers")
        assert (await gateway.ask("GET", READ, key=other.key)).status == 200

    async def test_a_lone_key_may_hold_them_all(self, start_gateway: Start, upstream: StandInCore) -> None:
        """Requests of a single key may hold every slot, and then wait for each other."""
        gateway = await start_gateway(upstream={"connections": 2}, timeouts={"connect": 0.5})
        key = (await gateway.mint("ledgers:*")).key
        upstream.script(flood, flood)
        for _ in range(2):
            await stuck(gateway, key)
        await eventually(lambda: connections(gateway, "busy") == 2, "two readers")
        assert_error(await gateway.ask("GET", READ, key=key), Code.UNAVAILABLE)


class Full:
    """A gateway with one slot at Core and one that is kept, both taken until `emptied`."""

    def __init__(self, gateway: Running, keys: list[str]) -> None:
        self.gateway, self.keys = gateway, keys
        self._release = asyncio.Event()
        self._busy: list[asyncio.Task[Response]] = []

    @classmethod
    async def of(cls, gateway: Running, upstream: StandInCore) -> Full:
        full = cls(gateway, [(await gateway.mint("ledgers:*")).key for _ in range(2)])
        upstream.behaviour = echo
        upstream.script(held(full._release), held(full._release))
        for number, key in enumerate(full.keys):
            full._busy.append(asyncio.create_task(gateway.ask("GET", "/ledgers/busy", key=key)))
            await upstream.arrived(number + 1)
        return full

    async def emptied(self, asked: list[asyncio.Task[Response]]) -> list[Response]:
        """Let Core respond; return the responses to what was `asked`."""
        self._release.set()
        await asyncio.gather(*self._busy)
        return await asyncio.gather(*asked)


class Crowded:
    """A gateway that one address calls with many keys, once with each; Core works on what it got."""

    def __init__(self, gateway: Running, clients: list[RawClient], key: str) -> None:
        self.gateway, self.clients, self.key = gateway, clients, key
        self.release = asyncio.Event()

    @classmethod
    async def of(cls, gateway: Running, upstream: StandInCore, count: int) -> Crowded:
        clients = [await from_address(gateway, "127.0.0.1") for _ in range(count)]
        full = cls(gateway, clients, (await gateway.mint("ledgers:*")).key)

        async def busy(exchange: Exchange) -> None:
            if exchange.request.target == "/ledgers/busy":
                await full.release.wait()
            await echo(exchange)

        upstream.behaviour = busy
        for counted, client in enumerate(clients, 1):
            await client.send(request("GET", "/ledgers/busy", key=(await gateway.mint("ledgers:*")).key))
            await full.counted(counted)
        return full

    async def counted(self, count: int) -> None:
        """Wait until this many requests have a slot or wait for one."""

        def come() -> bool:
            return connections(self.gateway, "busy") + connections(self.gateway, "waiting") == count

        await eventually(come, "all that were sent")

    async def emptied(self) -> None:
        """Let Core respond."""
        self.release.set()


class TestReaders:
    async def test_one_that_takes_a_byte_now_and_then_is_cut(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A response that is read more slowly than the slowest pace is cut."""
        gateway = await start_gateway(timeouts={"write": 0.4})
        key = (await gateway.mint("ledgers:*")).key
        upstream.script(flood)
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setblocking(False)
            address = gateway.gateway.address
            await loop.sock_connect(client, (address.host, address.port))
            await loop.sock_sendall(client, request("GET", READ, key=key))
            await eventually(lambda: connections(gateway, "busy") == 1, "a reader")
            dripping = asyncio.create_task(drip(client))
            await eventually(lambda: connections(gateway, "busy") == 0, "the cut", 5.0)
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)

    async def test_one_that_is_slow_but_steady_gets_it_all(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        gateway = await start_gateway(timeouts={"write": 0.4})
        key = (await gateway.mint("ledgers:*")).key
        size = 8_000_000
        upstream.script(of_size(size))
        client = await gateway.connect(keep=False)
        await client.send(request("GET", READ, key=key))
        await client.read_head()
        taken = 0
        while taken < size:
            data = await client.read_some()
            assert data
            taken += len(data)
            await asyncio.sleep(0.02)


class TestConnections:
    async def test_an_idle_one_of_the_address_that_has_most_gives_way(self, start_gateway: Start) -> None:
        """A client of another address can connect although one address has taken every connection."""
        gateway = await start_gateway(limits={"connections": 4})
        taken = [await from_address(gateway, "127.0.0.1") for _ in range(4)]
        newcomer = await from_address(gateway, "127.0.0.2")
        assert (await newcomer.ask("GET", "/health")).status == 200
        assert await taken[0].ended()
        assert (await taken[3].ask("GET", "/health")).status == 200

    @pytest.mark.parametrize(
        "half",
        [("GET", "/health"), ("POST", STREAMED)],
        ids=["a body that is due", "a response that was sent"],
    )
    async def test_one_that_keeps_us_waiting_gives_way(
        self, start_gateway: Start, half: tuple[str, str]
    ) -> None:
        """A request that never ends, or a 401, keeps no connection from a client of another address."""
        gateway = await start_gateway(limits={"connections": 4})
        taken = [await from_address(gateway, "127.0.0.1") for _ in range(4)]
        for client in taken:
            await client.send(request(*half, body=LARGE[:1000])[:-1])
        await asyncio.sleep(1.3)
        newcomer = await from_address(gateway, "127.0.0.2")
        assert (await newcomer.ask("GET", "/health")).status == 200

    async def test_one_whose_response_is_not_taken_gives_way(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        gateway = await start_gateway(limits={"connections": 2})
        key = (await gateway.mint("ledgers:*")).key
        upstream.script(flood, flood)
        for _ in range(2):
            client = await from_address(gateway, "127.0.0.1")
            await client.send(request("GET", READ, key=key))
        await upstream.arrived(2)
        await asyncio.sleep(1.5)
        newcomer = await from_address(gateway, "127.0.0.2")
        assert (await newcomer.ask("GET", "/health")).status == 200

    async def test_one_that_streams_a_body_to_core_is_never_closed_for_another(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        gateway = await start_gateway(limits={"connections": 2})
        key = (await gateway.mint("ledgers:*")).key
        whole = request("POST", STREAMED, key=key, body=LARGE)
        uploads = [await from_address(gateway, "127.0.0.1") for _ in range(2)]
        for client in uploads:
            await client.send(whole[:-1])
        await eventually(lambda: connections(gateway, "busy") == 2, "two uploads")
        await asyncio.sleep(1.3)
        assert_error(await (await from_address(gateway, "127.0.0.2")).response(), Code.UNAVAILABLE)
        for client in uploads:
            await client.send(whole[-1:])
            assert (await client.response()).status == 200

    async def test_one_more_of_the_address_that_has_most_is_refused(self, start_gateway: Start) -> None:
        """When every connection is in use, the next of the address that has most is refused; none is cut."""
        gateway = await start_gateway(limits={"connections": 3})
        taken = [await from_address(gateway, "127.0.0.1") for _ in range(3)]
        assert_error(await (await from_address(gateway, "127.0.0.1")).response(), Code.UNAVAILABLE)
        assert [(await client.ask("GET", "/health")).status for client in taken] == [200] * 3

    async def test_one_in_use_is_never_closed_for_another(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        gateway = await start_gateway(limits={"connections": 2})
        key = (await gateway.mint("ledgers:*")).key
        release = asyncio.Event()
        upstream.script(held(release), held(release))
        busy = [await from_address(gateway, "127.0.0.1") for _ in range(2)]
        for client in busy:
            await client.send(request("GET", READ, key=key))
        await upstream.arrived(2)
        assert_error(await (await from_address(gateway, "127.0.0.2")).response(), Code.UNAVAILABLE)
        release.set()
        assert [(await client.response()).status for client in busy] == [200, 200]

    async def test_those_of_a_trusted_proxy_are_its_clients(self, start_gateway: Start) -> None:
        """The connections of a trusted proxy count for its clients: it loses none to a direct client."""
        gateway = await start_gateway(
            limits={"connections": 4}, trusted_proxies=(ip_network("127.0.0.2/32"),)
        )
        balancer = [await from_address(gateway, "127.0.0.2") for _ in range(3)]
        direct = [await from_address(gateway, "127.0.0.1")]
        assert_error(await (await from_address(gateway, "127.0.0.1")).response(), Code.UNAVAILABLE)
        assert [(await client.ask("GET", "/health")).status for client in balancer + direct] == [200] * 4


class TestHeldBytes:
    @pytest.fixture
    def release(self) -> asyncio.Event:
        """Lets the requests for `/slow` have their responses."""
        return asyncio.Event()

    @pytest.fixture
    async def address(self, release: asyncio.Event) -> AsyncIterator[Address]:
        """A listener whose connections may hold 100 kB together; it sends 200 to every request."""

        async def respond(exchange: Responding) -> None:
            if exchange.target == "/slow":
                await release.wait()
            try:
                await exchange.body.read(1 << 20, Uncounted())
            except GatewayError as problem:
                exchange.send(refuse(problem, ""), b"", code_of(problem).status)
            else:
                exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", 200)

        def refuse(problem: GatewayError, peer: str) -> bytes:
            return b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % code_of(problem).status

        loop = asyncio.get_running_loop()
        limits = ClientLimits(connections=100, head=5.0, body=5.0, idle=5.0, write=5.0, held_bytes=100_000)
        clients = Clients(respond, refuse, limits, loop)
        server = await loop.create_server(clients.connect, "127.0.0.1", 0)
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])
        server.close()
        await clients.emptied(0)

    async def test_half_sent_heads_are_bounded_over_all_connections(self, address: Address) -> None:
        """The address with most bytes of unfinished heads loses some, and another's request is served."""
        half = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Pad: " + b"y" * 7_000
        many = [await RawClient.connect(address, local="127.0.0.1") for _ in range(20)]
        for client in many:
            await client.send(half)
        async with await RawClient.connect(address, local="127.0.0.2") as other:
            await other.send(half)
            await asyncio.sleep(0.1)
            await other.send(b"\r\n\r\n")
            assert (await other.response()).status == 200
        statuses = [await first_status(client, 0.05) for client in many]
        assert statuses.count(503) == 20 - 100_000 // len(half) + 1
        for client in many:
            await client.close()

    async def test_bodies_behind_a_request_are_bounded_over_all_connections(
        self, address: Address, release: asyncio.Event
    ) -> None:
        """Bodies that nobody reads yet count, also if they came whole, in the segment of another request."""
        many = [await RawClient.connect(address) for _ in range(20)]
        for client in many:
            await client.send(request("GET", "/slow") + request("POST", "/ledgers", body=bytes(30_000)))
            await asyncio.sleep(0.01)
        release.set()
        assert [(await client.response()).status for client in many] == [200] * 20
        statuses = [(await client.response()).status for client in many]
        assert statuses.count(503) == 20 - 100_000 // 30_000
        for client in many:
            await client.close()

    async def test_what_a_connection_gives_up_does_not_stay_in_memory(self, address: Address) -> None:
        """Requests behind a slow one are dropped once an address that holds less needs room."""
        many = [await RawClient.connect(address, local=f"127.0.0.{last}") for last in range(1, 21)]
        tracemalloc.start()
        for number, client in enumerate(many):
            behind = request("GET", "/ledgers") * (1_300 - 10 * number)
            await client.send(request("GET", "/slow") + behind)
            await asyncio.sleep(0.05)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < 700_000
        for client in many:
            client.abort()


class Uncounted:
    """A meter that lets everything pass."""

    def grow(self, size: int) -> None: ...


async def stuck(gateway: Running, key: str) -> RawClient:
    """Return a client that asks for a large response and reads none of it."""
    client = await gateway.connect(keep=False)
    await client.send(request("GET", READ, key=key))
    return client


async def drip(client: socket.socket) -> None:
    """Read a byte now and then."""
    while await asyncio.get_running_loop().sock_recv(client, 1):
        await asyncio.sleep(0.02)


async def trickle(clients: list[RawClient]) -> None:
    """Send a byte of each body now and then."""
    while True:
        for client in clients:
            await client.send(b"x")
        await asyncio.sleep(0.3)


async def first_status(client: RawClient, seconds: float = 2.0) -> int | None:
    """Return the status of a response, or None if none comes within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            return (await client.response()).status
    except (TimeoutError, BrokenResponse):
        return None


async def from_address(gateway: Running, address: str) -> RawClient:
    """Connect from this address of the loopback."""
    return await gateway.connect(local=address)
