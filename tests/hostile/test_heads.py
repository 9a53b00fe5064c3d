"""Generated heads, framings and cuts: whatever a client sends, Core reads only what the gateway decided on.

Rules kept here:
- Every request that reaches Core whole is one that the client got a response to, matched by its id,
  which no client can choose.
- Core's side is judged on the recorded bytes, by a reader as lenient as a careless server.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.conftest import examples
from tests.core_stand_in import Request
from tests.hostile.conftest import Stage
from tests.raw_client import BrokenResponse, RawClient, Response
from tests.running import MASTER_KEY
from tests.streams import changed, segments

pytestmark = pytest.mark.asyncio(loop_scope="module")

_HEADER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t \x21-\x7e\x80-\xff]*")
_REQUEST_LINE = rb"[A-Z]+ /[!-~]*(\?[!-~\x80-\xff]*)? HTTP/1\.1"
_KEY_LIKE = re.compile(rb"x[-_]blnk[-_]key", re.IGNORECASE)

HOPS = ("connection", "expect", "http2-settings", "keep-alive", "te", "trailer", "upgrade")

# %KEY% stands for the caller's key, %OTHER% for another good one, %MASTER% for a guess at Core's.
SMUGGLED = b"GET /balances/smuggled HTTP/1.1\r\nHost: x\r\nX-Blnk-Key: %KEY%\r\nX-Request-Id: chosen\r\n\r\n"
REQUEST_LINES = [
    *(b"GET /ledgers HTTP/1.1", b"POST /ledgers/filter HTTP/1.1", b"POST /ledgers HTTP/1.1"),
    *(b"GET /health HTTP/1.1", b"PUT /ledgers/x HTTP/1.1", b"DELETE /balance-monitors/x HTTP/1.1"),
    *(b"GET /ledgers?a=\xc3\xa9 HTTP/1.1", b"POST /ledgers?\xff HTTP/1.1", b"GET /ledgers/\xc3\xa9 HTTP/1.1"),
    *(b"GET /ledgers HTTP/1.0", b"POST /ledgers/filter HTTP/1.0", b"get /ledgers HTTP/1.1"),
    *(b"GET  /ledgers HTTP/1.1", b"GET /ledgers  HTTP/1.1", b" GET /ledgers HTTP/1.1", b"GET /ledgers"),
    *(b"GET http://x/ledgers HTTP/1.1", b"GET /ledgers HTTP/1.2", b"CONNECT x:1 HTTP/1.1"),
    *(b"GET\t/ledgers\tHTTP/1.1", b"POST /ledgers/filter HTTP/1.1 ", b"\r\nGET /ledgers HTTP/1.1"),
    b"OPTIONS * HTTP/1.1",
]
SOUND_LINES = 8
NAMES = [
    *(b"Content-Length", b"Content-Length", b"Transfer-Encoding", b"Transfer-Encoding", b"Connection"),
    *(b"content-length", b"TRANSFER-ENCODING", b"Content_Length", b"Transfer-Encoding ", b"\tContent-Length"),
    *(b"Host", b"Host", b"Expect", b"TE", b"Trailer", b"Upgrade", b"Keep-Alive", b"HTTP2-Settings", b"Via"),
    *(
        b"X-Blnk-Key",
        b"x-blnk-key",
        b"X_Blnk_Key",
        b"Authorization",
        b"X-API-Key",
        b"X-Request-Id",
        b"X-Forwarded-For",
    ),
    *(b"Cookie", b"X-Odd", b"", b" ", b"X Y", b"X\x00Y", b"X\xffY", b"X\x0bY", b"(", b"Content-Length:"),
]
VALUES = [
    *(b"0", b"1", b"2", b"5", b"05", b"+5", b"-1", b"5, 5", b"0x5", b"5 5", b"1e1", b"99999999999999999999"),
    *(b"chunked", b"chunked", b"Chunked", b"chunked, chunked", b"identity", b"gzip, chunked", b"chunked;a"),
    *(b"close", b"keep-alive", b"upgrade", b"X-Blnk-Key", b"Content-Length", b"Transfer-Encoding", b"Host"),
    *(b"100-continue", b"websocket", b"h2c", b"%OTHER%", b"%MASTER%", b"chosen", b"trailers", b"x", b""),
    *(b"a\rb", b"a\nb", b"a\x00b", b"a\x0bchunked", b"\xff", b"\x7f", b"a\r\n b", b"%LONG%"),
]
# Text that a careless reader takes for another header in a value, or another request in a body.
EVIL = [b"a\rX-Evil: 1", b"a\nX-Evil: 1", b"a\x00X-Evil: 1", b"%0d%0aX-Evil: 1", b"a\r\n X-Evil: 1"]
BODIES = [
    *(b"", b"", b"{}", b"hello", b"\r\n", SMUGGLED),
    *(b"0\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\n0\r\nX-Evil: 1\r\n\r\n"),
    *(b"0\r\n\r\n" + SMUGGLED, b"5\r\nhello\r\n0\r\n\r\n", b"05\r\nhello\r\n0\r\n\r\n"),
    *(b"5\nhello\n0\n\n", b"5;a=b\r\nhello\r\n0\r\n\r\n", b"5\r\nhello!\r\n0\r\n\r\n"),
    *(b"-1\r\n\r\n", b"ffffffffffffffff1\r\n\r\n", b"0 \r\n\r\n", b"2\r\n{}0\r\n\r\n"),
    b"0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
]
ENDS = st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b"\r\r\n", b"\r\n "])
COLONS = st.sampled_from([b": "] * 8 + [b":", b" : ", b":\t", b"", b":\x0b"])
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: %d\r\n"
FITTING = [
    *((b"", b""), (b"", b""), (LENGTH % 0, b""), (LENGTH % 2, b"{}"), (LENGTH % len(SMUGGLED), SMUGGLED)),
    *(
        (CHUNKED, body)
        for body in BODIES
        if body[-7:] == b"\r\n0\r\n\r\n" or body.endswith(b"X-Evil: 1\r\n\r\n")
    ),
    *((CHUNKED, b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)), (b"", SMUGGLED)),
]
# Lines that every parser accepts; which of them cross is tested elsewhere.
SOUND = [
    *(b"Connection: keep-alive\r\n", b"X-Said: hello\r\n", b"Expect: 100-continue\r\n", b"TE: x\r\n"),
    *(b"X_Blnk_Key: %OTHER%\r\n", b"x-blnk_key: %OTHER%\r\n", b"X-API-Key: %OTHER%\r\n"),
    *(b"Authorization: Bearer %OTHER%\r\n", b"X-Request-Id: chosen\r\n", b"X_Request_Id: chosen\r\n"),
    *(b"Connection: X-Blnk-Key, Host, Via, X-Request-Id\r\n", b"Connection: close, TE\r\n"),
    *(b"User-Agent: a\r\n", b"user-agent: b\r\n", b"Content-Type: a\r\nContent-Type: b\r\n"),
    *(b"User-Agent: a\r\nX-Said: hello\r\nUSER-AGENT: c\r\n", b"_ser-Agent: a\r\n"),
    *(b"Trailer: X-Evil\r\n", b"Via: 1.1 blnk-gateway\r\n", b"Content_Length: 0\r\n"),
]

lines_of = st.tuples(st.sampled_from(NAMES), COLONS, st.sampled_from([*VALUES, *EVIL]), ENDS)
odd_lines = st.lists(lines_of.map(b"".join), max_size=2)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request: sound, or with odd lines, a first line of any kind, or a body that does not fit."""
    lines = [b"Host: x\r\n", b"X-Blnk-Key: %KEY%\r\n", *draw(st.lists(st.sampled_from(SOUND), max_size=2))]
    first, framing, body = draw(st.sampled_from(REQUEST_LINES[:SOUND_LINES])), *draw(st.sampled_from(FITTING))
    oddity = draw(st.sampled_from(["", "", "", "", "lines", "lines", "first", "body", "headless"]))
    if oddity == "lines":
        lines += draw(odd_lines)
    elif oddity == "first":
        first = draw(st.sampled_from(REQUEST_LINES))
    elif oddity == "body":
        body = draw(st.sampled_from(BODIES))
    elif oddity == "headless":
        lines = draw(st.permutations(lines))[1:]
    return first + b"\r\n" + b"".join(draw(st.permutations([*lines, framing]))) + b"\r\n" + body


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """The bytes of one client: up to four requests, with up to two bytes changed."""
    data = b"".join(draw(st.lists(requests(), min_size=1, max_size=4)))
    return changed(draw, data)


