"""The heads of Core's responses: what crosses to the client, what frames the body, and what is refused."""

from __future__ import annotations

import tracemalloc

import pytest

from gateway.wire.errors import BadFramingError
from gateway.wire.upstream_head import HeadReader, UpstreamHead
from tests.wire.asserting import HOP_BY_HOP


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

    @pytest.mark.parametrize("length", [200, 20_000])
    def test_are_remembered_up_to_a_bound(self, length: int) -> None:
        """What is kept stays below a megabyte, however many different lines Core sends, and however long."""
        reader = HeadReader()
        tracemalloc.start()
        for number in range(5000):
            line = b"%d%b" % (number, b"a" * length)
            reader.read(b"HTTP/1.1 200 %b\r\nX-Id: %b\r\n\r\n" % (line, line))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < 1_000_000

    def test_switch_no_protocol(self) -> None:
        """Core was not asked for another protocol, so 101 is no response."""
        with pytest.raises(BadFramingError):
            read(b"Connection: upgrade\r\n", b"HTTP/1.1 101 Switching Protocols")


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
            b"A: \x7f\r\n",
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

    def test_of_chunks_is_refused_before_http_1_1(self) -> None:
        """Transfer-Encoding in HTTP/1.0 is faulty (RFC 9112, 6.1)."""
        with pytest.raises(BadFramingError):
            read(b"Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n", b"HTTP/1.0 200 OK")

    @pytest.mark.parametrize(
        "first",
        [b"HTTP/2 200", b"HTTP/1.2 200 OK", b"http/1.1 200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1  200 OK", b""],
    )
    def test_of_another_protocol_is_refused(self, first: bytes) -> None:
        """A status line of anything but HTTP/1.0 and 1.1 is malformed."""
        with pytest.raises(BadFramingError):
            read(b"", first)
