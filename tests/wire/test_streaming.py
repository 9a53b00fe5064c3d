"""Bodies between client and Core: streamed in flat memory, as they come, and stopped by an early response."""

from __future__ import annotations

import asyncio
import hashlib
import resource
import sys

import pytest

from tests.conftest import Start
from tests.core_stand_in import Exchange, StandInCore, early
from tests.raw_client import chunked, request
from tests.running import Minted, Running, eventually
from tests.wire.asserting import READ, STREAMED, assert_nothing_forwarded

MEGABYTE = 1 << 20


FLAT = 60 * MEGABYTE


def resident() -> int:
    """Return the most memory this process has held so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


SIZES = [pytest.param(32, id="32 MB"), pytest.param(200, id="200 MB", marks=pytest.mark.slow)]


class TestLargeBodies:
    @pytest.mark.parametrize("megabytes", SIZES)
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    async def test_an_upload_streams_in_flat_memory(
        self, gateway: Running, upstream: StandInCore, caller: Minted, megabytes: int, framing: str
    ) -> None:
        """Every byte of an upload arrives in order, while the gateway holds only a few of them."""
        digest = hashlib.sha256()
        upstream.keep_bodies = False

        async def take(exchange: Exchange) -> None:
            while piece := await exchange.piece():
                digest.update(piece)
            await exchange.respond()

        upstream.script(take)
        piece = bytes(range(256)) * 256
        count = megabytes * MEGABYTE // len(piece)
        header = (
            ("Content-Length", str(count * len(piece)))
            if framing == "length"
            else ("Transfer-Encoding", "chunked")
        )
        client = await gateway.connect()
        before = resident()
        await client.send(request("POST", STREAMED, key=caller.key, headers=[header]))
        wrapped = piece if framing == "length" else b"%x\r\n%b\r\n" % (len(piece), piece)
        sent = hashlib.sha256()
        for _ in range(count):
            await client.send(wrapped)
            sent.update(piece)
        if framing == "chunked":
            await client.send(b"0\r\n\r\n")
        assert (await client.response()).status == 200
        assert upstream.requests[0].body_length == count * len(piece)
        assert digest.digest() == sent.digest()
        assert resident() - before < FLAT

    @pytest.mark.parametrize("megabytes", SIZES)
    @pytest.mark.parametrize("framing", ["length", "chunked", "until close"])
    async def test_a_download_streams_in_flat_memory(
        self, gateway: Running, upstream: StandInCore, caller: Minted, megabytes: int, framing: str
    ) -> None:
        """Every byte of a download arrives in order, although the client reads slower than Core writes."""
        piece = bytes(range(256)) * 256
        count = megabytes * MEGABYTE // len(piece)
        head = {
            "length": b"Content-Length: %d\r\n" % (count * len(piece)),
            "chunked": b"Transfer-Encoding: chunked\r\n",
            "until close": b"Connection: close\r\n",
        }[framing]
        wrapped = b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece

        async def give(exchange: Exchange) -> None:
            await exchange.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
            for _ in range(count):
                await exchange.write(wrapped)
            if framing == "chunked":
                await exchange.write(b"0\r\n\r\n")
            if framing == "until close":
                exchange.close()

        upstream.script(give)
        client = await gateway.connect(keep=False)
        before = resident()
        await client.send(request("GET", READ, key=caller.key, headers=[("Connection", "close")]))
        status, headers = await client.read_head()
        assert status == 200
        await asyncio.sleep(0.2)  # the client is slow: what Core writes meanwhile must wait in the kernel
        received = 0
        while data := await client.read_some():
            received += len(data)
        if ("Transfer-Encoding", "chunked") in headers:
            assert received > count * len(piece)
        else:
            assert received == count * len(piece)
        assert resident() - before < FLAT

    async def test_a_download_in_pieces_is_passed_on_as_it_comes(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """A piece of a download reaches the client before the next has been written."""
        second = asyncio.Event()

        async def give(exchange: Exchange) -> None:
            await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
            await second.wait()
            await exchange.write(b"two")

        upstream.script(give)
        client = await gateway.connect()
        await client.send(request("GET", READ, key=caller.key))
        assert (await client.read_head())[0] == 200
        assert await client.read_some() == b"one"
        second.set()
        assert await client.read_some() == b"two"

    async def test_an_upload_in_pieces_is_passed_on_as_it_comes(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """A piece of a large body reaches Core before the next has been sent."""
        client = await gateway.connect()
        pieces = [bytes([number]) * 100_000 for number in (1, 2)]
        data = request("POST", STREAMED, key=caller.key, body=b"".join(pieces))
        await client.send(data[: -len(pieces[1])])
        (got,) = await upstream.arrived()
        await eventually(lambda: bytes(got.body) == pieces[0], "the first piece at Core")
        await client.send(pieces[1])
        assert (await client.response()).status == 200
        assert bytes(got.body) == b"".join(pieces)

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    async def test_a_small_body_is_held_until_it_is_whole(
        self, gateway: Running, upstream: StandInCore, caller: Minted, framing: str
    ) -> None:
        """A small body takes no connection to Core until it is whole."""
        client = await gateway.connect()
        if framing == "length":
            data = request("POST", STREAMED, key=caller.key, body=b"onetwo")
        else:
            data = request("POST", STREAMED, key=caller.key, headers=[("Transfer-Encoding", "chunked")])
            data += chunked(b"one", b"two")
        await client.send(data[:-3])
        assert (await gateway.ask("GET", READ, key=caller.key)).status == 200
        assert upstream.targets == [READ]
        await client.send(data[-3:])
        assert (await client.response()).status == 200
        assert bytes(upstream.requests[1].body) == b"onetwo"

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    async def test_a_get_has_no_large_body(
        self, gateway: Running, upstream: StandInCore, caller: Minted, framing: str
    ) -> None:
        """A GET with a large body is refused: it would hold a connection to Core at its client's pace."""
        client = await gateway.connect()
        piece = b"x" * 70_000
        if framing == "length":
            data = request("GET", READ, key=caller.key, body=piece)
        else:
            data = request("GET", READ, key=caller.key, headers=[("Transfer-Encoding", "chunked")])
            data += chunked(piece)
        await client.send(data[:-10])
        response = await client.response()
        assert (response.status, response.code) == (413, "GEN_PAYLOAD_TOO_LARGE")
        await assert_nothing_forwarded(gateway, upstream)


