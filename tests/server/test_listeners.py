"""The addresses of listeners: IPv4 and IPv6, several at once, and addresses that cannot be bound."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from click.testing import CliRunner

from gateway.admin.server import PrivateLimits
from gateway.cli import cli
from gateway.config import Address
from gateway.server.listeners import ACCEPTED, Listeners
from gateway.server.sockets import CannotListenError, bound
from gateway.wire.securable_connection import SecurableConnection
from tests.addresses import host_and_port
from tests.conftest import Start
from tests.core_stand_in import StandInCore, held
from tests.raw_client import RawClient, request
from tests.running import MASTER_KEY, ROOT, shipped_config
from tests.serving import serving
from tests.wire.asserting import READ

EVERYWHERE = Address("::", 0)
TAKEN = "another program listens there: stop it, or write another port"


@pytest.fixture
def taken() -> Iterator[Address]:
    """An address that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield Address("127.0.0.1", other.getsockname()[1])


def connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


class TestSockets:
    @pytest.mark.parametrize(
        ("host", "reached"),
        [
            ("::", ["127.0.0.1", "::1"]),
            ("::1", ["::1"]),
            ("0.0.0.0", ["127.0.0.1"]),
            ("127.0.0.1", ["127.0.0.1"]),
        ],
    )
    def test_which_clients_reach_an_address(self, host: str, reached: list[str]) -> None:
        """A listener on `::` is reached by every client, of IPv4 too."""
        (opened,) = bound("listen", Address(host, 0))
        with opened:
            port = opened.getsockname()[1]
            assert [client for client in ("127.0.0.1", "::1") if connects(client, port)] == reached

    def test_a_name_is_every_address_of_it(self) -> None:
        opened = bound("listen", Address("localhost", 0))
        assert {listening.getsockname()[0] for listening in opened} == {
            address[0] for *_, address in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
        }
        for listening in opened:
            listening.close()

    @pytest.mark.parametrize("setting", ["listen", "admin", "health"])
    @pytest.mark.parametrize(
        ("host", "reason"),
        [
            ("127.0.0.1", TAKEN),
            ("::", TAKEN),
            ("192.0.2.1", "this machine has no such address: write one that it has, or 0.0.0.0 for all"),
            ("nowhere.invalid", "the name is not known here: write an IP address"),
            (f"{'x' * 64}.test", "the name is not known here: write an IP address"),
        ],
    )
    def test_one_that_cannot_be_had_names_its_setting(
        self, taken: Address, setting: str, host: str, reason: str
    ) -> None:
        address = Address(host, taken.port)
        with pytest.raises(CannotListenError) as refused:
            bound(setting, address)
        assert str(refused.value) == f"{setting}: cannot listen on {address}: {reason}"


