"""Heads that Core accepts and the request parser does not; all others are refused with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.errors import Code, GatewayError
from gateway.proxy.errors import code_of
from gateway.wire.request_heads import MAX_HEAD, malformed, with_placeholders
from gateway.wire.request_parser import Parsed, RequestReader
from tests.core_stand_in import StandInCore
from tests.raw_client import chunked, request
from tests.running import Minted, Running
from tests.wire.asserting import READ, STAMPED, STREAMED, assert_nothing_forwarded

TWICE = ["User-Agent", "Content-Type", "ETag", "Server", "Content-Location", "Content-Range", "Max-Forwards"]
KEY_LIKE = "q6ffUolgoI9inZ7LFkMRq1cZf10fVFvSZ8F6lS5-ytI="


def twice(name: str) -> list[tuple[str, str]]:
    """Return a header sent twice, in two spellings, with another header between."""
    return [(name, "a/1"), ("X-Said", "hello"), (name.upper(), "b/2")]


class TestHeadersSentTwice:
    @pytest.mark.parametrize("name", TWICE)
    async def test_reach_core_as_they_came(
        self, gateway: Running, upstream: StandInCore, reader: Minted, name: str
    ) -> None:
        """Repeated headers reach Core as they came; Core decides which one counts."""
        response = await gateway.ask("GET", READ, key=reader.key, headers=twice(name))
        assert response.status == 200
        (got,) = upstream.requests
        assert [line for line in got.headers if line[0].lower() in (name.lower(), "x-said")] == twice(name)

    @pytest.mark.parametrize("name", ["Host", "Content-Length", "Transfer-Encoding"])
    async def test_are_refused_by_name_where_they_frame_a_message(
        self, gateway: Running, upstream: StandInCore, writer: Minted, name: str
    ) -> None:
        """Repeated framing headers are refused by name, even beside one that Core accepts twice."""
        value = "chunked" if name == "Transfer-Encoding" else "0"
        headers = [*twice("User-Agent"), (name, value), (name.lower(), value)]
        response = await gateway.ask("POST", STREAMED, key=writer.key, headers=headers)
        assert response.status == 400
        # The client of the tests adds a Host of its own.
        again = name if name == "Host" else name.lower()
        assert response.json()["error"] == f"Malformed HTTP request: header {again} is sent twice"
        await assert_nothing_forwarded(gateway, upstream)

    async def test_do_not_make_two_keys_one(
        self, gateway: Running, upstream: StandInCore, reader: Minted
    ) -> None:
        """Two headers with a key count as no key."""
        headers = [*twice("Server"), ("x-blnk-key", reader.key)]
        response = await gateway.ask("GET", READ, key=reader.key, headers=headers)
        assert (response.status, response.code) == (401, "AUTH_INVALID_API_KEY")
        await assert_nothing_forwarded(gateway, upstream)

    async def test_share_a_connection_with_any_other_request(
        self, gateway: Running, upstream: StandInCore, writer: Minted
    ) -> None:
        """Requests before and after a repeated header on the same connection stay requests of their own."""
        client = await gateway.connect()
        for headers in ([], twice("Content-Type"), [], twice("User-Agent")):
            assert (await client.ask("GET", READ, key=writer.key, headers=headers)).status == 200
            stamped = await client.ask("POST", STAMPED, key=writer.key, headers=headers, body=b'{"a":1}')
            assert stamped.status == 200
            streamed = request(
                "POST", STREAMED, key=writer.key, headers=[*headers, ("Transfer-Encoding", "chunked")]
            )
            assert (await client.call(streamed + chunked(b"\r\n\r\n", b"{}"))).status == 200
        assert [got.target for got in upstream.requests] == [READ, STAMPED, STREAMED] * 4
        assert {bytes(got.body) for got in upstream.requests if got.target == STREAMED} == {b"\r\n\r\n{}"}


class TestBytesBeyondASCII:
    @pytest.mark.parametrize("raw", ["\u00e9".encode(), "\U0001f600".encode(), b"\xe9", b"\xff\xfe"])
    async def test_cross_in_a_query(
        self, gateway: Running, upstream: StandInCore, reader: Minted, raw: bytes
    ) -> None:
        """Bytes in a query cross unchanged, whatever text they are, and so do percent-encoded ones."""
        target = "/ledgers?name=" + raw.decode("latin-1") + "&a=%C3%A9"
        assert (await gateway.ask("GET", target, key=reader.key)).status == 200
        assert upstream.targets == [target]

    async def test_are_refused_in_a_path(
        self, gateway: Running, upstream: StandInCore, reader: Minted
    ) -> None:
        """Such bytes in a path are refused, and the response says how to write them."""
        response = await gateway.ask("GET", "/ledgers/\xc3\xa9?a=\xc3\xa9", key=reader.key)
        assert (response.status, response.json()["error"]) == (
            400,
            "Malformed HTTP request: a byte outside ASCII in the path; percent-encode it",
        )
        await assert_nothing_forwarded(gateway, upstream)

    @pytest.mark.parametrize("byte", [b"\x00", b"\x01", b"\x7f", b"\t"])
    async def test_open_a_query_to_no_other_byte(
        self, gateway: Running, upstream: StandInCore, reader: Minted, byte: bytes
    ) -> None:
        """Control bytes are refused in a query too."""
        response = await gateway.ask("GET", f"/ledgers?\xe9{byte.decode()}", key=reader.key)
        assert response.status == 400
        await assert_nothing_forwarded(gateway, upstream)


WHY = {
    b"Content-Length: +3\r\n": "header Content-Length is not a number",
    b"content-length: \r\n": "header content-length is not a number",
    b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n": (
        "header Transfer-Encoding is sent beside the other one that frames the body"
    ),
    b"Transfer-Encoding: gzip\r\n": "header Transfer-Encoding is not exactly chunked",
    b"Transfer-Encoding: \r\n": "header Transfer-Encoding is not exactly chunked",
    b"X-Fold: a\r\n secret\r\n": "header X-Fold is folded",
    b"X-Blnk-Key: secr\x01et\r\n": "header X-Blnk-Key holds a control byte",
    b"X-Blnk-Key: secret\x00\r\n": "header X-Blnk-Key holds a control byte",
    b"X-Bare: a\nsecret: b\r\n": "header X-Bare holds a control byte",
    b"host: secret\r\n": "header host is sent twice",
}


class TestRefusals:
    @pytest.mark.parametrize(("lines", "why"), WHY.items())
    async def test_name_the_header_and_never_its_value(
        self, gateway: Running, lines: bytes, why: str
    ) -> None:
        """A refusal names the header and never its value, whether the head is parsed whole or by lines."""
        gateway.forbidden.add("secret")
        head = b"POST /ledgers HTTP/1.1\r\nHost: x\r\n" + lines
        for parts in ([head + b"\r\n"], [head, b"X-More: 1\r\n\r\n"]):
            client = await gateway.connect()
            for part in parts:
                await client.send(part)
            response = await client.response()
            assert (response.status, response.json()["error"]) == (400, f"Malformed HTTP request: {why}")

    @pytest.mark.parametrize(
        ("head", "why"),
        [
            (b"GET / HTTP/1.1\r\nA: b\r\n\r\n", ": header Host is missing"),
            (b"GET / HTTP/1.1\r\nA: b\r\n", ""),
            (b"GET /secret\r\n\r\n", ": the request line is not METHOD /path HTTP/1.1"),
            (b"\x16\x03\x01\x02secret\r\n\r\n", ": the request line is not METHOD /path HTTP/1.1"),
            (b"GET /secret HTTP/1.1\r\nsecret\r\n\r\n", ""),
            (b"GET /secret HTTP/1.1\r\n\xffsecret: x\r\n\r\n", ""),
            (b"GET / HTTP/1.1\r\n secret\r\n\r\n", ""),
            (b"GET / HTTP/1.1\r\n%b: \x01\r\n\r\n" % KEY_LIKE.encode(), ""),
            (
                b"GET / HTTP/1.1\r\n%b: \x01\r\n\r\n" % (b"a" * 44),
                ": header with a long name holds a control byte",
            ),
            (
                b"GET / HTTP/1.1\r\n%b: \x01\r\n\r\n" % (b"a" * 40),
                f": header {'a' * 40} holds a control byte",
            ),
        ],
    )
    def test_name_nothing_else(self, head: bytes, why: str) -> None:
        """A refusal names no target, no line that is no header, and no name that may be a key."""
        problem = malformed(head)
        assert (code_of(problem), str(problem)) == (Code.MALFORMED_REQUEST, "Malformed HTTP request" + why)

    async def test_of_too_many_headers_say_so(self, gateway: Running) -> None:
        """128 headers pass; one more is a head that is too large."""
        headers = [(f"X-{number}", "a") for number in range(128)]
        response = await gateway.ask("GET", "/health", headers=headers[:-1])
        assert response.status == 200
        for more in ([], twice("Server")):
            response = await gateway.ask("GET", "/health", headers=[*more, *headers])
            assert (response.status, response.json()["error"]) == (431, "Request head too large")


def head_of(length: int, name: str = "X") -> bytes:
    """Return a head of exactly this many bytes."""
    head = b"GET /health HTTP/1.1\r\nHost: x\r\n"
    lines = [
        b"%b-%03d: %b\r\n" % (name.encode(), number, b"a" * 8000) for number in range(length // 8000 - 1)
    ]
    rest = length - len(head) - sum(map(len, lines)) - 2
    lines.append(b"Y: %b\r\n" % (b"a" * (rest // 2 - 5)))
    lines.append(b"Z: %b\r\n" % (b"a" * (rest - len(lines[-1]) - 5)))
    return head + b"".join(lines) + b"\r\n"


class TestLength:
    @pytest.mark.parametrize("size", [1 << 20, 4096, 997])
    @pytest.mark.parametrize("doubled", [b"", b"Server: a\r\nServer: b\r\n"])
    async def test_of_a_whole_head_is_bounded(
        self, gateway: Running, upstream: StandInCore, size: int, doubled: bytes
    ) -> None:
        """MAX_HEAD bytes pass and one more is 431, however the head is cut into segments."""
        for length, status in ((MAX_HEAD, 200), (MAX_HEAD + 1, 431)):
            first, _, rest = head_of(length - len(doubled)).partition(b"\r\n")
            head = first + b"\r\n" + doubled + rest
            assert len(head) == length
            client = await gateway.connect()
            for start in range(0, len(head), size):
                await client.send(head[start : start + size])
            response = await client.response()
            assert response.status == status
            if status == 431:
                assert response.json()["error"] == "Request head too large"

    async def test_of_one_that_never_ends_is_bounded(self, gateway: Running) -> None:
        """A head that never ends is refused as soon as it is too long."""
        client = await gateway.connect()
        await client.send(head_of(MAX_HEAD)[:-2])
        await client.send(b"X: ")
        assert (await client.response()).status == 431

    async def test_counts_from_the_last_whole_request_on(
        self, gateway: Running, upstream: StandInCore, writer: Minted
    ) -> None:
        """The length of a head counts neither bodies nor heads before it, however they are cut."""
        body = b"x" * (2 * MAX_HEAD)
        one = request("POST", STREAMED, key=writer.key, body=body) + head_of(MAX_HEAD)
        client = await gateway.connect()
        await client.send(one + one[:-100])
        await client.send(one[-100:])
        assert [(await client.response()).status for _ in range(4)] == [200] * 4


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Yield the data in two segments, cut at each position, and byte by byte."""
    for position in range(1, len(data)):
        yield [data[:position], data[position:]]
    yield [bytes([byte]) for byte in data]


