"""A listening socket at which no further connection begins, on Linux."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from gateway.config import Address
from gateway.server.connect_filter import ignore_new_connections
from gateway.server.sockets import QUEUE, PortUse, bound

CLIENTS = 40
REPEATED_SECONDS = 1.0  # a client repeats the first segment after this time (RFC 6298, section 2)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def shared(port: int = 0) -> socket.socket:
    (opened,) = bound("listen", Address("127.0.0.1", port), PortUse.SHARED)
    opened.listen(QUEUE)
    opened.setblocking(False)
    return opened


def queue_of(listening: socket.socket) -> int:
    """Accept and close all connections that wait; return how many they were."""
    count = 0
    while True:
        try:
            listening.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


async def connected(port: int) -> socket.socket:
    client = socket.socket()
    client.setblocking(False)
    async with asyncio.timeout(10):
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    return client


class TestIgnoring:
    async def test_a_client_that_is_ignored_finds_the_other_process(self) -> None:
        """Connections that the system gives to a socket that ignores them are made at the other one later.

        40 clients, of which the system gives each to either socket: the chance that it gives all to one is
        one in 500 billion.
        """
        with shared() as ending:
            port = ending.getsockname()[1]
            with shared(port) as other:
                ignore_new_connections(ending)
                clients = [asyncio.create_task(connected(port)) for _ in range(CLIENTS)]
                await asyncio.sleep(REPEATED_SECONDS / 2)
                early = sum(client.done() for client in clients)
                assert (queue_of(ending), queue_of(other)) == (0, early)
                assert 0 < early < CLIENTS
                ending.close()
                for client in clients:
                    (await client).close()
                assert queue_of(other) == CLIENTS - early

    async def test_a_connection_that_was_made_before_is_served(self) -> None:
        """What waits in the queue stays there, and its bytes come through."""
        with shared() as ending:
            client = await connected(ending.getsockname()[1])
            ignore_new_connections(ending)
            with client, ending.accept()[0] as accepted:
                client.sendall(b"request")
                accepted.settimeout(10)
                assert accepted.recv(16) == b"request"
