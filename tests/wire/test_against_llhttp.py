"""What is read here, llhttp reads alike: the parser of Node.js, by way of httptools.

Rules kept here:
- What the gateway accepts, llhttp has to accept, and read as the same messages. llhttp may accept more.
- The gateway accepts more in four cases alone: a query with bytes above ASCII and a method that is not
  registered, as Core does; a target that is not in origin-form, which is refused later; and a trailer that is
  named like a header that frames, which is dropped.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile

import httptools
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.wire.request_parser import Parsed, RequestReader
from gateway.wire.response_parser import ResponseParser
from gateway.wire.upstream_head import HeadReader
from tests.conftest import examples
from tests.streams import changed, segments
from tests.wire.sources import SilentSource

STARTS = [
    b"GET / HTTP/1.1", b"POST /a?b=c HTTP/1.1", b"PUT /a HTTP/1.0", b"DELETE /%2f HTTP/1.1",
    b"GET /\xff HTTP/1.1", b"GET * HTTP/1.1", b"GET a HTTP/1.1", b"GET  / HTTP/1.1", b"GET /a b HTTP/1.1",
    b"GET / HTTP/1.2", b"GET / HTTP/2.0", b"get / HTTP/1.1", b"GET / http/1.1", b"GET /", b"",
    b"\r\nGET / HTTP/1.1", b"GET http://x/ HTTP/1.1", b"CONNECT x:1 HTTP/1.1", b"GET /\t HTTP/1.1",
    b"GET / HTTP/1.1 ", b"GET /#a HTTP/1.1", b"FOO / HTTP/1.1",
]  # fmt: skip
STATUSES = [
    b"HTTP/1.1 200 OK", b"HTTP/1.1 204 No Content", b"HTTP/1.1 404", b"HTTP/1.0 200 OK",
    b"HTTP/1.1 500 \xff", b"HTTP/1.1 100 Continue", b"HTTP/1.1 200 ", b"HTTP/1.1 20 OK",
    b"HTTP/1.1 2000 OK", b"HTTP/1.1  200 OK", b"HTTP/2 200 OK", b"http/1.1 200 OK", b"",
    b"HTTP/1.1 200 a\tb", b"HTTP/1.1 304 Not Modified",
]  # fmt: skip
NAMES = [
    b"Host", b"Content-Length", b"content-length", b"Transfer-Encoding", b"TRANSFER-ENCODING",
    b"Connection", b"X-A", b"X_A", b"Content_Length", b"", b" ", b"X A", b"X\x00", b"X\xff", b"\tHost",
    b"Content-Length ", b"(",
]  # fmt: skip
VALUES = [
    b"x", b"", b"0", b"1", b"5", b"05", b"+5", b"-1", b"5, 5", b"5 5", b"0x5", b"18446744073709551616",
    b"9999999999999999999", b"chunked", b"Chunked", b"chunked, chunked", b"gzip, chunked", b"identity",
    b"chunked;a", b"close", b"keep-alive", b"a\rb", b"a\nb", b"a\x00", b"a\x7f", b"a\tb", b"\xff",
    b"a\r\n b", b"\x0b5", b"Close, X-A",
]  # fmt: skip
COLONS = [
    b": ", b": ", b": ", b":", b":\t ", b" : ", b"", b":\x0b",
]  # fmt: skip
ENDS = [
    b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b" \r\n", b"\t\r\n", b"\r\r\n",
    b"\r\n ",
]  # fmt: skip
BODIES = [
    b"", b"", b"hello", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n",
    b"1\r\na\r\n2;b=c\r\nde\r\n0\r\nX-T: 1\r\n\r\n", b"05\r\nhello\r\n000\r\n\r\n",
    b"A\r\n0123456789\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"5 \r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello!\r\n0\r\n\r\n", b"-1\r\n\r\n", b"fffffffffffffffff\r\n", b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    b"0\r\nbad\r\n\r\n", b"0\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nContent-Length: 3\r\n\r\nabc",
    b";\r\n", b"\r\n", b"g\r\n",
]  # fmt: skip
SOUND = [b"X-A: 1\r\n", b"X-B: a b\r\n", b"User-Agent: a\r\n", b"User-Agent: b\r\n"]
FITTING = [
    *((b"", b""), (b"Content-Length: 5\r\n", b"hello"), (b"Content-Length: 0\r\n", b"")),
    *((b"Transfer-Encoding: chunked\r\n", body) for body in BODIES if body.endswith(b"0\r\n\r\n")),
]

odd_lines = st.tuples(*map(st.sampled_from, (NAMES, COLONS, VALUES, ENDS))).map(b"".join)


@st.composite
def messages(draw: st.DrawFn, starts: list[bytes]) -> bytes:
    """One message: sound, or with odd lines, an odd first line, or a body that does not fit."""
    framing, body = draw(st.sampled_from(FITTING))
    lines = [b"Host: x\r\n", *draw(st.lists(st.sampled_from(SOUND), max_size=2)), framing]
    start = starts[0] if draw(st.integers(0, 3)) else draw(st.sampled_from(starts))
    oddity = draw(st.sampled_from(["", "", "", "", "lines", "body"]))
    if oddity == "lines":
        lines += draw(st.lists(odd_lines, max_size=2))
    elif oddity == "body":
        body = draw(st.sampled_from(BODIES))
    return start + b"\r\n" + b"".join(draw(st.permutations(lines))) + b"\r\n" + body


@st.composite
def streams(draw: st.DrawFn, starts: list[bytes]) -> bytes:
    """Up to three messages, with up to two bytes changed."""
    data = b"".join(draw(st.lists(messages(starts), min_size=1, max_size=3)))
    return changed(draw, data)


cuts = st.lists(st.integers(0, 600), max_size=3)


@dataclass
class Message:
    """A message as a parser reads it."""

    first: tuple[bytes, bytes, bytes]
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    whole: bool = False


class Reading:
    """The messages that llhttp reads: the callbacks of httptools."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.parser: httptools.HttpRequestParser | httptools.HttpResponseParser | None = None
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_head = False

    def on_message_begin(self) -> None:
        self._target, self._headers, self._in_head = b"", [], True

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._headers.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self._in_head = False
        parser = self.parser
        if isinstance(parser, httptools.HttpRequestParser):
            first = (parser.get_method(), self._target, parser.get_http_version().encode())
        else:
            assert parser is not None
            first = b"%d" % parser.get_status_code(), b"", b""
        self.messages.append(Message(first, self._headers))

    def on_body(self, data: bytes) -> None:
        self.messages[-1].body += data

    def on_message_complete(self) -> None:
        self.messages[-1].whole = True


