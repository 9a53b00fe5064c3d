"""A Core that misses its deadline: a request that may change something runs to its end, a read is cut."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.errors import Code
from tests.conftest import Start
from tests.core_stand_in import Behaviour, Exchange, StandInCore, abort, held, never, responding
from tests.raw_client import BrokenResponse
from tests.running import Running, eventually
from tests.wire.asserting import READ, STAMPED, STREAMED, assert_error

LATE = "a request whose time was over has ended at Core"
BODY = b'{"name":"x"}'


def events(gateway: Running) -> list[dict[str, Any]]:
    """Return what the log says of requests that ended late, without what differs from run to run."""
    lines = [json.loads(line) for line in gateway.log.getvalue().splitlines()]
    return [
        {name: line[name] for name in ("route", "key_id", "status")}
        for line in lines
        if line["event"] == LATE
    ]


def connections(gateway: Running, state: str) -> int:
    """Return how many connections to Core are in this state, as the metrics show it."""
    page = gateway.gateway.metrics.exposition("")[0].decode()
    (line,) = [line for line in page.splitlines() if f'upstream_connections{{state="{state}"}}' in line]
    return int(float(line.split()[1]))


def detached(gateway: Running) -> int:
    return connections(gateway, "detached")


@pytest.mark.parametrize("target", [STAMPED, STREAMED])
async def test_a_change_is_never_cancelled(start_gateway: Start, upstream: StandInCore, target: str) -> None:
    """A change that is late is 504 to the client; Core may finish it, and how it ended is logged."""
    gateway = await start_gateway(timeouts={"first_byte": 0.2})
    key = await gateway.mint("ledgers:*")
    release = asyncio.Event()
    upstream.script(held(release))
    assert_error(await gateway.ask("POST", target, key=key.key, body=BODY), Code.UPSTREAM_TIMEOUT)
    (connection,) = upstream.used()
    assert (detached(gateway), connection.gone.is_set()) == (1, False)
    release.set()
    await gateway.logged(LATE)
    assert events(gateway) == [{"route": f"POST {target}", "key_id": key.id, "status": 200}]
    assert detached(gateway) == 0
    assert len(upstream.requests) == 1


async def test_a_change_whose_connection_breaks_in_the_end_is_logged_without_a_status(
    start_gateway: Start, upstream: StandInCore
) -> None:
    """A late change whose connection breaks is logged without a status, since nobody knows if it was done."""
    gateway = await start_gateway(timeouts={"first_byte": 0.2})
    key = await gateway.mint("ledgers:*")
    release = asyncio.Event()
    upstream.script(held(release, then=abort))
    assert_error(await gateway.ask("POST", STAMPED, key=key.key, body=BODY), Code.UPSTREAM_TIMEOUT)
    release.set()
    await gateway.logged(LATE)
    assert events(gateway) == [{"route": "POST /ledgers", "key_id": key.id, "status": None}]


async def test_a_change_that_stalls_within_its_response_is_not_cancelled_either(
    start_gateway: Start, upstream: StandInCore
) -> None:
    """A change that stalls within its response breaks the client's connection, but not Core's."""
    gateway = await start_gateway(timeouts={"between_bytes": 0.2})
    key = await gateway.mint("ledgers:*")
    release = asyncio.Event()

    async def stall(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        await release.wait()
        await exchange.write(b"world")

    upstream.script(stall)
    client = await gateway.connect()
    with pytest.raises(BrokenResponse):
        await client.ask("POST", STAMPED, key=key.key, body=BODY)
    (connection,) = upstream.used()
    assert not connection.gone.is_set()
    release.set()
    await gateway.logged(LATE)
    assert events(gateway) == [{"route": "POST /ledgers", "key_id": key.id, "status": 200}]


async def test_a_read_is_cut(start_gateway: Start, upstream: StandInCore) -> None:
    """A late read is cut, since it changes nothing and Core need not work on it."""
    gateway = await start_gateway(timeouts={"first_byte": 0.2})
    key = (await gateway.mint("ledgers:*")).key
    upstream.script(never)
    assert_error(await gateway.ask("GET", READ, key=key), Code.UPSTREAM_TIMEOUT)
    await eventually(lambda: connections(gateway, "busy") == 0, "a connection given up")
    assert detached(gateway) == 0


async def test_it_holds_no_slot_that_others_need(start_gateway: Start, upstream: StandInCore) -> None:
    """A late request holds no slot: with one slot in all, the next request is served while it runs on."""
    gateway = await start_gateway(upstream={"connections": 1}, timeouts={"first_byte": 0.2})
    key = (await gateway.mint("ledgers:*")).key
    release = asyncio.Event()
    upstream.script(held(release))
    assert_error(await gateway.ask("POST", STAMPED, key=key, body=BODY), Code.UPSTREAM_TIMEOUT)
    assert (await gateway.ask("GET", READ, key=key)).status == 200
    release.set()
    await gateway.logged(LATE)


async def test_how_many_run_on_is_bounded(start_gateway: Start, upstream: StandInCore) -> None:
    """As many late requests run on as there are slots; one more keeps its slot."""
    gateway = await start_gateway(upstream={"connections": 1}, timeouts={"first_byte": 0.2, "connect": 0.3})
    key = (await gateway.mint("ledgers:*")).key
    release = asyncio.Event()
    upstream.script(held(release), held(release))
    for _ in range(2):
        assert_error(await gateway.ask("POST", STAMPED, key=key, body=BODY), Code.UPSTREAM_TIMEOUT)
    assert_error(await gateway.ask("GET", READ, key=key), Code.UNAVAILABLE)
    release.set()
    await eventually(lambda: len(events(gateway)) == 2, "two late ends")
    assert (await gateway.ask("GET", READ, key=key)).status == 200


async def test_a_route_has_a_time_of_its_own(start_gateway: Start, upstream: StandInCore) -> None:
    """A bulk has 15 minutes in the shipped file, whatever `timeouts.first_byte` says."""
    gateway = await start_gateway(timeouts={"first_byte": 0.2})
    key = (await gateway.mint("transactions:*")).key

    async def slow(exchange: Exchange) -> None:
        await exchange.body()
        await asyncio.sleep(0.8)
        await exchange.respond()

    upstream.script(slow)
    body = b'{"transactions":[]}'
    assert (await gateway.ask("POST", "/transactions/bulk", key=key, body=body)).status == 200


@pytest.mark.parametrize("behaviour", [responding(), abort], ids=["responds", "breaks"])
async def test_the_drain_waits_for_it(
    start_gateway: Start, upstream: StandInCore, behaviour: Behaviour
) -> None:
    """A gateway that drains does not cut a request whose client has got 504."""
    gateway = await start_gateway(timeouts={"first_byte": 0.2}, drain={"delay": 0.0, "timeout": 5.0})
    key = await gateway.mint("ledgers:*")
    release = asyncio.Event()
    upstream.script(held(release, then=behaviour))
    assert_error(await gateway.ask("POST", STAMPED, key=key.key, body=BODY), Code.UPSTREAM_TIMEOUT)
    draining = asyncio.create_task(gateway.gateway.drain())
    await asyncio.sleep(0.3)
    assert not draining.done()
    release.set()
    assert await draining == 0
    assert len(events(gateway)) == 1


async def test_the_drain_cuts_it_in_the_end_and_says_so(start_gateway: Start, upstream: StandInCore) -> None:
    """At the end of the drain a late request is cut, and the exit code says so."""
    gateway = await start_gateway(timeouts={"first_byte": 0.2}, drain={"delay": 0.0, "timeout": 0.3})
    key = (await gateway.mint("ledgers:*")).key
    upstream.script(never)
    assert_error(await gateway.ask("POST", STAMPED, key=key, body=BODY), Code.UPSTREAM_TIMEOUT)
    assert await gateway.gateway.drain() == 1