cuts = st.lists(st.integers(0, 2000), max_size=4)


async def responses_of(client: RawClient) -> list[Response]:
    """Return every whole response until the connection ends."""
    found = []
    while True:
        try:
            found.append(await client.response())
        except BrokenResponse:
            return found


def head_faults(got: Request, *, public: bool) -> list[str]:
    """Return what is wrong with a head that the gateway sent."""
    lines = got.head.split(b"\r\n")
    keys = [value for name, value in got.headers if _KEY_LIKE.fullmatch(name.encode("latin-1"))]
    keys += got.values("authorization") + got.values("x-api-key")
    framing = got.values("content-length") + got.values("transfer-encoding")
    checks: dict[str, Callable[[], bool]] = {
        "request line": lambda: re.fullmatch(_REQUEST_LINE, lines[0]) is not None,
        "header lines": lambda: all(map(_HEADER_LINE.fullmatch, lines[1:-2])),
        "end": lambda: lines[-2:] == [b"", b""],
        "key": lambda: keys == ([] if public else [MASTER_KEY]),
        "framing": lambda: len(framing) <= 1,
        "host": lambda: len(got.values("host")) == 1 and got.values("host")[0].startswith("127.0.0.1:"),
        "via": lambda: got.values("via")[-1].endswith(" blnk-gateway"),
        "evil": lambda: got.values("x-evil") == [] and got.trailers == [],
        "hops": lambda: not any(map(got.values, HOPS)),
    }
    return [name for name, holds in checks.items() if not holds()]


