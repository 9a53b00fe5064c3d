"""Responses of Core, read in segments: their ends, and what is no response."""

from __future__ import annotations

import pytest

from gateway.wire.errors import UpstreamUnreachableError
from gateway.wire.response_parser import NONE, SURPLUS, WHOLE, Part, ResponseParser
from gateway.wire.upstream_head import HeadReader
from tests.wire.sources import SilentSource

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
        """A head of Core has 256 KiB at most, whole or not."""
        parser = ResponseParser(HeadReader())
        parser.feed(b"HTTP/1.1 200 OK\r\nA: " + b"a" * (256 * 1024 - 20))
        with pytest.raises(UpstreamUnreachableError):
            parser.feed(b"a")
        parser = ResponseParser(HeadReader())
        parser.feed(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 200_000)
        with pytest.raises(UpstreamUnreachableError):
            parser.feed(b"a" * 100_000 + b"\r\n\r\n")

    def test_are_named_by_the_first_alone(self) -> None:
        """Only the first bytes of a response tell what its server speaks."""
        parser = ResponseParser(HeadReader())
        parser.feed(b"HTTP/1.1 200 OK\r\nA: b")
        with pytest.raises(UpstreamUnreachableError) as refused:
            parser.feed(b"-\x00")
        assert refused.value.reason == "Core's response is malformed HTTP"
