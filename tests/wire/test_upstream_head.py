"""The heads of Core's responses: what crosses to the client, what frames the body, and what is refused."""

from __future__ import annotations

import pytest

from gateway.wire.errors import BadFramingError, UpstreamUnreachableError
from gateway.wire.response_parser import NONE, SURPLUS, WHOLE, Part, ResponseParser
from gateway.wire.upstream_head import HeadReader, UpstreamHead
from tests.wire.sources import SilentSource
from tests.wire.test_headers import HOP_BY_HOP


def read(lines: bytes, first: bytes = b"HTTP/1.1 200 OK", reader: HeadReader | None = None) -> UpstreamHead:
    """Return the head with these lines, read for the second time, so that its lines are known."""
    reader = reader or HeadReader()
    head = first + b"\r\n" + lines + b"\r\n"
    reader.read(head)
    return reader.read(head)


class TestLines:
    def test_of_other_headers_cross_as_they_are(self) -> None:
        """Core's other headers reach the client in their order, each as often as it was sent."""
        lines = b"Content-Type: text/plain\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nserver: \xff x\r\n"
        assert read(lines).lines == lines

    def test_have_one_blank_behind_the_name_and_none_at_the_end(self) -> None:
        """Blanks around a value are no part of it (RFC 9112, 5.1)."""
        assert read(b"A:1\r\nB:  2  \r\nC:\r\n").lines == b"A: 1\r\nB: 2\r\nC: \r\n"

    @pytest.mark.parametrize("name", [*HOP_BY_HOP, b"Content-Length", b"X-Request-Id"])
    def test_of_framing_and_of_the_hop_stay_inside(self, name: bytes) -> None:
        """Core's framing, hop-by-hop headers and request id do not reach the client."""
        value = {b"Content-Length": b"5", b"Transfer-Encoding": b"chunked"}.get(name, b"x")
        assert read(name.swapcase() + b": " + value + b"\r\nA: 1\r\n").lines == b"A: 1\r\n"

    @pytest.mark.parametrize(
        "name",
        [
            b"X-Rate-Limit-Limit",
            b"X-Rate-Limit-Duration",
            b"X-Rate-Limit-Request-Remote-Addr",
            b"x-rate-limit-request-forwarded-for",
            b"Ratelimit-Limit",
            b"RateLimit-Remaining",
            b"ratelimit-reset",
        ],
    )
    def test_of_cores_rate_limits_stay_inside(self, name: bytes) -> None:
        """Core's rate limits stay inside: they count the gateway's requests and show its address."""
        assert read(name + b": x\r\nRetry-After: 1\r\n").lines == b"Retry-After: 1\r\n"

    def test_that_connection_names_stay_on_their_hop(self) -> None:
        """Headers that Core names in `Connection` do not reach the client, wherever they stand."""
        head = read(
            b"X-Early: 1\r\nConnection: x-early\r\nDate: x\r\nConnection: X-Late, DATE\r\nX-Late: 2\r\n"
        )
        assert (head.lines, head.dated, head.keep_alive) == (b"", False, True)

    @pytest.mark.parametrize(
        ("line", "dated"), [(b"Date: x\r\n", True), (b"date:x\r\n", True), (b"X-Date: x\r\n", False)]
    )
    def test_tell_whether_the_response_is_dated(self, line: bytes, dated: bool) -> None:
        """A `Date` of Core is known, so that the gateway writes none of its own."""
        assert read(line).dated is dated

    def test_of_many_kinds_are_read_as_well(self) -> None:
        """More lines than are remembered, and longer ones, are read like any other."""
        reader = HeadReader()
        for number in range(2000):
            lines = b"X-Id: %d\r\nX-Long: %b\r\nContent-Length: %d\r\n" % (number, b"a" * number, number)
            head = read(lines, reader=reader)
            assert (head.lines, head.length) == (lines[: lines.index(b"Content")], number)


