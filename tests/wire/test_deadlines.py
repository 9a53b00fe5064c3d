"""The deadlines of a client: for its head, its body, its idle connection and its reading of the response."""

from __future__ import annotations

import asyncio

import pytest

from gateway.wire.deadline_timer import NEVER, TICK, Deadlines
from tests.conftest import Start
from tests.core_stand_in import StandInCore, of_size
from tests.raw_client import RawClient, request
from tests.running import eventually
from tests.wire.asserting import READ, STAMPED, STREAMED, assert_never_completed, assert_refused


class TestDeadlines:
    @pytest.mark.parametrize("head", [request("GET", READ)[:-2], b"\r\n" * 40], ids=["head", "empty lines"])
    async def test_a_slow_head_is_cut(self, start_gateway: Start, head: bytes) -> None:
        """A head must be whole in time, even if bytes of it, or empty lines before it, keep coming."""
        gateway = await start_gateway(timeouts={"head": 0.3})
        client = await gateway.connect()
        drip = asyncio.create_task(self.drip(client, head, 0.05))
        assert_refused(await client.response(), 408)
        assert await client.ended()
        drip.cancel()

    async def test_a_connection_that_says_nothing_is_closed(self, start_gateway: Start) -> None:
        """A connection that sends no byte is closed in time."""
        gateway = await start_gateway(timeouts={"head": 0.2, "idle": 0.2})
        client = await gateway.connect()
        assert b" 200 " not in await client.rest()

    async def test_an_idle_connection_is_closed_silently(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """An idle connection is closed without a response, which the next request could take for its own."""
        gateway = await start_gateway(timeouts={"idle": 0.2})
        client = await gateway.connect()
        assert (await client.ask("GET", "/health")).status == 200
        assert await client.ended()

    @pytest.mark.parametrize("target", [STREAMED, STAMPED])
    async def test_a_stalled_body_is_cut(
        self, start_gateway: Start, upstream: StandInCore, target: str
    ) -> None:
        """A body that stops is 408 and the connection ends; Core sees no whole request."""
        gateway = await start_gateway(timeouts={"body": 0.2})
        key = (await gateway.mint("ledgers:*")).key
        client = await gateway.connect()
        await client.send(request("POST", target, key=key, body=b'{"a":1}')[:-1])
        assert_refused(await client.response(), 408)
        assert await client.ended()
        await assert_never_completed(gateway, upstream, target)

    @pytest.mark.parametrize("target", [STREAMED, STAMPED])
    async def test_a_body_that_trickles_is_cut(self, start_gateway: Start, target: str) -> None:
        """A body slower than the slowest pace is 408, even if bytes of it keep coming."""
        gateway = await start_gateway(timeouts={"body": 0.4})
        key = (await gateway.mint("ledgers:*")).key
        client = await gateway.connect()
        whole = request("POST", target, key=key, body=b'{"a":"' + b"x" * 5000 + b'"}')
        head, body = whole[:-5000], whole[-5000:]
        await client.send(head)
        drip = asyncio.create_task(self.drip(client, body, 0.05))
        assert_refused(await client.response(), 408)
        assert await client.ended()
        drip.cancel()

    async def test_a_client_that_reads_nothing_is_cut(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A client that does not read its response is cut in time, and Core's connection with it."""
        gateway = await start_gateway(timeouts={"write": 0.3})
        key = (await gateway.mint("ledgers:read")).key
        upstream.script(of_size(300_000_000))
        client = await gateway.connect(keep=False)
        await client.send(request("GET", READ, key=key))
        await upstream.arrived()
        (connection,) = upstream.used()
        await asyncio.wait_for(connection.gone.wait(), 8)

    @staticmethod
    async def drip(client: RawClient, data: bytes, pause: float) -> None:
        for byte in data:
            await client.send(bytes([byte]))
            await asyncio.sleep(pause)


class Watched:
    """A connection that records when it expired, in the loop's seconds."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.expired: list[float] = []

    def expire(self) -> None:
        self.expired.append(asyncio.get_running_loop().time())


class TestTimer:
    """One timer serves all deadlines."""

    async def test_a_deadline_expires_once_and_within_a_tick_of_its_time(self) -> None:
        """A deadline expires once, never early, and at most one tick late."""
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)
        soon, later, never = Watched(loop.time() + 0.05), Watched(loop.time() + 0.3), Watched(NEVER)
        for watched in (soon, later, never):
            deadlines.watch(watched)
        due = soon.deadline, later.deadline
        await eventually(lambda: bool(later.expired), "the later deadline")
        assert [len(watched.expired) for watched in (soon, later, never)] == [1, 1, 0]
        assert due[0] <= soon.expired[0] < later.expired[0]
        assert due[1] <= later.expired[0]
        for watched in (soon, later, never):
            deadlines.forget(watched)

    async def test_a_deadline_that_moves_counts_as_it_stands(self) -> None:
        """A deadline that was moved by writing the attribute expires at its new time."""
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)
        moved, fixed = Watched(loop.time() + 0.05), Watched(loop.time() + 0.25)
        deadlines.watch(moved)
        deadlines.watch(fixed)
        moved.deadline = NEVER
        await eventually(lambda: bool(fixed.expired), "the fixed deadline")
        assert moved.expired == []
        moved.deadline = loop.time()
        await eventually(lambda: bool(moved.expired), "the moved deadline")
        deadlines.forget(moved)
        deadlines.forget(fixed)

    async def test_what_is_forgotten_does_not_expire(self) -> None:
        """A connection that was forgotten does not expire, and is not counted."""
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)
        gone, other = Watched(loop.time()), Watched(loop.time() + 0.15)
        deadlines.watch(gone)
        deadlines.watch(other)
        deadlines.forget(gone)
        deadlines.forget(gone)
        assert len(deadlines) == 1
        await eventually(lambda: bool(other.expired), "the other deadline")
        assert gone.expired == []
        deadlines.forget(other)

    async def test_one_that_expires_may_end_others(self) -> None:
        """A connection that expires may forget others while the timer goes through them."""
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)

        class Ending(Watched):
            def expire(self) -> None:
                super().expire()
                deadlines.forget(self)

        ending = [Ending(loop.time()) for _ in range(3)]
        for watched in ending:
            deadlines.watch(watched)
        await eventually(lambda: len(deadlines) == 0, "an empty watch")
        assert [len(watched.expired) for watched in ending] == [1, 1, 1]

    async def test_it_wakes_up_again_for_a_newcomer(self) -> None:
        """A timer with no connection rests, and starts again with the next one."""
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)
        first = Watched(loop.time())
        deadlines.watch(first)
        await eventually(lambda: bool(first.expired), "the first deadline")
        deadlines.forget(first)
        await asyncio.sleep(2 * TICK)  # the timer fires once more, and finds nothing
        second = Watched(loop.time())
        deadlines.watch(second)
        await eventually(lambda: bool(second.expired), "the second deadline")
        deadlines.forget(second)
