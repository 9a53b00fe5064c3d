"""Chunked bodies of clients: malformed chunks, extensions and trailers never reach Core."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.core_stand_in import StandInCore
from tests.raw_client import chunked, request
from tests.running import Minted, Running
from tests.wire.asserting import EMPTY_CHUNKS, READ, SMUGGLED, STAMPED, STREAMED, assert_never_completed

MALFORMED_CHUNKS = {
    "no size": b"\r\nhello\r\n" + EMPTY_CHUNKS,
    "a size that is no number": b"zz\r\nhello\r\n" + EMPTY_CHUNKS,
    "a hexadecimal prefix": b"0x5\r\nhello\r\n" + EMPTY_CHUNKS,
    "a signed size": b"+5\r\nhello\r\n" + EMPTY_CHUNKS,
    "a negative size": b"-5\r\nhello\r\n" + EMPTY_CHUNKS,
    "an underscored size": b"1_0\r\nhellohellohello!\r\n" + EMPTY_CHUNKS,
    "a size beyond 64 bits": b"ffffffffffffffffff\r\nhello\r\n" + EMPTY_CHUNKS,
    "bare LF after the size": b"5\nhello\r\n" + EMPTY_CHUNKS,
    "bare LF in an extension": b"5;a\nb\r\nhello\r\n" + EMPTY_CHUNKS,
    "bare LF after the data": b"5\r\nhello\n" + EMPTY_CHUNKS,
    "data longer than its size": b"5\r\nhello!\r\n" + EMPTY_CHUNKS,
    "NUL in an extension": b"5;a\x00\r\nhello\r\n" + EMPTY_CHUNKS,
    "a blank in an extension": b"5;a b\r\nhello\r\n" + EMPTY_CHUNKS,
    "a quote that does not end": b'5;a="b\r\nhello\r\n' + EMPTY_CHUNKS,
}


class TestChunks:
    @pytest.mark.parametrize("body", MALFORMED_CHUNKS.values(), ids=MALFORMED_CHUNKS.keys())
    async def test_malformed_ones_never_complete_a_request(
        self, gateway: Running, upstream: StandInCore, writer: Minted, body: bytes
    ) -> None:
        """A malformed chunk is refused or ends the connection; Core sees no whole request."""
        client = await gateway.connect()
        head = request("POST", STREAMED, key=writer.key, headers=[("Transfer-Encoding", "chunked")])
        await client.send(head)
        await client.send(body + SMUGGLED.replace(b"%KEY%", writer.key.encode()))
        received = await client.rest()
        assert received == b"" or received.startswith(b"HTTP/1.1 400 ")
        assert received.count(b"HTTP/1.1 ") <= 1
        await assert_never_completed(gateway, upstream, STREAMED)

    @pytest.mark.parametrize("target", [STREAMED, STAMPED])
    async def test_extensions_never_cross(
        self, gateway: Running, upstream: StandInCore, writer: Minted, target: str
    ) -> None:
        """A chunk extension is refused or dropped (RFC 9112, 7.1.1); the chunks' content is the body."""
        client = await gateway.connect()
        head = request("POST", target, key=writer.key, headers=[("Transfer-Encoding", "chunked")])
        response = await client.call(head + b'2;ext="a"\r\n{}\r\n0;end\r\n\r\n')
        assert response.status in (200, 400)
        for got in upstream.requests:
            assert b"ext" not in got.raw
            assert b"end" not in got.raw
            assert bytes(got.body).startswith(b"{")

    async def test_many_tiny_ones_cost_linear_time(self, gateway: Running, writer: Minted) -> None:
        """Four times the chunks take about four times the CPU: nothing is copied or searched again."""

        async def cost(count: int) -> float:
            client = await gateway.connect(keep=False)
            head = request("POST", STAMPED, key=writer.key, headers=[("Transfer-Encoding", "chunked")])
            data = head + chunked(b'{"a":"', *([b"x"] * count), b'"}')
            began = time.process_time()
            assert (await client.call(data)).status == 200
            return time.process_time() - began

        await cost(1000)
        assert await cost(40_000) < 4 * 3 * await cost(10_000) + 0.05


class TestTrailers:
    """A trailer is dropped, however it is cut into segments, and never appears in the next request."""

    TRAILERS = b"X-Trailed: 1\r\nX-Blnk-Key: %KEY%\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n"

    @pytest.mark.parametrize("target", [STREAMED, STAMPED])
    @pytest.mark.parametrize("split", ["one segment", "two segments", "a partial successor", "byte by byte"])
    async def test_never_reaches_a_request(
        self, gateway: Running, upstream: StandInCore, writer: Minted, target: str, split: str
    ) -> None:
        """The request with trailers gets a response without them or is refused; the next has none of them."""
        client = await gateway.connect()
        trailers = self.TRAILERS.replace(b"%KEY%", writer.key.encode())
        first = request("POST", target, key=writer.key, headers=[("Transfer-Encoding", "chunked")]) + chunked(
            b"{}", trailers=trailers
        )
        second = request("GET", READ)  # without a key: a key from the trailers would let it through
        for segment in self.segments(first, second, split):
            await client.send(segment)
            await asyncio.sleep(0.01)
        responses = [await client.response()]
        if responses[0].status == 200:
            responses.append(await client.response())
        assert [response.status for response in responses] in ([200, 401], [400])
        assert upstream.targets in ([], [target])
        for got in upstream.requests:
            assert b"X-Trailed" not in got.raw
            assert got.trailers == []

    @staticmethod
    def segments(first: bytes, second: bytes, split: str) -> list[bytes]:
        return {
            "one segment": [first + second],
            "two segments": [first, second],
            "a partial successor": [first + second[:20], second[20:]],
            "byte by byte": [first[:-60], *(bytes([byte]) for byte in first[-60:]), second],
        }[split]

    async def test_with_a_forwarded_successor_leaves_it_clean(
        self, gateway: Running, upstream: StandInCore, writer: Minted
    ) -> None:
        """A request with a key that follows trailers is forwarded with its own headers alone."""
        client = await gateway.connect()
        data = request("POST", STREAMED, key=writer.key, headers=[("Transfer-Encoding", "chunked")])
        data += chunked(b"{}", trailers=b"X-Trailed: 1\r\n") + request("GET", READ, key=writer.key)
        if (await client.call(data)).status == 200:
            assert (await client.response()).status == 200
            assert upstream.targets == [STREAMED, READ]
        assert [got.values("x-trailed") for got in upstream.requests] == [[]] * len(upstream.requests)

    async def test_malformed_is_refused(
        self, gateway: Running, upstream: StandInCore, writer: Minted
    ) -> None:
        """A malformed trailer section never completes a request."""
        client = await gateway.connect()
        head = request("POST", STREAMED, key=writer.key, headers=[("Transfer-Encoding", "chunked")])
        await client.send(head + b"2\r\n{}\r\n0\r\nno colon\r\n\r\n" + SMUGGLED)
        assert b" 200 " not in await client.rest()
        await assert_never_completed(gateway, upstream, STREAMED)