def requests_here(parts: list[bytes]) -> list[Message] | None:
    """Return the requests that the gateway reads, None if it refuses any."""
    reader = RequestReader()
    found: list[Parsed] = []
    try:
        for part in parts:
            found += reader.feed(part)
    except GatewayError:
        return None
    return [
        Message(
            (
                head.method.encode(),
                head.target.encode("utf-8", "surrogateescape"),
                b"1.%d" % head.minor,
            ),
            # A tab around a value is left in it here.
            [(name, value.strip(b" \t")) for name, value in head.headers.lines],
            body.take(),
            body.complete,
        )
        for head, body in found
    ]


METHODS = {b"GET", b"POST", b"PUT", b"DELETE"}
FRAMING_TRAILER = re.compile(rb"0\r\n(?:transfer-encoding|content-length)", re.IGNORECASE)


def is_wider(message: Message) -> bool:
    """Return whether only the gateway accepts the request line (and llhttp knows more methods than these)."""
    method, target, _ = message.first
    return method not in METHODS or not target.isascii() or not target.startswith(b"/")


@examples(1000)
@given(data=streams(STARTS), positions=cuts)
@example(data=b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3, positions=[40])
def test_requests(data: bytes, positions: list[int]) -> None:
    """Requests that are accepted are those that llhttp reads, with the same headers and bodies."""
    mine = requests_here(segments(data, positions))
    if not mine:
        return
    assert requests_here([data]) == mine
    theirs = Reading()
    theirs.parser = httptools.HttpRequestParser(theirs)
    try:
        theirs.parser.feed_data(data)
    except httptools.HttpParserError:
        sound = list(takewhile(lambda message: not is_wider(message), mine))
        # Behind them it refuses one of its exceptions, or the beginning of a head that is held here.
        assert FRAMING_TRAILER.search(data) or theirs.messages[: len(sound)] == sound
        return
    assert theirs.messages == mine


@examples(1000)
@given(data=streams(STATUSES), positions=cuts)
def test_responses(data: bytes, positions: list[int]) -> None:
    """The first response that is accepted is the one that llhttp reads: its status, headers and body."""
    with SilentSource() as source:
        parser = ResponseParser(HeadReader())
        parser.expect(source, bodiless=False)
        try:
            for part in segments(data, positions):
                parser.feed(part)
        except GatewayError:
            return
    response = parser.response
    if response is None:
        return
    parser.end()
    theirs = Reading()
    theirs.parser = httptools.HttpResponseParser(theirs)
    with suppress(httptools.HttpParserError):
        # Behind the first response nothing is read here.
        theirs.parser.feed_data(data)
    first = next(message for message in theirs.messages if int(message.first[0]) >= 200)
    assert first.first[0] == b"%d" % response.status
    sent = {name.lower(): value for name, value in reversed(first.headers)}
    if b"connection" not in sent:
        # Tabs around a value are left in it here.
        assert {name: response.head.value(name).strip(b" \t") for name in sent} == sent
    if response.complete:
        assert first.body == response.body
