"""The pool of connections to Core, against an upstream on raw asyncio.

Rules kept here:
- What was sent, and on which connection, is asserted on what the upstream recorded.
- Back-pressure is asserted by bytes taken, against the bytes that kernel buffers may hold.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest

from gateway.errors import Code, GatewayError
from gateway.keys.errors import StoreUnavailableError
from gateway.proxy.errors import code_of
from gateway.wire.errors import UpstreamTimeoutError
from gateway.wire.pool import Pool
from gateway.wire.upstream_deadlines import PoolLimits
from gateway.wire.upstream_request import OwnRequest
from gateway.wire.upstream_response import UpstreamResponse
from gateway.wire.upstream_upload import UpstreamUpload
from tests.core_stand_in import Behaviour, Exchange, StandInCore, abort, echo, held, never, raw
from tests.running import eventually

LIMITS = PoolLimits(connections=4, queue=8, connect=5.0, first_byte=5.0, between_bytes=5.0, idle=5.0)
MEGABYTE = 1 << 20
BUFFERS = 24 * MEGABYTE  # more than the kernel and both transports hold between two sockets
KEY = "mk"
EMPTY = {"idle": 0, "busy": 0, "waiting": 0, "detached": 0}

MakePool = Callable[..., Pool]


@pytest.fixture
async def core() -> AsyncIterator[StandInCore]:
    async with StandInCore(KEY) as recording:
        yield recording


@pytest.fixture
async def make_pool(core: StandInCore) -> AsyncIterator[MakePool]:
    pools: list[Pool] = []

    def make(**changes: float) -> Pool:
        loop = asyncio.get_running_loop()
        pool = Pool("127.0.0.1", core.port, replace(LIMITS, **changes), loop)  # type: ignore[arg-type]
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.abort()


@pytest.fixture
async def pool(make_pool: MakePool) -> Pool:
    return make_pool()


class Collected:
    """A reader that keeps the bytes it gets."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        self.data += data


class Held:
    """A source of an upload that records whether it is paused."""

    def __init__(self) -> None:
        self.paused = False
        self.pauses = 0

    def pause_reading(self) -> None:
        self.paused = True
        self.pauses += 1

    def resume_reading(self) -> None:
        self.paused = False


def request(method: str, target: str, body: bytes | None = None) -> bytes:
    length = b"" if body is None else b"Content-Length: %d\r\n" % len(body)
    head = f"{method} {target} HTTP/1.1\r\nHost: core\r\nX-Blnk-Key: {KEY}\r\n".encode()
    return head + length + b"\r\n" + (body or b"")


async def get(pool: Pool, target: str = "/a") -> UpstreamResponse:
    return await pool.request(request("GET", target), OwnRequest(repeatable=True))


async def post(pool: Pool, target: str = "/a") -> UpstreamResponse:
    return await pool.request(request("POST", target, b"{}"), OwnRequest(changes=True))


async def whole(response: UpstreamResponse) -> bytes:
    if response.complete:
        return response.body
    rest = Collected()
    await response.stream(rest)
    return bytes(rest.data)


async def failure_of(pool: Pool, method: str = "GET") -> Code:
    with pytest.raises(GatewayError) as failed:
        await whole(await (get(pool) if method == "GET" else post(pool)))
    return code_of(failed.value)


def responding(head: bytes, body: bytes = b"", *, close: bool = False) -> Behaviour:
    return raw(b"HTTP/1.1 " + head + b"\r\n\r\n" + body, close=close)


def connections(core: StandInCore) -> list[list[str]]:
    """Return the targets that each connection carried."""
    return [[got.target for got in connection.requests] for connection in core.used()]