@examples(400)
@given(stream=streams(), positions=cuts)
@example(stream=b"GET /ledgers HTTP/1.1\r\nHost: x\r\nX-Blnk-Key: %KEY%\r\n\r\n" + SMUGGLED, positions=[])
@example(
    stream=b"POST /ledgers/filter?\xff HTTP/1.1\r\nHost: x\r\nX-Blnk-Key: %KEY%\r\nServer: a\r\nServer: b\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\nServer: x\r\nX-Evil: 1\r\n\r\n" + SMUGGLED,
    positions=[90, 160],
)
@example(
    stream=b"GET /ledgers HTTP/1.1\r\nHost: x\r\nX-Blnk-Key: %KEY%\r\nCookie: %OTHER%\r\n\r\n", positions=[]
)
@example(
    stream=b"POST /ledgers/filter HTTP/1.1\r\nHost: x\r\nX-Blnk-Key: %KEY%\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Blnk-Key: %KEY%\r\nX-Evil: 1\r\n\r\n" + SMUGGLED,
    positions=[90, 110],
)
@example(
    stream=b"POST /ledgers/filter HTTP/1.1\r\nHost: x\r\nX-Blnk-Key: %KEY%\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Evil: 1\r\n\r\n" + SMUGGLED,
    positions=list(range(300)),
)
async def test_core_reads_only_what_the_client_was_answered_for(
    stage: Stage, stream: bytes, positions: list[int]
) -> None:
    """Each whole request that Core read has one good response, and a head that the gateway wrote."""
    stage.forwarded()
    before = {connection: len(connection.tail) for connection in stage.upstream.connections}
    key = stage.key("all")
    data = stream.replace(b"%KEY%", key.encode()).replace(b"%MASTER%", b"mk-guessed")
    data = data.replace(b"%OTHER%", stage.key("victim").encode()).replace(b"%LONG%", b"a" * 9000)
    async with await stage.running.connect() as client:
        for segment in segments(data, positions):
            await client.send(segment)
            await asyncio.sleep(0)  # the gateway reads it before the next
        await client.half_close()
        responses = await responses_of(client)
    got = stage.forwarded()
    whole = [request for request in got if request.complete]
    answered = [response.value("x-request-id") for response in responses if response.status == 200]
    assert [request.values("x-request-id") for request in whole] == [[response] for response in answered]
    for request in got:
        public = request.target.partition("?")[0] in ("/", "/health")
        assert head_faults(request, public=public) == []
    for connection in stage.upstream.connections:
        assert len(connection.tail) == before.get(connection, 0)
    assert all(response.status in (200, 400, 401, 403, 404, 408, 413, 431) for response in responses)
