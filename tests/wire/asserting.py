"""Requests by their framing, and assertions on refusals and on what Core recorded, for the tests of the wire.

Rules kept here:
- "Nothing forwarded" is asserted on the bytes that Core recorded, after a later request has passed.
"""

from __future__ import annotations

import asyncio

from gateway.errors import Code
from tests.core_stand_in import StandInCore
from tests.raw_client import Response
from tests.running import Running

CANARY = "canary-9d41"  # stands in refused heads; no response and no log line may hold it
HOP_BY_HOP = [
    b"Connection",
    b"Keep-Alive",
    b"Proxy-Connection",
    b"Proxy-Authenticate",
    b"Proxy-Authorization",
    b"TE",
    b"Trailer",
    b"Transfer-Encoding",
    b"Upgrade",
    b"HTTP2-Settings",
]
READ = "/ledgers?limit=1"
STREAMED = "/ledgers/filter"  # a route whose body is forwarded as it comes
STAMPED = "/ledgers"  # a route whose body is read and rewritten first

# %KEY% stands for a key that may take every route of these tests.
LINE = f"POST {STREAMED}?{CANARY} HTTP/1.1\r\n".encode()
GOOD_HEAD = b"Host: x\r\nX-Blnk-Key: %KEY%\r\nX-Said: " + CANARY.encode() + b"\r\n"
SMUGGLED = b"GET /balances?smuggled HTTP/1.1\r\nHost: x\r\nX-Blnk-Key: %KEY%\r\n\r\n"
EMPTY_CHUNKS = b"0\r\n\r\n"


def post(framing: bytes, body: bytes = b"") -> bytes:
    """Return a POST to a streamed route, with this framing."""
    return LINE + GOOD_HEAD + framing + b"\r\n" + body


def get(line: str = f"GET {READ}&{CANARY} HTTP/1.1", headers: bytes = b"") -> bytes:
    return line.encode("latin-1") + b"\r\n" + GOOD_HEAD + headers + b"\r\n"


def assert_refused(response: Response, *statuses: int) -> None:
    """Assert the gateway's own response, in Core's error shape, which says that the connection ends."""
    assert response.status in (statuses or (400,)), response
    assert response.code == "GEN_BAD_REQUEST"
    assert response.json() == {
        "error": response.json()["error"],
        "error_detail": {"code": "GEN_BAD_REQUEST", "message": response.json()["error"]},
    }
    assert response.value("content-type") == "application/json; charset=utf-8"
    assert response.value("connection") == "close"


def assert_error(response: Response, code: Code) -> None:
    """Assert the response that the catalogue has for the error, in Core's error shape."""
    assert (response.status, response.code) == (code.status, code.code)
    assert response.value("proxy-status") == f"blnk-gateway; error={code.proxy_status}"


async def assert_nothing_forwarded(gateway: Running, upstream: StandInCore) -> None:
    """Send one more request, and assert that it is all that Core has ever read."""
    passer = await gateway.mint("ledgers:read")
    assert (await gateway.ask("GET", "/ledgers/passer", key=passer.key)).status == 200
    assert upstream.targets == ["/ledgers/passer"]
    assert [connection.tail for connection in upstream.used()] == [b""]


async def assert_never_completed(gateway: Running, upstream: StandInCore, target: str) -> None:
    """Assert that Core read at most a part of the request, on a connection that was then closed."""
    passer = await gateway.mint("ledgers:read")
    assert (await gateway.ask("GET", "/ledgers/passer", key=passer.key)).status == 200
    assert [got.target for got in upstream.requests if got.complete] == ["/ledgers/passer"]
    for got in upstream.requests:
        if got.target == target:
            await asyncio.wait_for(got.ended.wait(), 5)
            assert not got.complete