def read_in(segments: list[bytes], loop: asyncio.AbstractEventLoop) -> tuple[list[object], int]:
    """Return what a reader makes of the segments, and what it holds of an unfinished head at the end."""
    reader = RequestReader(loop)
    found: list[Parsed] = []
    for segment in segments:
        found += reader.feed(segment)
    read: list[object] = [
        (
            *(message.method, message.path, message.raw_headers, tuple(message.headers.items())),
            *(payload.is_eof(), payload.read_nowait(-1)),
        )
        for message, payload in found
    ]
    return read, reader.partial


HOST = b"Host: x\r\n"
SERVERS = b"Server: a\r\nserver: b\r\n"
STREAM = b"".join(
    [
        b"GET /a?\xff HTTP/1.1\r\n" + HOST + b"\r\n",
        b"POST /b HTTP/1.1\r\n" + HOST + SERVERS + b"Content-Length: 6\r\n\r\n" + b"a\r\n\r\nb",
        b"\r\nPOST /c HTTP/1.1\r\n" + HOST + SERVERS + b"Transfer-Encoding: chunked\r\n\r\n",
        b"4\r\n\r\n\r\n\r\n0\r\nServer: x\r\n\r\n",
        b"GET /d HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /e HTTP/1.1\r\n" + HOST + b"Ser",
    ]
)


