"""The private listeners with clients that are slow, greedy or many."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp import web

from gateway.admin.server import MAX_BYTES, PrivateLimits
from gateway.config import Address
from gateway.config.sections.requests import TimeoutsConfig
from gateway.server.listeners import Listeners
from gateway.wire.deadline_timer import TICK
from tests.addresses import host_and_port
from tests.conftest import Start
from tests.raw_client import PATIENCE

LONG = TimeoutsConfig(head=60.0, body=60.0, idle=60.0, write=60.0)
SHORT = 0.3
SLACK = 2.0  # seconds that a busy machine may add
GET = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = b"GET /answer HTTP/1.1\r\nHost: x\r\nX-Half:"
LARGE = 8 * 1024 * 1024
KUBELET, PROMETHEUS, ATTACKER = "127.0.0.2", "127.0.0.3", "127.0.0.4"
"""Addresses of clients; the gateway is at 127.0.0.1."""


@dataclass(slots=True)
class Client:
    """One connection from an address of its own."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def status(self) -> int:
        """Return the status of the next response, whose body is `ok` or an error."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await self.reader.readexactly(length)
        return int(head.split(b" ")[1])

    async def ask(self, path: bytes = b"/answer") -> int:
        await self.send(GET % path)
        return await self.status()

    async def ended(self) -> bool:
        """Wait until the gateway has closed the connection."""
        try:
            async with asyncio.timeout(PATIENCE):
                while await self.reader.read(65536):
                    pass
        except ConnectionError:
            pass
        return True

    async def is_open(self) -> bool:
        """Return whether the connection is still served."""
        return not self.reader.at_eof() and await self.ask() == 200


class Stage:
    """A private listener with an application of the test's own, on a free port."""

    def __init__(self, limits: PrivateLimits) -> None:
        self.limits = limits
        self.listeners = Listeners(limits, asyncio.get_running_loop())
        self.release = asyncio.Event()
        self.held = 0
        self._clients: list[Client] = []

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get("/answer", self.respond)
        application.router.add_get("/large", self._large)
        application.router.add_get("/hold", self._hold)
        application.router.add_post("/body", self._body)
        await self.listeners.open_private("health", Address("127.0.0.1", 0), application)

    async def connect(self, host: str = KUBELET, address: Address | None = None) -> Client:
        """Connect from `host`, to the listener of this stage or to another."""
        address = address or host_and_port(*self.listeners.addresses("health"))
        streams = await asyncio.open_connection(address.host, address.port, local_addr=(host, 0))
        self._clients.append(Client(*streams))
        return self._clients[-1]

    async def holding(self, host: str) -> Client:
        """Return a client whose request is being served."""
        client, before = await self.connect(host), self.held
        await client.send(GET % b"/hold")
        async with asyncio.timeout(PATIENCE):
            while self.held == before:
                await asyncio.sleep(0.01)
        return client

    async def close(self) -> None:
        self.release.set()
        await self.listeners.close_all()
        for client in self._clients:
            client.writer.transport.abort()
            with contextlib.suppress(OSError):
                await client.writer.wait_closed()

    async def respond(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _large(self, _: web.Request) -> web.Response:
        return web.Response(body=bytes(LARGE))

    async def _hold(self, _: web.Request) -> web.Response:
        self.held += 1
        await self.release.wait()
        return web.Response(text="ok")

    async def _body(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(text="ok")


Open = Callable[..., Awaitable[Stage]]


@pytest.fixture
async def listen() -> AsyncIterator[Open]:
    """Return a function that starts listeners: `await listen(connections=3, head=0.3)`."""
    async with AsyncExitStack() as stack:

        async def begin(*, connections: int = 64, **timeouts: Any) -> Stage:
            stage = Stage(PrivateLimits(connections, replace(LONG, **timeouts)))
            await stage.start()
            stack.push_async_callback(stage.close)
            return stage

        yield begin


async def seconds_until_ended(client: Client) -> float:
    began = asyncio.get_running_loop().time()
    assert await client.ended()
    return asyncio.get_running_loop().time() - began


class TestDeadlines:
    async def test_a_head_that_does_not_end_is_closed(self, listen: Open) -> None:
        client = await (await listen(head=SHORT)).connect()
        await client.send(HALF)
        assert SHORT - TICK <= await seconds_until_ended(client) < SHORT + SLACK

    async def test_a_head_that_comes_byte_by_byte_gets_no_longer(self, listen: Open) -> None:
        client = await (await listen(head=SHORT)).connect()

        async def trickle() -> None:
            while True:
                await client.send(b"x")
                await asyncio.sleep(0.02)

        await client.send(HALF)
        trickling = asyncio.create_task(trickle())
        assert await seconds_until_ended(client) < SHORT + SLACK
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)

    async def test_a_client_that_never_asks_is_closed(self, listen: Open) -> None:
        client = await (await listen(idle=SHORT)).connect()
        assert SHORT - TICK <= await seconds_until_ended(client) < SHORT + SLACK

    async def test_a_client_that_asks_no_more_is_closed(self, listen: Open) -> None:
        client = await (await listen(idle=SHORT)).connect()
        assert [await client.ask(), await client.ask()] == [200, 200]
        assert SHORT - TICK <= await seconds_until_ended(client) < SHORT + SLACK

    async def test_a_body_that_does_not_come_is_closed(self, listen: Open) -> None:
        client = await (await listen(body=SHORT)).connect()
        await client.send(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
        assert await seconds_until_ended(client) < SHORT + SLACK

    async def test_a_client_that_does_not_take_its_response_is_closed(self, listen: Open) -> None:
        """A client that does not read its response is cut once the buffers on the way are full."""
        stage = await listen(write=SHORT)
        client = await stage.connect()
        await client.send(GET % b"/large")
        await asyncio.sleep(SHORT + SLACK)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.status()

    async def test_a_slow_handler_keeps_its_connection_within_the_time_for_a_body(self, listen: Open) -> None:
        """A slow handler keeps its connection for the time of a body, after the time of a head."""
        stage = await listen(head=SHORT, idle=SHORT)
        client = await stage.holding(KUBELET)
        await asyncio.sleep(SHORT + 3 * TICK)
        stage.release.set()
        assert await client.status() == 200

    async def test_a_reload_changes_them(self, listen: Open) -> None:
        """A reload changes the times of phases that begin after it."""
        stage = await listen()
        stage.listeners.adopt(replace(stage.limits, timeouts=replace(LONG, head=SHORT)))
        client = await stage.connect()
        await client.send(HALF)
        assert await seconds_until_ended(client) < SHORT + SLACK

    async def test_admin_and_health_of_a_gateway_have_them(self, listen: Open, start_gateway: Start) -> None:
        """Admin and health listeners of a gateway have the times of the clients' listener."""
        stage = await listen()
        running = await start_gateway(health=Address("127.0.0.1", 0), timeouts={"head": SHORT})
        for address in (running.gateway.admin_address, running.gateway.health_address):
            client = await stage.connect(address=address)
            await client.send(HALF)
            assert await seconds_until_ended(client) < SHORT + SLACK


class TestSize:
    @pytest.mark.parametrize("size", [MAX_BYTES // 2, MAX_BYTES + 1])
    async def test_a_request_that_is_too_large_is_closed(self, listen: Open, size: int) -> None:
        """A request is closed for its size even if each line of its head is short enough."""
        client = await (await listen()).connect()
        line = b"X-Long: " + b"x" * 1014 + b"\r\n"
        await client.send(GET.removesuffix(b"\r\n") % b"/answer" + line * -(-size // len(line)))
        if size > MAX_BYTES:
            assert await client.ended()
        else:
            await client.send(b"\r\n")
            assert await client.status() == 200

    async def test_many_requests_on_one_connection_are_not_counted_together(self, listen: Open) -> None:
        client = await (await listen()).connect()
        headers = b"X-Long: " + b"x" * 8000
        for _ in range(2 * MAX_BYTES // len(headers)):
            await client.send(GET.removesuffix(b"\r\n") % b"/answer" + headers + b"\r\n\r\n")
            assert await client.status() == 200


class TestSlots:
    async def test_half_sent_requests_give_way_to_a_new_connection(self, listen: Open) -> None:
        """Requests that are not whole give way to a new connection, the oldest first, of any address."""
        stage = await listen(connections=3)
        slow = [await stage.connect(ATTACKER) for _ in range(3)]
        for client in slow:
            await client.send(HALF)
        assert await (await stage.connect(ATTACKER)).ask() == 200
        assert await slow[0].ended()
        assert await (await stage.connect(KUBELET)).ask() == 200
        assert await slow[1].ended()

    async def test_idle_connections_of_one_address_cost_no_other_its_own(self, listen: Open) -> None:
        stage = await listen(connections=4)
        prometheus = await stage.connect(PROMETHEUS)
        assert await prometheus.ask() == 200
        idle = [await stage.connect(ATTACKER) for _ in range(20)]
        for client in idle[:-3]:
            assert await client.ended()
        kubelet = await stage.connect(KUBELET)
        assert [await kubelet.ask(), await prometheus.ask()] == [200, 200]

    async def test_an_address_that_has_all_slots_gives_one_up_to_another(self, listen: Open) -> None:
        """An address that has every slot loses one to another, even if all its requests are being served."""
        stage = await listen(connections=3)
        held = [await stage.holding(ATTACKER) for _ in range(3)]
        assert await (await stage.connect(KUBELET)).ask() == 200
        assert await held[0].ended()
        stage.release.set()
        assert [await client.status() for client in held[1:]] == [200, 200]

    async def test_a_request_that_is_answered_is_not_cut_for_its_own_client(self, listen: Open) -> None:
        """A new connection of a client whose requests have every slot is closed, and its requests go on."""
        stage = await listen(connections=3)
        held = [await stage.holding(ATTACKER) for _ in range(3)]
        assert await (await stage.connect(ATTACKER)).ended()
        stage.release.set()
        assert [await client.status() for client in held] == [200] * 3

    async def test_two_addresses_share_them(self, listen: Open) -> None:
        """Of two addresses neither gets more than half, however often it connects anew."""
        stage = await listen(connections=4)
        held = [await stage.holding(ATTACKER) for _ in range(4)]
        held += [await stage.holding(KUBELET) for _ in range(2)]
        assert await (await stage.connect(KUBELET)).ended()
        stage.release.set()
        assert [await client.status() for client in held[2:]] == [200] * 4

    async def test_slots_are_free_again(self, listen: Open) -> None:
        """A client that leaves gives its slot back."""
        stage = await listen(connections=2)
        for _ in range(10):
            client = await stage.connect()
            assert await client.ask() == 200
            client.writer.close()
        last = [await stage.connect(), await stage.connect()]
        assert [await client.ask() for client in last] == [200, 200]

    async def test_ipv4_clients_of_a_listener_on_ipv6_are_told_apart(self, listen: Open) -> None:
        """IPv4 clients on `[::]` count as separate addresses, although they are one network of IPv6."""
        stage = await listen(connections=3)
        application = web.Application()
        application.router.add_get("/answer", stage.respond)
        await stage.listeners.open_private("admin", Address("::", 0), application)
        four = Address("127.0.0.1", host_and_port(*stage.listeners.addresses("admin")).port)
        others = [await stage.connect(host, four) for host in (KUBELET, PROMETHEUS)]
        for client in others:
            assert await client.ask() == 200
        idle = [await stage.connect(ATTACKER, four) for _ in range(4)]
        for client in idle[:-1]:
            assert await client.ended()
        assert [await client.ask() for client in others] == [200, 200]
