"""Header lines that cross; test_crossing_headers tests that they cross a real connection so."""

from __future__ import annotations

import pytest

from gateway.wire.headers import Header, request_lines
from tests.wire.asserting import HOP_BY_HOP

FRAMING = [b"Host", b"Content-Length", b"Expect"]
CREDENTIALS = [b"X-Blnk-Key", b"Authorization", b"X-API-Key", b"X_Blnk_Key", b"x-blnk_KEY", b"X_API_KEY"]
SPOKEN = [
    b"Forwarded",
    b"X-Real-IP",
    b"traceparent",
    b"tracestate",
    b"baggage",
    b"X-Forwarded-Port",
    b"X-Forwarded-Prefix",
]
WRITTEN = [b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Request-Id"]
HARMLESS: list[Header] = [
    (b"Accept", b"*/*"),
    (b"X-Twice", b"1"),
    (b"Cookie", b"a=b"),
    (b"X-Twice", b"2"),
    (b"X_Under", b"\xff"),
    (b"Via", b"1.0 edge"),
]


class TestRequestLines:
    @pytest.mark.parametrize("trusted", [False, True])
    def test_other_headers_cross_as_they_are(self, trusted: bool) -> None:
        """Other headers keep their order, case, repetition and bytes."""
        assert request_lines(HARMLESS, trusted=trusted) == (
            b"Accept: */*\r\nX-Twice: 1\r\nCookie: a=b\r\nX-Twice: 2\r\nX_Under: \xff\r\nVia: 1.0 edge\r\n"
        )

    @pytest.mark.parametrize("trusted", [False, True])
    @pytest.mark.parametrize("name", HOP_BY_HOP + FRAMING + CREDENTIALS + WRITTEN)
    def test_what_the_gateway_writes_or_ends_never_crosses(self, name: bytes, trusted: bool) -> None:
        """Hop-by-hop headers, framing, credentials and our own never cross, in any case, trusted or not."""
        headers = [(b"A", b"1"), (name, b"x"), (name.upper(), b"x"), (name.lower(), b"x")]
        assert request_lines(headers, trusted=trusted) == b"A: 1\r\n"

    @pytest.mark.parametrize("name", SPOKEN)
    def test_only_a_trusted_proxy_speaks_for_the_client(self, name: bytes) -> None:
        """Forwarding and trace headers cross from a trusted proxy alone."""
        assert request_lines([(name, b"x")], trusted=False) == b""
        assert request_lines([(name, b"x")], trusted=True) == name + b": x\r\n"

    @pytest.mark.parametrize("name", [*SPOKEN, *WRITTEN, b"X-Forwarded-Anything"])
    def test_an_underscore_is_no_disguise(self, name: bytes) -> None:
        """A name with `_` for `-` is dropped too, since some servers read it as the real one."""
        assert request_lines([(name.replace(b"-", b"_"), b"x")], trusted=False) == b""

    def test_what_connection_nominates_stays_on_its_hop(self) -> None:
        """Every name in every `Connection` header is dropped, before or after it, in any case."""
        headers = [
            (b"X-Early", b"1"),
            (b"Connection", b"close, x-EARLY ,X-Late"),
            (b"connection", b"X-Other"),
            (b"X-Late", b"2"),
            (b"x-other", b"3"),
            (b"X-Kept", b"4"),
        ]
        assert request_lines(headers, trusted=False) == b"X-Kept: 4\r\n"

    @pytest.mark.parametrize("value", [b"keep-alive", b"Close", b"KEEP-ALIVE", b""])
    def test_a_plain_connection_header_nominates_nothing_else(self, value: bytes) -> None:
        """The usual values of `Connection` remove no other header."""
        assert request_lines([(b"Connection", value), (b"A", b"1")], trusted=False) == b"A: 1\r\n"

    def test_none_are_no_lines(self) -> None:
        """A request without headers adds no line."""
        assert request_lines([], trusted=False) == b""
