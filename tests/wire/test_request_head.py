"""The heads of requests: all that Core accepts, and nothing that has two readings or is malformed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.errors import Code, GatewayError
from gateway.proxy.errors import code_of
from gateway.wire.head_faults import malformed
from gateway.wire.request_head import MAX_HEAD, read_head
from gateway.wire.request_parser import AT_ONCE, Parsed, RequestReader
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


class TestMethods:
    async def test_that_are_not_registered_are_judged_by_the_routes(
        self, gateway: Running, upstream: StandInCore, reader: Minted
    ) -> None:
        """A method that no RFC knows is no route, as for Core; it is not malformed."""
        client = await gateway.connect()
        responses = [await client.ask("FOO", READ, key=key) for key in (reader.key, None)]
        assert [(response.status, response.code) for response in responses] == [
            (403, "AUTH_INSUFFICIENT_PERMISSIONS"),
            (401, "AUTH_MISSING_API_KEY"),
        ]
        await assert_nothing_forwarded(gateway, upstream)


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
        """A refusal names the header and never its value, whether the head is whole or not."""
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
            (b"GET / HTTP/1.0\r\nA\r\n\r\n", ""),
            (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", ": the method CONNECT is not accepted"),
            (b"GET ?a HTTP/1.1\r\nHost: x\r\n\r\n", ": the request line is not METHOD /path HTTP/1.1"),
            (b"GET / HTTP/1.1\r\nHost: x\r\nA: \x7f\r\n\r\n", ": header A holds a control byte"),
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


def read_in(segments: list[bytes]) -> tuple[list[object], int]:
    """Return what a reader makes of the segments, and what it holds of an unfinished head at the end."""
    reader = RequestReader()
    found: list[Parsed] = []
    for segment in segments:
        found += reader.feed(segment)
    read: list[object] = [
        (head.method, head.target, head.headers.lines, head.length, body.complete, body.take())
        for head, body in found
    ]
    return read, reader.held


HOST = b"Host: x\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
SERVERS = b"Server: a\r\nserver: b  \r\n"
STREAM = b"".join(
    [
        b"GET /a?\xff HTTP/1.1\r\n" + HOST + b"\r\n",
        b"POST /b HTTP/1.1\r\n" + HOST + SERVERS + b"Content-Length: 6\r\n\r\n" + b"a\r\n\r\nb",
        b"\r\nPOST /c HTTP/1.1\r\n" + HOST + SERVERS + b"Transfer-Encoding: chunked\r\n\r\n",
        b'4;a=b;c;d="\\" \xff"\r\n\r\n\r\n\r\n000000000000000A\r\n0123456789\r\n0\r\nServer: x\r\n\r\n',
        b"GET /d HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /e HTTP/1.1\r\n" + HOST + b"Ser",
    ]
)


class TestSegments:
    def test_change_nothing(self) -> None:
        """A stream of requests is read alike however it is cut."""
        doubled = [(b"Host", b"x"), (b"Server", b"a"), (b"server", b"b")]
        expected = [
            ("GET", "/a?\udcff", [(b"Host", b"x")], 0, True, b""),
            ("POST", "/b", [*doubled, (b"Content-Length", b"6")], 6, True, b"a\r\n\r\nb"),
            (
                *("POST", "/c", [*doubled, (b"Transfer-Encoding", b"chunked")], None, True),
                b"\r\n\r\n0123456789",
            ),
            ("GET", "/d", [(b"Host", b"x")], 0, True, b""),
        ]
        unfinished = len(b"GET /e HTTP/1.1\r\n" + HOST + b"Ser")
        for segments in cuts(STREAM):
            assert read_in(segments) == (expected, unfinished)

    @pytest.mark.parametrize(
        "last", [b"Connection: close\r\n", b"Connection: a, CLOSE\r\n", b"Connection: Upgrade\r\n"]
    )
    @pytest.mark.parametrize("behind", [b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", b"{}", b"\r\n\x00"])
    def test_with_bytes_behind_the_last_request_of_a_connection_are_refused(
        self, last: bytes, behind: bytes
    ) -> None:
        """What follows a request that ends its connection may be its body, unannounced: it does not run."""
        closing = b"POST / HTTP/1.1\r\n" + HOST + last + b"\r\n"
        assert refusal_of(closing + behind) == "Malformed HTTP request"
        assert [head.target for head, _ in RequestReader().feed(closing + b"\r\n")] == ["/"]

    def test_behind_those_that_are_read_at_once_are_read_when_they_are_fed_again(self) -> None:
        """A segment of many requests gives a few of them at a time, each with its body."""
        many = b"".join(
            b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n%03d" % (n, n) for n in range(100)
        )
        reader = RequestReader()
        found = reader.feed(many + b"GET /100")
        assert len(found) == AT_ONCE
        while unread := reader.take_unread():
            read = reader.feed(unread)
            assert len(read) <= AT_ONCE
            found += read
        found += reader.feed(b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [head.target for head, _ in found] == [f"/{n}" for n in range(101)]
        assert [body.take() for _, body in found] == [b"%03d" % n for n in range(100)] + [b""]


def refusal_of(data: bytes) -> str:
    """Return the message with which a reader refuses the data."""
    with pytest.raises(GatewayError) as refused:
        RequestReader().feed(data)
    return str(refused.value)


class TestBeginnings:
    @pytest.mark.parametrize(
        "begun",
        [
            b"\x16\x03\x01\x02\x00\x01",
            b"GET / HTTP/1.1\n",
            b"GET / HTTP/2\r\n",
            b"get / HTTP/1.1\r\nHost",
            b"GET / HTTP/1.1\r\nHost: a\x00",
            b"GET / HTTP/1.1\r\nHost: a\rb",
            b"GET / HTTP/1.1\r\nHost: a\nb",
            b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\nA",
            CHUNKED + b"zz",
            CHUNKED + b"5\r\nhellox",
            CHUNKED + b"5\n",
            CHUNKED + b"0\r\nA\x00",
        ],
    )
    def test_that_no_head_has_are_refused_at_once(self, begun: bytes) -> None:
        """A client that speaks something else, TLS for one, gets its response before a head is whole."""
        assert refusal_of(begun).startswith("Malformed HTTP request")
        for segments in cuts(begun):
            with pytest.raises(GatewayError):
                read_in(segments)


class TestSizes:
    @pytest.mark.parametrize(
        "data",
        [
            b"G" * 8191 + b" / HTTP/1.1\r\n" + HOST + b"\r\n",
            b"GET /" + b"a" * 8190 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
            b"GET / HTTP/1.1\r\n" + HOST + b"a" * 8191 + b":\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + HOST + b"a: " + b"a" * 8191 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + HOST + b"a:\r\n" * 128 + b"\r\n",
            b"GET / HTTP/1.1\r\n" + HOST + b"a:\r\n" * 128,
            b"\r\n" * (MAX_HEAD // 2 + 1),
        ],
        ids=["method", "target", "name", "value", "headers", "headers of an unfinished head", "empty lines"],
    )
    def test_of_each_part_are_bounded(self, data: bytes) -> None:
        """No part of a head, and no number of its lines, is larger than the reference says."""
        assert refusal_of(data) == "Request head too large"


class TestLookUps:
    def test_find_headers_by_name(self) -> None:
        """A header is found by its name in lower case, however it was written and however often."""
        lines = b"X-A: 1\r\nx-b: \xc3\xa9\xff\r\nX-a: 2\r\n"
        for more in (b"", b"HOST-A: x\r\n"):
            headers = read_head(b"GET / HTTP/1.1\r\n" + HOST + lines + more + b"\r\n").headers
            assert [headers.count(name) for name in (b"x-a", b"x-b", b"host", b"a")] == [2, 1, 1, 0]
            assert (headers.values(b"x-a"), headers.texts(b"x-b")) == ([b"1", b"2"], ["\u00e9\udcff"])
            assert (headers.value(b"x-a"), headers.text(b"x-b"), headers.text(b"a")) == (
                b"1",
                "\u00e9\udcff",
                "",
            )

    def test_of_a_request_that_is_asked_about_are_those_of_the_asking_one(self) -> None:
        """Headers, framing and persistence stay those of the request that asks."""
        head = b"POST /decide HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nConnection: close\r\n\r\n"
        other = read_head(head).asking("GET", "/a")
        assert (other.method, other.target, other.length, other.keep_alive) == ("GET", "/a", 3, False)
        assert other.headers.value(b"host") == b"x"


class TestPersistence:
    @pytest.mark.parametrize(
        ("minor", "lines", "persists"),
        [
            (1, b"", True),
            (1, b"Connection: keep-alive\r\n", True),
            (1, b"Connection: x,\tClose\r\n", False),
            (1, b"Connection: keep-alive\r\nCONNECTION: close\r\n", False),
            (1, b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n", False),
            (1, b"Upgrade: websocket\r\n", True),
            (0, b"", False),
            (0, b"Connection: Keep-Alive\r\n", True),
            (0, b"Connection: keep-alive, close\r\n", False),
        ],
    )
    def test_is_what_the_version_and_the_client_say(self, minor: int, lines: bytes, persists: bool) -> None:
        """A connection goes on as RFC 9112 section 9.3 says, and not behind an upgrade."""
        head = b"GET / HTTP/1.%d\r\n" % minor + HOST + lines + b"\r\n"
        assert read_head(head).keep_alive is persists


class TestExpectations:
    @pytest.mark.parametrize("value", [b"100-continue", b"100-Continue", b"\t100-continue \t"])
    def test_are_read_with_blanks_around_them(self, value: bytes) -> None:
        """A client that waits to be asked for its body is asked, whatever blanks it writes."""
        head = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nExpect: " + value + b"\r\n\r\n"
        assert read_head(head).expects_continue
        assert not read_head(head.replace(b"HTTP/1.1", b"HTTP/1.0")).expects_continue


class TestFraming:
    @pytest.mark.parametrize(
        ("lines", "length"),
        [
            (b"", 0),
            (b"Content-Length: 0\r\n", 0),
            (b"content-length:  0042 \r\n", 42),
            (b"Content-Length: 999999999999999999\r\n", 999_999_999_999_999_999),
            (b"TRANSFER-ENCODING:chunked\r\n", None),
        ],
    )
    def test_has_one_reading(self, lines: bytes, length: int | None) -> None:
        """The body has the announced length, or comes in chunks."""
        assert read_head(b"POST / HTTP/1.1\r\n" + HOST + lines + b"\r\n").length == length

    @pytest.mark.parametrize(
        "value", [b"", b"+1", b"-1", b"1 1", b"1,1", b"0x1", b"1" * 19, b"\t1", b"1 \t", "\u0661".encode()]
    )
    def test_is_refused_if_a_length_is_no_number(self, value: bytes) -> None:
        """A Content-Length is digits and nothing else, and at most eighteen of them."""
        data = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: " + value + b"\r\n\r\n1"
        assert refusal_of(data) == "Malformed HTTP request: header Content-Length is not a number"

    def test_of_http_1_0_has_no_chunks(self) -> None:
        """Transfer-Encoding is of HTTP/1.1: a server of HTTP/1.0 would not read it (RFC 9112, 6.1)."""
        data = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        assert refusal_of(data) == "Malformed HTTP request: header Transfer-Encoding is not of HTTP/1.0"