class TestReuse:
    async def test_one_connection_carries_one_request_after_the_other(
        self, core: StandInCore, pool: Pool
    ) -> None:
        """A kept connection is used again, and each response is the one to its request."""
        core.behaviour = echo
        bodies = [(await get(pool, target)).body for target in ("/a", "/b", "/c")]
        assert bodies == [b'["GET","/a",0]', b'["GET","/b",0]', b'["GET","/c",0]']
        assert connections(core) == [["/a", "/b", "/c"]]
        assert pool.counts == {**EMPTY, "idle": 1, "busy": 0, "waiting": 0}

    async def test_concurrent_requests_have_a_connection_each(self, core: StandInCore, pool: Pool) -> None:
        """Requests at the same time have a connection each while there are slots."""
        release = asyncio.Event()
        core.behaviour = held(release, then=echo)
        asked = [asyncio.create_task(get(pool, f"/{number}")) for number in range(4)]
        await core.arrived(4)
        assert pool.counts == {**EMPTY, "idle": 0, "busy": 4, "waiting": 0}
        release.set()
        bodies = [response.body for response in await asyncio.gather(*asked)]
        assert bodies == [b'["GET","/%d",0]' % number for number in range(4)]
        assert pool.counts == {**EMPTY, "idle": 4, "busy": 0, "waiting": 0}

    @pytest.mark.parametrize(
        "behaviour",
        [
            responding(b"200 OK\r\nContent-Length: 2\r\nConnection: close", b"{}"),
            raw(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", close=False),
            responding(b"200 OK", b"{}", close=True),
        ],
        ids=["Connection: close", "HTTP/1.0", "delimited by its end"],
    )
    async def test_a_response_that_ends_the_connection_ends_it(
        self, core: StandInCore, pool: Pool, behaviour: Behaviour
    ) -> None:
        """A connection that Core closes is not used again."""
        core.script(behaviour)
        assert await whole(await get(pool, "/a")) == b"{}"
        await get(pool, "/b")
        assert connections(core) == [["/a"], ["/b"]]

    async def test_an_idle_connection_ends_in_time(self, core: StandInCore, make_pool: MakePool) -> None:
        """After `idle` seconds without a request the connection is closed."""
        pool = make_pool(idle=0.2)
        await get(pool)
        await asyncio.wait_for(core.used()[0].gone.wait(), 5)
        await eventually(lambda: pool.counts["idle"] == 0, "an empty pool")

    async def test_a_connection_in_use_ends_at_its_age(self, core: StandInCore, make_pool: MakePool) -> None:
        """A connection in use is closed at its age, so that a name that moves is followed under load too."""
        pool = make_pool(age=0.3)
        await get(pool, "/a")
        await get(pool, "/b")
        (connection,) = core.used()
        while not connection.gone.is_set():
            await get(pool, "/busy")
            await asyncio.sleep(0.02)
        await get(pool, "/c")
        assert connections(core)[-1][-1] == "/c"
        assert connections(core)[0][:2] == ["/a", "/b"]

    async def test_an_idle_connection_keeps_nothing_of_the_request_before(self, pool: Pool) -> None:
        """An idle connection does not keep the body of the request before."""
        asked = OwnRequest()
        references = sys.getrefcount(asked)
        assert (await pool.request(request("GET", "/a"), asked)).status == 200
        assert pool.counts["idle"] == 1
        assert sys.getrefcount(asked) == references

    async def test_an_unasked_byte_ends_an_idle_connection(self, core: StandInCore, pool: Pool) -> None:
        """A byte that Core sends on an idle connection is never read as a response."""
        spoken = asyncio.Event()

        async def speak_up(exchange: Exchange) -> None:
            await exchange.respond()
            await spoken.wait()
            await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")

        core.script(speak_up)
        await get(pool, "/a")
        spoken.set()
        await asyncio.wait_for(core.used()[0].gone.wait(), 5)
        core.behaviour = echo
        assert (await get(pool, "/b")).body == b'["GET","/b",0]'

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    @pytest.mark.parametrize("split", [False, True], ids=["at once", "streamed"])
    async def test_a_second_response_behind_the_first_is_never_given(
        self, core: StandInCore, pool: Pool, framing: str, split: bool
    ) -> None:
        """Of two responses to one request the first counts, and the connection is not used again."""
        head, body = {
            "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"first"),
            "chunked": (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"5\r\nfirst\r\n0\r\n\r\n",
            ),
        }[framing]
        extra = b"HTTP/1.1 299 Forged\r\nContent-Length: 6\r\n\r\nforged"
        more = asyncio.Event()

        async def speak_twice(exchange: Exchange) -> None:
            await exchange.write(head if split else head + body + extra)
            if split:
                await more.wait()
                await exchange.write(body + extra)
            await exchange.never()

        core.script(speak_twice)
        response = await get(pool, "/a")
        more.set()
        assert (response.status, await whole(response)) == (200, b"first")
        core.behaviour = echo
        assert (await get(pool, "/b")).body == b'["GET","/b",0]'
        assert connections(core) == [["/a"], ["/b"]]

    async def test_a_trailer_never_leaks_into_the_next_response(self, core: StandInCore, pool: Pool) -> None:
        """A trailer is dropped; the next response on the connection has its own headers only."""
        core.script(
            responding(b"200 OK\r\nTransfer-Encoding: chunked", b"1\r\nx\r\n0\r\nX-Trailer: leak\r\n\r\n"),
            responding(b"200 OK\r\nContent-Length: 0"),
        )
        first = await get(pool)
        assert await whole(first) == b"x"
        second = await get(pool)
        assert (first.head.lines, second.head.lines) == (b"", b"")
        assert connections(core) == [["/a", "/a"]]


class TestBounds:
    async def test_no_more_connections_than_allowed(self, core: StandInCore, make_pool: MakePool) -> None:
        """A request over the limit of connections waits for a slot, and gets it."""
        pool = make_pool(connections=2)
        release = asyncio.Event()
        core.behaviour = held(release, then=echo)
        asked = [asyncio.create_task(get(pool, f"/{number}")) for number in range(6)]
        await core.arrived(2)
        await eventually(lambda: pool.counts["waiting"] == 4, "four that wait")
        assert (len(core.connections), pool.counts["busy"]) == (2, 2)
        release.set()
        bodies = [response.body for response in await asyncio.gather(*asked)]
        assert bodies == [b'["GET","/%d",0]' % number for number in range(6)]
        assert len(core.connections) == 2
        assert pool.counts == {**EMPTY, "idle": 2, "busy": 0, "waiting": 0}

    async def test_a_full_queue_is_503(self, core: StandInCore, make_pool: MakePool) -> None:
        """A request that finds the queue full is refused at once."""
        pool = make_pool(connections=1, queue=1)
        release = asyncio.Event()
        core.behaviour = held(release)
        asked = [asyncio.create_task(get(pool)) for _ in range(2)]
        await eventually(lambda: pool.counts == {**EMPTY, "idle": 0, "busy": 1, "waiting": 1}, "a full queue")
        assert await failure_of(pool) is Code.UNAVAILABLE
        release.set()
        assert [response.status for response in await asyncio.gather(*asked)] == [200, 200]

    async def test_waiting_too_long_is_503(self, core: StandInCore, make_pool: MakePool) -> None:
        """A request that has waited `connect` seconds for a slot is 503."""
        pool = make_pool(connections=1, connect=0.1)
        release = asyncio.Event()
        core.behaviour = held(release)
        holder = asyncio.create_task(get(pool))
        await core.arrived()
        assert await failure_of(pool) is Code.UNAVAILABLE
        release.set()
        await holder

    async def test_one_that_gave_up_takes_no_place_in_the_queue(
        self, core: StandInCore, make_pool: MakePool
    ) -> None:
        """A request that gave up leaves the queue, so that the next may wait in it."""
        pool = make_pool(connections=1, queue=1, connect=0.5)
        release = asyncio.Event()
        core.behaviour = held(release)
        holder = asyncio.create_task(get(pool))
        await core.arrived()
        assert await failure_of(pool) is Code.UNAVAILABLE
        assert pool.counts["waiting"] == 0
        waiting = asyncio.create_task(get(pool))
        await asyncio.sleep(0)
        release.set()
        assert (await waiting).status == 200
        await holder

    async def test_a_lost_connection_gives_its_slot_to_one_that_waits(
        self, core: StandInCore, make_pool: MakePool
    ) -> None:
        """A lost connection gives its slot to a request that waits, as a response does."""
        pool = make_pool(connections=1)
        release = asyncio.Event()
        core.script(held(release, then=abort))
        failing = asyncio.create_task(post(pool))
        await core.arrived()
        waiting = asyncio.create_task(get(pool))
        await eventually(lambda: pool.counts["waiting"] == 1, "one that waits")
        release.set()
        with pytest.raises(GatewayError):
            await failing
        assert (await waiting).status == 200
        assert pool.counts == {**EMPTY, "idle": 1, "busy": 0, "waiting": 0}

    async def test_a_refused_connection_frees_its_slot(self, core: StandInCore, make_pool: MakePool) -> None:
        """A connection that is refused gives its slot back."""
        pool = make_pool(connections=1)
        async with core.refusing():
            for _ in range(3):
                assert await failure_of(pool) is Code.UPSTREAM_UNREACHABLE
            assert pool.counts == EMPTY
        assert (await get(pool)).status == 200

    async def test_a_connection_that_is_cancelled_while_it_is_made_gives_its_slot_back_once(
        self, pool: Pool
    ) -> None:
        """A connection may be cancelled at any turn of the event loop, and gives its slot back once."""
        for turn in range(20):
            asked = asyncio.create_task(get(pool))
            await turns(turn)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            await eventually(lambda: pool.counts["busy"] == 0, "a slot that is free")
            for _ in range(pool.counts["idle"]):
                (await get(pool)).abandon()
            assert pool.counts["busy"] == 0

    async def test_an_aborted_pool_keeps_no_connection(self, core: StandInCore, pool: Pool) -> None:
        """An aborted pool closes every connection at once, and sends no more requests."""
        release = asyncio.Event()
        core.script(echo, held(release))
        await get(pool)
        last = asyncio.create_task(post(pool))
        await core.arrived(2)
        pool.abort()
        with pytest.raises(GatewayError) as failed:
            await last
        assert code_of(failed.value) is Code.UPSTREAM_UNREACHABLE
        assert await failure_of(pool) is Code.UNAVAILABLE
        release.set()
        for connection in core.used():
            await asyncio.wait_for(connection.gone.wait(), 5)
        await eventually(lambda: pool.counts == EMPTY, "an empty pool")


async def turns(count: int) -> None:
    """Let the event loop turn this often."""
    for _ in range(count):
        await asyncio.sleep(0)


class TestDeadlines:
    async def test_a_connection_that_does_not_come_about_is_504(self) -> None:
        """A Core that accepts no connection within `connect` seconds is 504."""
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            # A full backlog leaves further connections without a response.
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                with suppress(BlockingIOError):
                    filler.connect(full.getsockname())
            limits = replace(LIMITS, connect=0.3)
            pool = Pool("127.0.0.1", full.getsockname()[1], limits, asyncio.get_running_loop())
            assert await failure_of(pool) is Code.UPSTREAM_TIMEOUT
            assert pool.counts == EMPTY
            for filler in fillers:
                filler.close()

    async def test_no_first_byte_is_504(self, core: StandInCore, make_pool: MakePool) -> None:
        """A Core that sends no first byte in time gets the request once, and its connection is closed."""
        core.behaviour = never
        pool = make_pool(first_byte=0.2)
        assert await failure_of(pool) is Code.UPSTREAM_TIMEOUT
        assert connections(core) == [["/a"]]
        await eventually(lambda: pool.counts == EMPTY, "an empty pool")

    async def test_a_request_has_a_time_of_its_own(self, core: StandInCore, make_pool: MakePool) -> None:
        """A request may give Core longer than the pool's `first_byte`."""
        release = asyncio.Event()
        core.behaviour = held(release)
        pool = make_pool(first_byte=0.1)
        asked = asyncio.create_task(pool.request(request("GET", "/a"), OwnRequest(first_byte=5.0)))
        assert await failure_of(pool) is Code.UPSTREAM_TIMEOUT
        release.set()
        assert (await asked).status == 200

    @pytest.mark.parametrize(
        "data",
        [b"HTTP/1.1 200 OK\r\nConte", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"],
        ids=["within the head", "within the body"],
    )
    async def test_no_next_byte_is_504(self, core: StandInCore, make_pool: MakePool, data: bytes) -> None:
        """A response that stalls for `between_bytes` seconds is 504."""

        async def stall(exchange: Exchange) -> None:
            await exchange.write(data)
            await exchange.never()

        core.script(stall)
        assert await failure_of(make_pool(between_bytes=0.2)) is Code.UPSTREAM_TIMEOUT

    async def test_a_head_that_comes_slowly_is_504(self, core: StandInCore, make_pool: MakePool) -> None:
        """Its time does not begin anew with each byte."""
        core.script(raw(b"HTTP/1.1 200 OK\r\n", *[b"X-Slow: 1\r\n"] * 50, pause=0.1))
        assert await failure_of(make_pool(between_bytes=0.3)) is Code.UPSTREAM_TIMEOUT

    async def test_a_body_that_is_read_whole_has_a_longest_time(
        self, core: StandInCore, make_pool: MakePool
    ) -> None:
        """Its time does not begin anew with each byte."""
        core.script(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", *[b"x"] * 50, pause=0.1))
        response = await get(make_pool())
        with pytest.raises(UpstreamTimeoutError) as failed:
            await response.read(50, 0.3)
        assert failed.value.reason == "the body of the response was not whole after 0.3 s"

    async def test_interim_responses_do_not_count_as_the_response(
        self, core: StandInCore, make_pool: MakePool
    ) -> None:
        """A Core that sends only 102 is 504 in the end."""

        async def processing(exchange: Exchange) -> None:
            await exchange.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            await exchange.never()

        core.script(processing)
        assert await failure_of(make_pool(first_byte=0.2)) is Code.UPSTREAM_TIMEOUT

    async def test_interim_responses_do_not_begin_the_time_anew(
        self, core: StandInCore, make_pool: MakePool
    ) -> None:
        """A Core that sends one now and then is 504 after `first_byte`."""
        core.script(raw(*[b"HTTP/1.1 102 Processing\r\n\r\n"] * 50, pause=0.1))
        assert await failure_of(make_pool(first_byte=0.3, between_bytes=0.3)) is Code.UPSTREAM_TIMEOUT


class TestStaleConnections:
    """A kept connection may end while a request is on its way to it."""

    async def stale(self, core: StandInCore, pool: Pool, count: int = 1) -> None:
        """Leave `count` idle connections that end at their next request."""
        release = asyncio.Event()
        core.script(*[held(release)] * count)
        asked = [asyncio.create_task(get(pool, "/first")) for _ in range(count)]
        await core.arrived(count)
        release.set()
        await asyncio.gather(*asked)
        core.take()

    async def test_a_get_is_sent_once_more(self, core: StandInCore, pool: Pool) -> None:
        """A GET is repeated on a new connection even if others are idle, since they may be stale as well."""
        await self.stale(core, pool, 3)
        core.script(abort)
        core.behaviour = echo
        assert (await get(pool, "/second")).body == b'["GET","/second",0]'
        assert core.targets == ["/second", "/second"]
        assert [targets for targets in connections(core) if targets != ["/first"]] == [
            ["/first", "/second"],
            ["/second"],
        ]

    async def test_a_get_is_never_sent_three_times(self, core: StandInCore, pool: Pool) -> None:
        """A GET is tried at most twice."""
        await self.stale(core, pool)
        core.behaviour = abort
        assert await failure_of(pool) is Code.UPSTREAM_UNREACHABLE
        assert core.targets == ["/a", "/a"]

    async def test_a_post_is_never_sent_twice(self, core: StandInCore, pool: Pool) -> None:
        """A POST is never repeated, since money must not move twice: it is 502, even if Core got no byte."""
        await self.stale(core, pool)
        core.behaviour = abort
        assert await failure_of(pool, "POST") is Code.UPSTREAM_UNREACHABLE
        assert core.targets == ["/a"]

    async def test_a_get_on_a_new_connection_is_not_sent_twice(self, core: StandInCore, pool: Pool) -> None:
        """A GET on a new connection that ends without a byte is not repeated: Core is broken, not stale."""
        core.behaviour = abort
        assert await failure_of(pool) is Code.UPSTREAM_UNREACHABLE
        assert core.targets == ["/a"]

    async def test_a_get_that_got_a_byte_is_not_sent_twice(self, core: StandInCore, pool: Pool) -> None:
        """A GET that got one byte of a response is not repeated, since Core has read it."""
        await self.stale(core, pool)
        core.behaviour = raw(b"H")
        assert await failure_of(pool) is Code.UPSTREAM_UNREACHABLE
        assert core.targets == ["/a"]

    async def test_an_upload_is_never_sent_twice(self, core: StandInCore, pool: Pool) -> None:
        """An upload is never repeated, since a streamed body is not kept."""
        await self.stale(core, pool)
        core.behaviour = abort
        with pytest.raises(GatewayError) as failed:
            await upload(pool, b"abc")
        assert code_of(failed.value) is Code.UPSTREAM_UNREACHABLE
        assert core.targets == ["/up"]


class Asked:
    """A request that asks for its send permission, and does `first` before it gets it."""

    party = network = "asked"
    changes = repeatable = bodiless = False
    first_byte = 0.0
    client = None

    def __init__(self, first: Callable[[], Awaitable[object]], failure: Exception | None = None) -> None:
        self._first = first
        self._failure = failure
        self._renewed = False

    def unsent(self) -> None: ...

    def ended_late(self, status: int | None) -> None: ...

    def passes(self) -> bool:
        return self._renewed

    async def renew(self) -> None:
        await self._first()
        if self._failure is not None:
            raise self._failure
        self._renewed = True


class TestSendPermission:
    """Send permission is checked when the bytes of a request are about to be sent."""

    async def test_a_connection_that_ended_meanwhile_is_replaced(self, core: StandInCore, pool: Pool) -> None:
        """A connection that ended during the check is replaced, since nothing was sent on it."""
        ended = asyncio.Event()

        async def respond_and_end(exchange: Exchange) -> None:
            await exchange.respond()
            await ended.wait()
            await abort(exchange)

        core.script(respond_and_end)
        await get(pool)

        async def end() -> None:
            ended.set()
            await eventually(lambda: pool.counts["busy"] == 0, "an end of the connection")

        response = await pool.request(request("POST", "/b", b"{}"), Asked(end))
        assert response.status == 200
        assert connections(core) == [["/a"], ["/b"]]

    async def test_a_connection_that_is_given_back_unused_ends_in_time(
        self, core: StandInCore, make_pool: MakePool
    ) -> None:
        pool = make_pool(idle=0.2)
        permission = Asked(partial(asyncio.sleep, 0), StoreUnavailableError())
        with pytest.raises(GatewayError):
            await pool.request(request("GET", "/a"), permission)
        assert pool.counts == {**EMPTY, "idle": 1}
        await eventually(lambda: pool.counts == EMPTY, "an empty pool")
        assert core.targets == []


class TestResponses:
    @pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
    async def test_204_and_304_have_no_body(self, core: StandInCore, pool: Pool, status: bytes) -> None:
        """Responses with 204 and 304 end with their head, whatever it says; the connection stays usable."""
        core.script(responding(status + b"\r\nETag: x"))
        core.behaviour = echo
        first = await get(pool, "/a")
        assert (first.status, first.complete, first.body) == (int(status[:3]), True, b"")
        assert (await get(pool, "/b")).body == b'["GET","/b",0]'
        assert connections(core) == [["/a", "/b"]]

    async def test_head_has_no_body_whatever_its_length_says(self, core: StandInCore, pool: Pool) -> None:
        """A response to HEAD keeps its length and has no body; no other is sent on its connection."""
        core.behaviour = echo
        head = await pool.request(request("HEAD", "/a"), OwnRequest(bodiless=True))
        assert (head.complete, head.body, head.length) == (True, b"", 15)
        assert (await get(pool, "/b")).body == b'["GET","/b",0]'
        assert connections(core) == [["/a"], ["/b"]]

    async def test_headers_keep_their_order_and_bytes(self, core: StandInCore, pool: Pool) -> None:
        """Headers keep their order and bytes, if repeated or beyond ASCII too."""
        core.script(responding(b"200 OK\r\nX-B: 1\r\nx-a: \xff\r\nX-B: 2\r\nContent-Length: 0"))
        assert (await get(pool)).head.lines == b"X-B: 1\r\nx-a: \xff\r\nX-B: 2\r\n"

    @pytest.mark.parametrize("count", [1, 3])
    async def test_interim_responses_are_passed_over(self, core: StandInCore, pool: Pool, count: int) -> None:
        """The final response counts, without the headers of the interim ones before it."""
        interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * count
        core.script(raw(interim + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", close=False))
        response = await get(pool)
        assert (response.status, response.head.lines, response.body) == (200, b"", b"{}")

    @pytest.mark.parametrize(
        "data",
        [
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
            b"garbage\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshor",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        ],
    )
    async def test_what_is_no_whole_response_is_502(self, core: StandInCore, pool: Pool, data: bytes) -> None:
        """Upgrades, garbage, contradictory lengths and cut responses are 502; the request is sent once."""
        core.script(raw(data))
        assert await failure_of(pool) is Code.UPSTREAM_UNREACHABLE
        assert (await get(pool, "/b")).status == 200
        assert connections(core) == [["/a"], ["/b"]]

    async def test_a_response_may_be_abandoned(self, core: StandInCore, pool: Pool) -> None:
        """A response that is abandoned closes its connection and frees the slot."""

        async def long(exchange: Exchange) -> None:
            await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")
            await exchange.never()

        core.script(long)
        (await get(pool)).abandon()
        await eventually(lambda: pool.counts == EMPTY, "an empty pool")
        assert (await get(pool)).status == 200
        assert pool.counts == {**EMPTY, "idle": 1, "busy": 0, "waiting": 0}


async def upload(pool: Pool, *pieces: bytes) -> UpstreamResponse:
    """Stream these pieces in a chunked body."""

    def begin(uploading: UpstreamUpload) -> None:
        for piece in pieces:
            uploading.write(b"%x\r\n%b\r\n" % (len(piece), piece), last=False)
        uploading.write(b"0\r\n\r\n", last=True)

    head = request("POST", "/up")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
    return await pool.upload(head, OwnRequest(changes=True), Held(), begin)


class TestUploads:
    async def test_a_body_arrives_as_it_was_sent(self, core: StandInCore, pool: Pool) -> None:
        """A body arrives piece by piece, and the connection is used again after it."""
        assert (await upload(pool, b"one", b"two")).status == 200
        assert bytes(core.requests[0].body) == b"onetwo"
        assert (await get(pool)).status == 200
        assert connections(core) == [["/up", "/a"]]

    async def test_an_early_response_ends_the_upload(self, core: StandInCore, pool: Pool) -> None:
        """A response before the body is whole is returned, and its connection is never used again."""
        taken: list[UpstreamUpload] = []

        async def early(exchange: Exchange) -> None:
            await exchange.respond("409 Conflict", b"{}")
            await exchange.never()

        core.script(early)
        head = request("POST", "/up")[:-2] + b"Content-Length: 6\r\n\r\n"
        response = await pool.upload(head, OwnRequest(changes=True), Held(), taken.append)
        taken[0].write(b"unsent", last=True)
        assert (response.status, await whole(response)) == (409, b"{}")
        await eventually(lambda: pool.counts == EMPTY, "an empty pool")
        assert (await get(pool)).status == 200
        assert connections(core) == [["/up"], ["/a"]]

    async def test_an_upload_in_progress_has_no_deadline_of_the_response(
        self, core: StandInCore, make_pool: MakePool
    ) -> None:
        """Core's time for the response begins with the last byte that the client sends."""
        pool = make_pool(first_byte=0.2, between_bytes=0.2)
        taken: list[UpstreamUpload] = []
        head = request("POST", "/up")[:-2] + b"Content-Length: 2\r\n\r\n"
        asked = asyncio.create_task(pool.upload(head, OwnRequest(changes=True), Held(), taken.append))
        await core.arrived()
        done, _ = await asyncio.wait({asked}, timeout=0.6)
        assert not done
        taken[0].write(b"{}", last=True)
        assert (await asked).status == 200


class Slow:
    """A reader of the response that pauses Core from its first byte on."""

    def __init__(self, response: UpstreamResponse) -> None:
        self._response = response
        self.taken = 0

    def write(self, data: bytes) -> None:
        if not self.taken:
            self._response.pause_reading()
        self.taken += len(data)


class TestBackPressure:
    async def test_a_slow_reader_holds_core_back(self, core: StandInCore, pool: Pool) -> None:
        """Core can send no more of 64 MB than the buffers hold until the reader goes on; it all arrives."""
        written = 0
        total = 64 * MEGABYTE
        begin = asyncio.Event()

        async def flood(exchange: Exchange) -> None:
            nonlocal written
            await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
            await begin.wait()
            while written < total:
                await exchange.write(bytes(MEGABYTE))
                written += MEGABYTE

        core.script(flood)
        response = await get(pool)
        reader = Slow(response)
        streaming = asyncio.create_task(response.stream(reader))
        begin.set()
        await eventually(lambda: reader.taken > 0, "the first bytes")
        await settled(lambda: written)
        assert written < BUFFERS
        assert reader.taken <= BUFFERS
        response.resume_reading()
        await streaming
        assert reader.taken == total

    async def test_a_reader_slow_from_the_first_bytes_holds_core_back(
        self, core: StandInCore, pool: Pool
    ) -> None:
        """Core is paused even if the buffer is full with the bytes that came with the head."""
        written = 0
        total = 64 * MEGABYTE

        async def flood(exchange: Exchange) -> None:
            nonlocal written
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total
            await exchange.write(head + bytes(MEGABYTE))
            written += MEGABYTE
            while written < total:
                await exchange.write(bytes(MEGABYTE))
                written += MEGABYTE

        core.script(flood)
        response = await get(pool)
        reader = Slow(response)
        streaming = asyncio.create_task(response.stream(reader))
        await eventually(lambda: reader.taken > 0, "the first bytes")
        await settled(lambda: written)
        assert written < BUFFERS
        assert reader.taken <= BUFFERS
        response.abandon()
        with pytest.raises(GatewayError):
            await streaming

    async def test_a_slow_core_holds_the_client_back(self, core: StandInCore, pool: Pool) -> None:
        """A Core that does not read pauses the source, and resumes it as soon as it reads."""
        reading = asyncio.Event()
        core.keep_bodies = False
        core.script(held(reading))
        source = Held()
        taken: list[UpstreamUpload] = []
        total = 64 * MEGABYTE
        head = request("POST", "/up")[:-2] + b"Content-Length: %d\r\n\r\n" % total
        asked = asyncio.create_task(pool.upload(head, OwnRequest(changes=True), source, taken.append))
        await core.arrived()
        sent = 0
        while sent < total and not source.paused:
            taken[0].write(bytes(MEGABYTE), last=False)
            sent += MEGABYTE
            await asyncio.sleep(0)
        assert sent < BUFFERS
        reading.set()
        while sent < total:
            await eventually(lambda: not source.paused, "a source that may go on")
            taken[0].write(bytes(MEGABYTE), last=sent + MEGABYTE == total)
            sent += MEGABYTE
        assert (await asked).status == 200
        assert core.requests[0].body_length == total

    async def test_a_core_that_takes_nothing_more_is_504(
        self, core: StandInCore, make_pool: MakePool
    ) -> None:
        """An upload that Core stops reading is 504 in time, and its source is resumed."""
        pool = make_pool(between_bytes=0.2)
        core.script(never_reading)
        source = Held()
        taken: list[UpstreamUpload] = []
        head = request("POST", "/up")[:-2] + b"Content-Length: %d\r\n\r\n" % (64 * MEGABYTE)
        asked = asyncio.create_task(pool.upload(head, OwnRequest(changes=True), source, taken.append))
        await core.arrived()
        sent = 0
        while not asked.done():
            if not source.paused:
                taken[0].write(bytes(MEGABYTE), last=False)
                sent += MEGABYTE
            await asyncio.sleep(0.01)
        with pytest.raises(GatewayError) as failed:
            await asked
        assert code_of(failed.value) is Code.UPSTREAM_TIMEOUT
        assert sent < BUFFERS
        await eventually(lambda: not source.paused, "a source set free")


async def never_reading(exchange: Exchange) -> None:
    await exchange.never()


async def settled(count: Callable[[], int]) -> None:
    """Return once the count has not moved for as long as a stream takes to fill every buffer."""
    last = -1
    while last != (last := count()):
        await asyncio.sleep(0.3)
