"""A peer that sends slowly, or nonsense, holds no command."""

from __future__ import annotations

import asyncio
import http.client
import time

import pytest

from gateway.cli.http_get import GetResponse, get
from gateway.cli.reach import Reached, ResponderKind, identify_responder
from tests.dripping_server import DrippingServer
from tests.running import eventually
from tests.telemetry.endless_collector import EndlessCollector

SECONDS = 0.5
OK = b"HTTP/1.1 200 OK\r\n"


def get_from(port: int) -> GetResponse:
    connection = http.client.HTTPConnection("localhost", port, timeout=SECONDS)
    return get(connection, "/", {}, SECONDS)


@pytest.mark.parametrize(
    ("at_once", "slowly"),
    [
        (b"", OK),
        (OK, b"X-Slow: 1\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"Content-Length: 65536\r\n\r\n", b"x"),
        (OK + b"Connection: close\r\n\r\n", b"x"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["a status line", "headers", "interim responses", "a body", "a body until it closes", "chunks"],
)
async def test_a_response_that_comes_slowly_is_given_up(at_once: bytes, slowly: bytes) -> None:
    async with DrippingServer(at_once, slowly) as server, asyncio.timeout(5):
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"^it took longer than 0\.5 s$"):
            await asyncio.to_thread(get_from, server.port)
        assert time.monotonic() - began < SECONDS + 1


async def test_what_sends_slowly_is_of_no_known_kind() -> None:
    async with DrippingServer(OK, b"X-Slow: 1\r\n") as server, asyncio.timeout(5):
        found = await asyncio.to_thread(identify_responder, server.url, SECONDS)
    text = "something listens, but sends no HTTP response: it took longer than 0.5 s"
    assert found == Reached(ResponderKind.UNKNOWN, text)


@pytest.mark.parametrize("size", [b"-1", b"-5", b"10000"])
async def test_of_a_body_in_chunks_without_end_the_beginning_is_read(size: bytes) -> None:
    piece = size + b"\r\n" + b"x" * 65_536 + b"\r\n"
    async with EndlessCollector(["Transfer-Encoding: chunked"], piece) as server:
        response = await asyncio.to_thread(get_from, server.port)
        await eventually(lambda: bool(server.sent), "a connection that is closed")
    assert (response.status, len(response.body)) == (200, 65_536)
