"""One listening socket at a drain: connections that wait are served, on either event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from gateway.config import Address, ListenAddress, UnixAddress
from gateway.server.listener import Listener
from gateway.server.listeners import ACCEPTED
from gateway.server.sockets import PortUse, bound
from tests.addresses import host_and_port

PATIENCE = 5.0
WAITING = 5 * ACCEPTED + 1

loops = pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


class Greeting(asyncio.Protocol):
    """A connection that is greeted and closed as soon as it is made."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(b"hello")  # type: ignore[attr-defined]  # a stream transport
        transport.close()


def listener(loop: asyncio.AbstractEventLoop, connect: Callable[[], asyncio.Protocol] = Greeting) -> Listener:
    (opened,) = bound("listen", Address("127.0.0.1", 0))
    return Listener(opened, connect, ACCEPTED, loop)


def connected(address: ListenAddress) -> socket.socket:
    client = socket.socket(socket.AF_UNIX if isinstance(address, UnixAddress) else socket.AF_INET)
    client.settimeout(PATIENCE)
    try:
        client.connect(address.path if isinstance(address, UnixAddress) else (address.host, address.port))
    except OSError:
        client.close()
        raise
    return client


def received(client: socket.socket) -> bytes:
    """Return what a client receives up to the end of its connection, or to its reset."""
    data = b""
    with client:
        try:
            while more := client.recv(16):
                data += more
        except ConnectionResetError:
            return b"reset"
    return data


class TestStart:
    @loops
    def test_a_port_that_another_program_has_begun_to_listen_at_is_an_error(
        self, new_loop: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        """Until a shared socket listens, another program may; then the start fails, on either event loop."""
        loop = new_loop()
        (opened,) = bound("listen", Address("127.0.0.1", 0), PortUse.SHARED)
        waiting = Listener(opened, Greeting, ACCEPTED, loop)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            address = host_and_port(waiting.address)
            other.bind((address.host, address.port))
            other.listen()
            with pytest.raises(OSError, match="Address already in use"):
                loop.run_until_complete(waiting.start())
        waiting.close()
        loop.close()


class TestDrain:
    @loops
    @pytest.mark.parametrize("turns", range(4))
    def test_every_connection_that_waits_is_served(
        self, new_loop: Callable[[], asyncio.AbstractEventLoop], turns: int
    ) -> None:
        """A drain loses no connection, however many turns have accepted some of those that wait."""

        async def drained() -> list[bytes]:
            loop = asyncio.get_running_loop()
            listening = listener(loop)
            await listening.start()
            clients = [connected(listening.address) for _ in range(WAITING)]
            for _ in range(turns):
                await asyncio.sleep(0)
            await listening.drain()
            with pytest.raises(ConnectionRefusedError):
                connected(listening.address)
            return await asyncio.gather(*(asyncio.to_thread(received, client) for client in clients))

        with asyncio.Runner(loop_factory=new_loop) as runner:
            assert runner.run(drained()) == [b"hello"] * WAITING

    @loops
    def test_a_turn_accepts_as_many_as_ever(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        """A drain accepts in turns as well, so that those beyond a bound are closed in between."""
        made: list[int] = []

        class Counted(Greeting):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made[-1] += 1
                super().connection_made(transport)

        async def count_turns() -> None:
            while True:
                made.append(0)
                await asyncio.sleep(0)

        async def drained() -> None:
            listening = listener(asyncio.get_running_loop(), Counted)
            # It is not started, so the drain accepts them all.
            clients = [connected(listening.address) for _ in range(WAITING)]
            counting = asyncio.create_task(count_turns())
            await listening.drain()
            counting.cancel()
            await asyncio.gather(*(asyncio.to_thread(received, client) for client in clients))

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(drained())
        assert (sum(made), max(made)) == (WAITING, ACCEPTED)

    @loops
    def test_closing_waits_for_nobody(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        """To close it at once resets the connections that wait."""

        async def closed() -> bytes:
            listening = listener(asyncio.get_running_loop())
            client = connected(listening.address)
            listening.close()
            return await asyncio.to_thread(received, client)

        with asyncio.Runner(loop_factory=new_loop) as runner:
            assert runner.run(closed()) == b"reset"