class TestFraming:
    @pytest.mark.parametrize(
        ("first", "lines", "framing"),
        [
            (b"HTTP/1.1 200 OK", b"", (200, None, False, True)),
            (b"HTTP/1.1 200", b"Content-Length: 0\r\n", (200, 0, False, True)),
            (b"HTTP/1.1 299 ", b"content-length:12\r\n", (299, 12, False, True)),
            (b"HTTP/1.1 500 It \xff", b"Transfer-Encoding: Chunked\r\n", (500, None, True, True)),
            (b"HTTP/1.1 200 OK", b"Connection: a, Close\r\n", (200, None, False, False)),
            (b"HTTP/1.0 200 OK", b"", (200, None, False, False)),
            (b"HTTP/1.0 200 OK", b"Connection: keep-alive\r\n", (200, None, False, True)),
            (
                b"HTTP/1.1 200 OK",
                b"Connection: close\r\nConnection: keep-alive\r\n",
                (200, None, False, False),
            ),
        ],
    )
    def test_is_what_the_head_says(
        self, first: bytes, lines: bytes, framing: tuple[int, int | None, bool, bool]
    ) -> None:
        """Status, length, chunks, and whether the connection goes on, are those of RFC 9112."""
        head = read(lines, first)
        assert (head.status, head.length, head.chunked, head.keep_alive) == framing

    @pytest.mark.parametrize(
        "lines",
        [
            b"Content-Length: 1\r\nContent-Length: 1\r\n",
            b"Content-Length: 1, 1\r\n",
            b"Content-Length: \r\n",
            b"Content-Length: +1\r\n",
            b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: gzip, chunked\r\n",
            b"Transfer-Encoding: \r\n",
            b"Transfer-Encoding: chunked\t\r\n",
            b"Content-Length:\t1\r\n",
            b"A: b\r\n c\r\n",
            b"A : b\r\n",
            b": b\r\n",
            b"A\r\n",
            b"A: b\rc\r\n",
            b"A: b\nc: d\r\n",
            b"A: \x00\r\n",
        ],
    )
    def test_that_has_two_readings_is_refused(self, lines: bytes) -> None:
        """What two clients could read differently is no response, and neither is a malformed line."""
        with pytest.raises(BadFramingError):
            read(lines)

    @pytest.mark.parametrize(
        "first",
        [b"HTTP/2 200", b"HTTP/1.2 200 OK", b"http/1.1 200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1  200 OK", b""],
    )
    def test_of_another_protocol_is_refused(self, first: bytes) -> None:
        """A status line of anything but HTTP/1.0 and 1.1 is malformed."""
        with pytest.raises(BadFramingError):
            read(b"", first)


RESPONSES = {
    "sized": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", WHOLE, True),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n",
        *(WHOLE, True),
    ),
    "closing": (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        *(WHOLE, False),
    ),
    "until the end": (b"HTTP/1.1 200 OK\r\n\r\nhello", Part.BODY_UNTIL_CLOSE, False),
    "behind an interim one": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        *(WHOLE, True),
    ),
    "surplus": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloH", SURPLUS, False),
    "interim alone": (b"HTTP/1.1 102 Processing\r\nA: b\r\n\r\n", NONE, None),
}


class TestSegments:
    @pytest.mark.parametrize(("data", "part", "persistent"), RESPONSES.values(), ids=RESPONSES.keys())
    def test_change_nothing(self, data: bytes, part: Part, persistent: bool | None) -> None:
        """A response is read alike however it is cut into segments."""
        with SilentSource() as source:
            for cut in range(len(data)):
                parser = ResponseParser(HeadReader())
                parser.expect(source, bodiless=False)
                for segment in (data[:cut], data[cut:]) if cut else [bytes([byte]) for byte in data]:
                    parser.feed(segment)
                assert parser.part is part
                response = parser.response
                if persistent is None:
                    assert response is None
                    continue
                assert response is not None
                assert parser.end() is (part is Part.BODY_UNTIL_CLOSE)
                assert (response.complete, response.body) == (True, b"hello")
                assert parser.conclude() is persistent

    def test_of_an_empty_body_need_no_byte_of_it(self) -> None:
        """A response of length 0 is whole with its head."""
        with SilentSource() as source:
            parser = ResponseParser(HeadReader())
            parser.expect(source, bodiless=False)
            parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert (parser.part, parser.conclude()) == (WHOLE, True)

    @pytest.mark.parametrize(
        "begun",
        [
            b"-ERR unknown command",
            b"\x15\x03\x01",
            b"HTTP/1.1 200 OK\nA",
            b"HTTP/2",
            b"HTTP/1.1 200 OK\r\nA: \x00",
        ],
    )
    def test_that_no_response_begins_with_are_refused_at_once(self, begun: bytes) -> None:
        """A server that speaks something else is known before a head could be whole."""
        parser = ResponseParser(HeadReader())
        with pytest.raises(UpstreamUnreachableError):
            parser.feed(begun)

    def test_of_a_head_without_end_are_bounded(self) -> None:
        """A head of Core has 256 KiB at most."""
        parser = ResponseParser(HeadReader())
        parser.feed(b"HTTP/1.1 200 OK\r\nA: " + b"a" * (256 * 1024 - 20))
        with pytest.raises(UpstreamUnreachableError):
            parser.feed(b"a")
