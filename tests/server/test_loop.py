"""Connections to a name some of whose addresses are dead."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from aiohappyeyeballs import AddrInfoType

from gateway.server.loop import NEXT_SECONDS
from tests.addresses import DEAD, dropping_packets, names, run

LIVE = "127.0.0.9"

both_loops = pytest.mark.parametrize("fast", [True, False], ids=["uvloop", "asyncio"])


async def reached(host: str, port: int) -> str:
    """Return the address that a connection to the name leads to."""
    _, writer = await asyncio.open_connection(host, port)
    sock = writer.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    writer.close()
    address: str = writer.get_extra_info("peername")[0]
    return address


async def listening(host: str) -> asyncio.Server:
    return await asyncio.start_server(lambda _, writer: writer.close(), host, 0)


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


@both_loops
def test_an_address_that_drops_packets_costs_a_moment(fast: bool) -> None:
    async def connect() -> tuple[str, float]:
        async with await listening(LIVE) as server:
            with dropping_packets(port_of(server)):
                began = time.monotonic()
                return await reached("core", port_of(server)), time.monotonic() - began

    address, took = run(connect, names(core=[DEAD, LIVE]), fast=fast)
    assert address == LIVE
    assert NEXT_SECONDS <= took < 3 * NEXT_SECONDS


@both_loops
def test_an_address_that_refuses_costs_nothing(fast: bool) -> None:
    async def connect() -> tuple[str, float]:
        async with await listening(LIVE) as server:
            began = time.monotonic()
            return await reached("core", port_of(server)), time.monotonic() - began

    address, took = run(connect, names(core=[DEAD, LIVE]), fast=fast)
    assert address == LIVE
    assert took < NEXT_SECONDS


@both_loops
def test_the_first_address_is_used_where_it_works(fast: bool) -> None:
    async def connect() -> str:
        async with await listening(LIVE) as server:
            return await reached("core", port_of(server))

    assert run(connect, names(core=[LIVE, DEAD]), fast=fast) == LIVE


@both_loops
def test_where_all_refuse_it_is_a_refusal(fast: bool) -> None:
    async def connect() -> None:
        await asyncio.open_connection("core", 1)

    with pytest.raises(ConnectionRefusedError):
        run(connect, names(core=[DEAD, LIVE]), fast=fast)


@both_loops
def test_a_name_that_moves_is_followed(fast: bool) -> None:
    addresses = [DEAD]

    async def connect() -> list[str]:
        server = await asyncio.start_server(lambda _, writer: writer.close(), ["127.0.0.8", "127.0.0.9"], 0)
        async with server:
            ports = {sock.getsockname()[0]: sock.getsockname()[1] for sock in server.sockets}
            first = await reached("core", ports[DEAD])
            addresses[:] = [LIVE]
            return [first, await reached("core", ports[LIVE])]

    assert run(connect, names(core=addresses), fast=fast) == [DEAD, LIVE]


def test_connections_that_are_made_at_the_same_time_share_a_look_up() -> None:
    """Connections at the same time share a look-up: a name server that hangs holds only one thread."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[AddrInfoType]:
        asked.append(host)
        await asyncio.sleep(0.05)
        return list(await names(core=[LIVE])(host, port))

    async def connect() -> list[str]:
        async with await listening(LIVE) as server:
            first = await asyncio.gather(*(reached("core", port_of(server)) for _ in range(5)))
            return [*first, await reached("core", port_of(server))]

    assert run(connect, resolve) == [LIVE] * 6
    assert asked == ["core", "core"]


def test_one_that_leaves_takes_no_look_up_from_the_others() -> None:
    async def resolve(host: str, port: int) -> list[AddrInfoType]:
        await asyncio.sleep(0.05)
        return list(await names(core=[LIVE])(host, port))

    async def connect() -> str:
        async with await listening(LIVE) as server:
            leaving, staying = (asyncio.create_task(reached("core", port_of(server))) for _ in range(2))
            await asyncio.sleep(0.01)
            leaving.cancel()
            return await staying

    assert run(connect, resolve) == LIVE
