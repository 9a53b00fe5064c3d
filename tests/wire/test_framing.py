"""Heads from hostile clients: a malformed head is refused whole, and never becomes a second request.

Rules kept here:
- Refused heads carry a canary word, and the teardown of the gateway searches its log for it.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.core_stand_in import StandInCore
from tests.raw_client import request
from tests.running import Minted, Running
from tests.wire.asserting import (
    CANARY,
    EMPTY_CHUNKS,
    READ,
    SMUGGLED,
    STREAMED,
    assert_nothing_forwarded,
    assert_refused,
    get,
    post,
)

MALFORMED = {
    # Two ways to frame one body (RFC 9112, 6.3), the usual request smuggling.
    "length and chunked": post(
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", EMPTY_CHUNKS + SMUGGLED
    ),
    "chunked and length": post(
        b"Transfer-Encoding: chunked\r\nContent-Length: 200\r\n", EMPTY_CHUNKS + SMUGGLED
    ),
    "two lengths": post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!"),
    "two equal lengths": post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
    "a list of lengths": post(b"Content-Length: 5, 5\r\n", b"hello"),
    "a signed length": post(b"Content-Length: +5\r\n", b"hello"),
    "a negative length": post(b"Content-Length: -1\r\n"),
    "a hexadecimal length": post(b"Content-Length: 0x5\r\n", b"hello"),
    "an underscored length": post(b"Content-Length: 1_0\r\n", b"hellohello"),
    "a split length": post(b"Content-Length: 1 0\r\n", b"hellohello"),
    "an empty length": post(b"Content-Length: \r\n", SMUGGLED),
    "an endless length": post(b"Content-Length: 99999999999999999999999999\r\n", b"hello"),
    # Any transfer coding but exactly `chunked`.
    "Chunked": post(b"Transfer-Encoding: Chunked\r\n", EMPTY_CHUNKS),
    "chunked twice in a line": post(b"Transfer-Encoding: chunked, chunked\r\n", EMPTY_CHUNKS + SMUGGLED),
    "chunked on two lines": post(
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", EMPTY_CHUNKS + SMUGGLED
    ),
    "chunked then identity": post(
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", EMPTY_CHUNKS + SMUGGLED
    ),
    "gzip": post(b"Transfer-Encoding: gzip\r\n", SMUGGLED),
    "gzip, chunked": post(b"Transfer-Encoding: gzip, chunked\r\n", EMPTY_CHUNKS),
    "chunked, gzip": post(b"Transfer-Encoding: chunked, gzip\r\n", EMPTY_CHUNKS),
    "identity": post(b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n", b"hello"),
    "xchunked": post(b"Transfer-Encoding: xchunked\r\n", EMPTY_CHUNKS + SMUGGLED),
    "chunked with a parameter": post(b"Transfer-Encoding: chunked;q=1\r\n", EMPTY_CHUNKS),
    "quoted chunked": post(b'Transfer-Encoding: "chunked"\r\n', EMPTY_CHUNKS),
    "an empty coding and a length": post(b"Transfer-Encoding: \r\nContent-Length: 5\r\n", b"hello"),
    "a length and an empty coding": post(b"Content-Length: 5\r\nTransfer-Encoding:\r\n", b"hello"),
    "an empty coding": post(b"Transfer-Encoding: \r\n", EMPTY_CHUNKS + SMUGGLED),
    "a vertical tab before chunked": post(b"Transfer-Encoding: \x0bchunked\r\n", EMPTY_CHUNKS + SMUGGLED),
    "a blank before the colon": post(b"Transfer-Encoding : chunked\r\n", EMPTY_CHUNKS + SMUGGLED),
    "a tab before the colon": post(b"Content-Length\t: 5\r\n", b"hello"),
    "chunked on HTTP/1.0": post(b"Transfer-Encoding: chunked\r\n", EMPTY_CHUNKS).replace(b"1.1", b"1.0", 1),
    # Lines.
    "a folded line": get(headers=b"X-Fold: a\r\n b\r\n"),
    "a folded coding": post(b"Transfer-Encoding:\r\n chunked\r\n", EMPTY_CHUNKS + SMUGGLED),
    "a folded first line": get(f"GET {READ} HTTP/1.1\r\n X-Fold: {CANARY}"),
    "bare LF after the request line": get().replace(b"\r\n", b"\n", 1),
    "bare LF after a header": get(headers=b"X-Bare: 1\nX-More: 2\r\n"),
    "bare LF throughout": get().replace(b"\r\n", b"\n"),
    "bare CR in a value": get(headers=b"X-Bare: a\rb\r\n"),
    "bare CR as a line's end": get(headers=b"X-Bare: a\rTransfer-Encoding: chunked\r\n"),
    "NUL in a value": get(headers=b"X-Nul: a\x00b\r\n"),
    "NUL in a name": get(headers=b"X-N\x00ul: a\r\n"),
    "a control byte in a value": get(headers=b"X-Bell: a\x07b\r\n"),
    "a blank in a name": get(headers=b"X Blank: a\r\n"),
    "no name": get(headers=b": a\r\n"),
    "no colon": get(headers=b"nothing\r\n"),
    "no host": f"GET {READ}&{CANARY} HTTP/1.1\r\nX-Blnk-Key: ".encode() + b"%KEY%\r\n\r\n",
    "two hosts": get(headers=b"Host: y\r\n"),
    # First lines.
    "HTTP/1.2": get(f"GET {READ}&{CANARY} HTTP/1.2"),
    "HTTP/2.0": get(f"GET {READ}&{CANARY} HTTP/2.0"),
    "HTTP/0.9": f"GET {READ}&{CANARY}\r\n\r\n".encode(),
    "lower-case http": get(f"GET {READ}&{CANARY} http/1.1"),
    "no blank before the version": get(f"GET {READ}&{CANARY}HTTP/1.1"),
    "a blank in the target": get(f"GET /ledgers/a {CANARY} HTTP/1.1"),
    "the HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "CONNECT": get(f"CONNECT {CANARY}.example:443 HTTP/1.1"),
    "TLS": bytes.fromhex("16030102000100") + CANARY.encode() + b"\r\n\r\n",
    "a method that is no word": get(f"G@T {READ}&{CANARY} HTTP/1.1"),
}


class TestMalformedHeads:
    @pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
    async def test_is_refused_and_nothing_is_forwarded(
        self, gateway: Running, upstream: StandInCore, writer: Minted, canary: str, data: bytes
    ) -> None:
        """A malformed head is 400 and the connection ends; Core never gets a byte of it."""
        client = await gateway.connect()
        assert_refused(await client.call(data.replace(b"%KEY%", writer.key.encode())))
        assert await client.ended()
        await assert_nothing_forwarded(gateway, upstream)

    @pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
    async def test_takes_the_good_request_before_it_in_the_same_segment_along(
        self, gateway: Running, upstream: StandInCore, writer: Minted, canary: str, data: bytes
    ) -> None:
        """A good request with a malformed one after it in its segment is not forwarded: only 400 is sent."""
        client = await gateway.connect()
        good = request("GET", READ, key=writer.key)
        assert_refused(await client.call(good + data.replace(b"%KEY%", writer.key.encode())))
        assert await client.ended()
        await assert_nothing_forwarded(gateway, upstream)

    async def test_after_an_answered_request_leaves_that_response_alone(
        self, gateway: Running, upstream: StandInCore, writer: Minted, canary: str
    ) -> None:
        """On a kept connection the good request gets its response, and the malformed one is refused."""
        client = await gateway.connect()
        assert (await client.ask("GET", READ, key=writer.key)).status == 200
        assert_refused(await client.call(MALFORMED["two lengths"].replace(b"%KEY%", writer.key.encode())))
        assert await client.ended()
        assert upstream.targets == [READ]

    async def test_comes_in_before_any_key_is_read(self, gateway: Running) -> None:
        """A malformed head is 400 without a key too, since heads are parsed before keys are read."""
        client = await gateway.connect()
        assert_refused(
            await client.call(post(b"Content-Length: x\r\n").replace(b"X-Blnk-Key: %KEY%\r\n", b""))
        )

    @pytest.mark.parametrize(
        "head",
        [
            get(headers=b"X-Large: " + b"a" * 70_000 + b"\r\n"),
            get(headers=b"".join(b"X-%d: %b\r\n" % (number, b"a" * 50) for number in range(20_000))),
            get(f"GET /ledgers?{'a' * 100_000} HTTP/1.1"),
            get(headers=b"X-" + b"a" * 100_000 + b": 1\r\n"),
        ],
        ids=["one large header", "many headers", "a long target", "a long name"],
    )
    async def test_too_large_is_refused(
        self, gateway: Running, upstream: StandInCore, reader: Minted, canary: str, head: bytes
    ) -> None:
        """A head over the limit is 431 or 400, and the response reaches the client."""
        client = await gateway.connect()
        assert_refused(await client.call(head.replace(b"%KEY%", reader.key.encode())), 431, 400)
        assert await client.ended()
        await assert_nothing_forwarded(gateway, upstream)

    async def test_without_end_is_refused_before_it_ends(self, gateway: Running, canary: str) -> None:
        """A head that never ends is refused once it is over the limit."""
        client = await gateway.connect()
        await client.send(f"GET /{CANARY} HTTP/1.1\r\nHost: x\r\n".encode())
        for _ in range(200):
            await client.send(b"X-More: " + b"a" * 5000 + b"\r\n")
        assert_refused(await client.response(), 431, 400)

    async def test_is_refused_though_it_comes_byte_by_byte(
        self, gateway: Running, upstream: StandInCore, writer: Minted, canary: str
    ) -> None:
        """A malformed head is refused however it is cut into segments."""
        client = await gateway.connect()
        for byte in MALFORMED["length and chunked"].replace(b"%KEY%", writer.key.encode()):
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert_refused(await client.response())
        await assert_nothing_forwarded(gateway, upstream)


class TestTabBeforeChunked:
    async def test_is_refused(self, gateway: Running, upstream: StandInCore, writer: Minted) -> None:
        """A tab is optional whitespace (RFC 9110, 5.6.3), but not for every parser: it is refused."""
        client = await gateway.connect()
        data = post(b"Transfer-Encoding:\tchunked\r\n", EMPTY_CHUNKS).replace(b"%KEY%", writer.key.encode())
        response = await client.call(data)
        assert_refused(response)
        await assert_nothing_forwarded(gateway, upstream)


class TestBytesUpstream:
    async def test_one_request_is_one_request(
        self, gateway: Running, upstream: StandInCore, writer: Minted
    ) -> None:
        """Core receives exactly the head and body of what was asked, with one framing header."""
        body = json.dumps({"a": "b"}).encode()
        await gateway.ask("POST", STREAMED, key=writer.key, body=body)
        await gateway.ask("GET", READ, key=writer.key)
        assert b"".join(connection.received for connection in upstream.used()) == b"".join(
            bytes(got.raw) for got in upstream.requests
        )
        post_request, get_request = upstream.requests
        assert (bytes(post_request.body), bytes(get_request.body)) == (body, b"")
        assert post_request.values("content-length") + post_request.values("transfer-encoding") == [
            str(len(body))
        ]
        assert get_request.values("content-length") + get_request.values("transfer-encoding") == []

    async def test_a_header_value_cannot_end_its_line(
        self, gateway: Running, upstream: StandInCore, reader: Minted
    ) -> None:
        """Header values cross byte for byte, and none of them becomes a line of its own."""
        value = "a\tb \xe9 %0d%0aX-Evil: 1 \\r\\n"
        response = await gateway.ask("GET", READ, key=reader.key, headers=[("X-Odd", value)])
        if response.status == 200:
            assert upstream.requests[0].values("x-odd") == [value]
        assert all(got.values("x-evil") == [] for got in upstream.requests)

    async def test_requests_of_a_connection_are_independent(
        self, gateway: Running, upstream: StandInCore, reader: Minted
    ) -> None:
        """No header of one request is sent with the next."""
        client = await gateway.connect()
        await client.ask("GET", READ, key=reader.key, headers=[("X-First", "1"), ("Cookie", "a=b")])
        await client.ask("GET", READ, key=reader.key)
        first, second = upstream.requests
        assert (first.values("x-first"), second.values("x-first"), second.values("cookie")) == (["1"], [], [])