async def status(host: str, port: int, data: bytes) -> int:
    """Return the status of the response to a request that is sent over IPv4 or IPv6."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(data)
        return int((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
    finally:
        writer.close()
        await writer.wait_closed()


def client_addresses(event: dict[str, Any]) -> list[Address]:
    """Return where clients connect, by the event `listening`."""
    found = [text.rpartition(":") for text in event["clients"].split(", ")]
    return [Address(host.strip("[]"), int(port)) for host, _, port in found]


class TestTurns:
    @pytest.mark.parametrize(
        "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
    )
    def test_a_turn_accepts_several_connections_that_wait(
        self, new_loop: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        """Each turn accepts several of the waiting connections, as many on either event loop."""
        loop = new_loop()
        try:
            turns = loop.run_until_complete(accepted(loop, 5 * ACCEPTED))
        finally:
            loop.close()
        assert [count for count in turns if count] == [ACCEPTED] * 5


class Counted(SecurableConnection):
    """A connection that is closed as soon as it is made; `made` counts them all."""

    made = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Counted.made += 1
        transport.close()


async def accepted(loop: asyncio.AbstractEventLoop, count: int) -> list[int]:
    """Return how many of `count` waiting connections were made in each turn of the event loop."""
    listeners = Listeners(PrivateLimits(1, shipped_config().timeouts), loop)
    await listeners.bind("listen", [Address("127.0.0.1", 0)], Counted)
    await listeners.start("listen")
    address = host_and_port(*listeners.addresses("listen"))
    clients = [socket.create_connection((address.host, address.port)) for _ in range(count)]
    turns = []
    begun = Counted.made
    async with asyncio.timeout(5):
        while Counted.made < begun + count:
            before = Counted.made
            await asyncio.sleep(0)
            turns.append(Counted.made - before)
    for client in clients:
        # Until the gateway's side has ended, too.
        await asyncio.to_thread(client.recv, 1)
        client.close()
    await listeners.close_all()
    return turns


class TestGateway:
    async def test_every_listener_on_ipv6_takes_ipv4(self, start_gateway: Start) -> None:
        """Listeners on `[::]` for clients, admin and health take IPv4, as a dual-stack cluster needs it."""
        running = await start_gateway(listen=(EVERYWHERE,), admin=EVERYWHERE, health=EVERYWHERE)
        gateway = running.gateway
        assert gateway.health_address is not None
        asked = {
            gateway.address.port: request("GET", READ, key=MASTER_KEY),
            gateway.admin_address.port: b"GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            gateway.health_address.port: request("GET", "/health/ready"),
        }
        statuses = [
            await status(host, port, data) for port, data in asked.items() for host in ("127.0.0.1", "::1")
        ]
        assert statuses == [200] * 6

    async def test_clients_are_served_at_every_address_of_a_list(self, start_gateway: Start) -> None:
        addresses = tuple(Address(host, 0) for host in ("127.0.0.2", "127.0.0.3", "::1"))
        running = await start_gateway(listen=addresses)
        lines = map(json.loads, (await running.logged('"listening"')).splitlines())
        found = client_addresses(next(line for line in lines if line["event"] == "listening"))
        assert [address.host for address in found] == [address.host for address in addresses]
        asked = request("GET", READ, key=MASTER_KEY)
        assert [await status(address.host, address.port, asked) for address in found] == [200] * 3
        assert running.gateway.address.host == "127.0.0.2"


class TestProcess:
    async def test_all_addresses_drain(self, upstream: StandInCore) -> None:
        """A drain finishes the requests at each address, and none takes new connections then."""
        settings = {"LISTEN": "127.0.0.2:0,127.0.0.3:0", "DRAIN__DELAY": "0s", "DRAIN__TIMEOUT": "10s"}
        async with serving(upstream.url, settings) as process:
            addresses = client_addresses(await process.event("listening"))
            await process.event("ready")
            release = asyncio.Event()
            upstream.behaviour = held(release)
            clients = [await RawClient.connect(address) for address in addresses]
            for client in clients:
                await client.send(request("GET", READ, key=MASTER_KEY))
            await upstream.arrived(2)
            process.terminate()
            await process.event("draining")
            for address in addresses:
                async with asyncio.timeout(5):
                    while await asyncio.to_thread(connects, address.host, address.port):
                        await asyncio.sleep(0.01)
            release.set()
            assert [(await client.response()).status for client in clients] == [200, 200]
            for client in clients:
                await client.close()
            ended = await process.ended()
        assert (ended.code, ended.stderr) == (0, "")

    @pytest.mark.parametrize("setting", ["listen", "admin", "health"])
    async def test_a_taken_port_is_exit_1_and_names_its_setting(
        self, upstream: StandInCore, taken: Address, setting: str
    ) -> None:
        async with serving(upstream.url, {setting.upper(): str(taken)}) as process:
            ended = await process.ended()
        assert (ended.code, ended.stderr) == (
            1,
            f"blnk-gateway: {setting}: cannot listen on {taken}: {TAKEN}\n",
        )


class TestCheck:
    @pytest.mark.parametrize(("options", "code"), [((), 0), (("--strict",), 1)])
    def test_env_warns_of_a_port_that_is_taken(
        self, taken: Address, options: tuple[str, ...], code: int
    ) -> None:
        """A taken port is a warning that names its setting, since a gateway that runs may have it."""
        shipped = str(ROOT / "gateway.yaml")
        environ = {
            "BLNK_MASTER_KEY": "x",
            "BLNK_GATEWAY_LISTEN": f"127.0.0.2:0,{taken}",
            "BLNK_GATEWAY_ADMIN": "127.0.0.1:0",
        }
        found = CliRunner().invoke(cli, ["check", "--config", shipped, "--env", *options], env=environ)
        warning = f"{shipped}: warning: listen: cannot listen on {taken}: {TAKEN}"
        assert (found.exit_code, found.stdout.splitlines()[0]) == (code, warning)