class TestSegments:
    async def test_change_nothing(self) -> None:
        """A stream of requests, most of which the parser refuses, is read alike however it is cut."""
        loop = asyncio.get_running_loop()
        doubled = ((b"Host", b"x"), (b"Server", b"a"), (b"server", b"b"))
        expected = [
            ("GET", "/a?\udcff", ((b"Host", b"x"),), b""),
            ("POST", "/b", (*doubled, (b"Content-Length", b"6")), b"a\r\n\r\nb"),
            ("POST", "/c", (*doubled, (b"Transfer-Encoding", b"chunked")), b"\r\n\r\n"),
            ("GET", "/d", ((b"Host", b"x"),), b""),
        ]
        wanted = [
            (method, path, raw, tuple((name.decode(), value.decode()) for name, value in raw), True, body)
            for method, path, raw, body in expected
        ]
        unfinished = len(b"GET /e HTTP/1.1\r\n" + HOST + b"Ser")
        for segments in cuts(STREAM):
            assert read_in(segments, loop) == (wanted, unfinished)

    async def test_change_nothing_of_ordinary_requests(self) -> None:
        """An unfinished head of an ordinary request is counted from its first byte, however it is cut."""
        loop = asyncio.get_running_loop()
        plain = STREAM.replace(SERVERS, b"Server: a\r\n").replace(b"\xff", b"f")
        whole, unfinished = read_in([plain], loop)
        assert len(whole) == 4
        assert unfinished == len(b"GET /e HTTP/1.1\r\n" + HOST + b"Ser")
        for segments in cuts(plain):
            assert read_in(segments, loop) == (whole, unfinished)

    async def test_of_a_head_behind_a_closing_one_are_refused(self) -> None:
        """Requests after one that closes the connection are refused, if heads are parsed again or not."""
        loop = asyncio.get_running_loop()
        for servers in (b"", SERVERS):
            closing = b"GET / HTTP/1.1\r\n" + HOST + servers + b"Connection: close\r\n\r\n"
            with pytest.raises(GatewayError):
                read_in([closing + closing], loop)

    async def test_with_more_requests_than_are_read_again_are_refused(self) -> None:
        """A segment with more requests than are parsed again is refused: each takes a parser of its own."""
        loop = asyncio.get_running_loop()
        one = b"GET / HTTP/1.1\r\n" + HOST + SERVERS + b"\r\n"
        assert len(read_in([one * 32], loop)[0]) == 32
        with pytest.raises(GatewayError):
            read_in([one * 33], loop)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /\xff HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\nConnection: a\r\nConnection: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nExpect: a\r\nExpect: b\r\nTransfer-Encoding: a\r\nTransfer-Encoding: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nServer: a\r\nServer : b\r\n Server: c\r\nServer",
        b"",
        b"\r\n",
    ],
)
def test_nothing_else_gets_a_placeholder(head: bytes) -> None:
    """No other header is replaced for the parser, least of all those of framing, connection and host."""
    assert with_placeholders(head) == head