class TestEarlyResponses:
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    async def test_stop_the_upload(
        self, gateway: Running, upstream: StandInCore, caller: Minted, framing: str
    ) -> None:
        """Core's response before the body's end reaches the client, and the rest of the body is not sent."""
        upstream.script(early("413 Payload Too Large", b'{"error":"large"}'))
        client = await gateway.connect()
        piece = bytes(MEGABYTE)
        if framing == "length":
            data = request("POST", STREAMED, key=caller.key, body=piece * 64)
        else:
            data = request("POST", STREAMED, key=caller.key, headers=[("Transfer-Encoding", "chunked")])
            data += chunked(*[piece] * 64)
        upload = asyncio.create_task(client.send(data))
        response = await client.response()
        assert (response.status, response.body) == (413, b'{"error":"large"}')
        await client.rest()
        await upload
        assert [got.complete for got in upstream.requests] == [False]
        assert (await gateway.ask("GET", READ, key=caller.key)).status == 200

    async def test_may_take_longer_than_one_pause_of_theirs(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A response before the body's end may take long: its deadline counts from byte to byte."""

        async def slow(exchange: Exchange) -> None:
            await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
            for _ in range(6):
                await asyncio.sleep(0.2)
                await exchange.write(b"x")

        gateway = await start_gateway(timeouts={"between_bytes": 0.6})
        writer = await gateway.mint("ledgers:*")
        upstream.script(slow)
        client = await gateway.connect()
        await client.send(request("POST", STREAMED, key=writer.key, body=bytes(100_000))[:-1])
        response = await client.response()
        assert (response.status, response.body) == (200, b"xxxxxx")

    async def test_never_lend_the_connection_to_the_next_request(
        self, gateway: Running, upstream: StandInCore, caller: Minted
    ) -> None:
        """A connection to Core with a part of a body on it is not used again."""

        async def respond_first(exchange: Exchange) -> None:
            await exchange.respond("409 Conflict", b"{}")

        upstream.script(respond_first)
        client = await gateway.connect()
        data = request("POST", STREAMED, key=caller.key, body=b'{"a":"' + b"x" * 100_000 + b'"}')
        await client.send(data[:-1])
        assert (await client.response()).status == 409
        assert (await gateway.ask("GET", READ, key=caller.key)).status == 200
        first, second = upstream.used()
        assert [len(first.requests), len(second.requests)] == [1, 1]
        assert not first.requests[0].complete
