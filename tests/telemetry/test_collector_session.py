"""A collector that sends slowly, or nonsense, holds an export for a bounded time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from requests import ReadTimeout

from gateway.telemetry.collector_session import BODY_SECONDS, NeitherError, collector_session
from tests.dripping_server import DrippingServer
from tests.running import eventually
from tests.telemetry.endless_collector import EndlessCollector
from tests.tls import Authority

TIMEOUT = 0.5
OK = b"HTTP/1.1 200 OK\r\n"


async def export(url: str, authority: Path | None = None) -> tuple[int, float]:
    """Return the status of the response to one export, 0 for none in time, and how many seconds that took."""

    def post() -> int:
        try:
            trusted = None if authority is None else str(authority)
            return collector_session().post(url, data=b"spans", timeout=TIMEOUT, verify=trusted).status_code
        except ReadTimeout:
            return 0

    began = time.monotonic()
    async with asyncio.timeout(TIMEOUT + BODY_SECONDS + 3):
        status = await asyncio.to_thread(post)
    return status, time.monotonic() - began


@pytest.mark.parametrize(
    ("at_once", "slowly"),
    [
        (b"", OK),
        (OK, b"X-Slow: 1\r\n"),
        (OK + b"X-Slow: ", b"1"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["a status line", "many headers", "one header", "interim responses"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_head_that_comes_slowly_is_given_up_after_the_timeout(
    tmp_path: Path, at_once: bytes, slowly: bytes, scheme: str
) -> None:
    authority = Authority(tmp_path)
    tls = authority.issue("localhost", "localhost").listener() if scheme == "https" else None
    async with DrippingServer(at_once, slowly, tls) as collector:
        status, took = await export(collector.url, authority.certificate)
        assert (status, took < TIMEOUT + 1) == (0, True)
        await eventually(lambda: collector.ended == 1, "a connection that is closed")


@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
async def test_a_body_that_comes_slowly_is_given_up_and_the_status_counts(connection: bytes) -> None:
    head = OK + b"Content-Length: 65536\r\nConnection: " + connection + b"\r\n\r\n"
    async with DrippingServer(head, b"x") as collector:
        status, took = await export(collector.url)
        assert (status, took < BODY_SECONDS + 1) == (200, True)
        await eventually(lambda: collector.ended == 1, "a connection that is closed")


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["an interim one", "a redirection"],
)
async def test_a_response_that_says_neither_success_nor_failure_is_a_failure(response: bytes) -> None:
    """Its connection is closed, so that nobody takes what comes behind it for the next response."""
    async with DrippingServer(response, b"x") as collector:
        with pytest.raises(NeitherError, match="neither success nor failure"):
            await export(collector.url)
        await eventually(lambda: collector.ended == 1, "a connection that is closed")


@pytest.mark.parametrize("size", [b"-1", b"-5", b"nonsense"])
async def test_a_body_in_chunks_is_not_read_and_the_status_counts(size: bytes) -> None:
    """Python's parser of chunks takes a negative size for one without end."""
    async with EndlessCollector(["Transfer-Encoding: chunked"], size + b"\r\n" + b"x" * 65_536) as collector:
        assert (await export(collector.url))[0] == 200
        await eventually(lambda: bool(collector.sent), "a connection that is closed")
        assert collector.sent[0] < 16 * 1024 * 1024
