"""A request that is whole gets its response, however its body came and however long Core takes.

Rules kept here:
- Every deadline of the client's side is shorter than Core's time for its response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.conftest import Start
from tests.core_stand_in import Exchange, StandInCore
from tests.raw_client import chunked, request
from tests.wire.asserting import STAMPED, STREAMED

SECONDS = {"body": 0.4, "head": 0.4, "idle": 0.4, "write": 0.4}
CORE_SECONDS = 1.2
SMALL = b'{"name":"%b"}' % (b"x" * 100)
LARGE = b'{"name":"%b"}' % (b"x" * 300_000)
LENGTHS = {"small": SMALL, "large": LARGE}


async def take_time(exchange: Exchange) -> None:
    """Read the body whole, and respond long after every deadline of the client's side."""
    await exchange.body()
    await asyncio.sleep(CORE_SECONDS)
    await exchange.respond()


def segments(data: bytes, body: bytes, how: str) -> Iterator[bytes]:
    """Return a request cut into the segments in which it is sent."""
    head_end = len(data) - len(body)
    cuts = {
        "at once": [],
        "head and body": [head_end],
        "cut in the head and in the body": [10, head_end + 5],
        "many": [*range(0, head_end, 50), *range(head_end, len(data), max(1, len(body) // 7))],
        "all but the last byte": [len(data) - 1],
    }[how]
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        yield data[start:end]


@pytest.mark.parametrize(
    "how", ["at once", "head and body", "cut in the head and in the body", "many", "all but the last byte"]
)
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", LENGTHS)
@pytest.mark.parametrize("target", [STAMPED, STREAMED])
async def test_gets_its_response(
    start_gateway: Start, upstream: StandInCore, target: str, size: str, framing: str, how: str
) -> None:
    gateway = await start_gateway(timeouts=SECONDS)
    key = (await gateway.mint("ledgers:*")).key
    upstream.script(take_time)
    body = LENGTHS[size]
    if framing == "length":
        framed = body
        data = request("POST", target, key=key, body=body)
    else:
        framed = chunked(body[:50], body[50:])
        data = request("POST", target, key=key, headers=[("Transfer-Encoding", "chunked")]) + framed
    client = await gateway.connect()
    for segment in segments(data, framed, how):
        await client.send(segment)
        await asyncio.sleep(0.01)
    assert (await client.response()).status == 200


@pytest.mark.parametrize("target", [STAMPED, STREAMED])
@pytest.mark.parametrize("size", LENGTHS)
async def test_gets_its_response_after_it_waited_for_100(
    start_gateway: Start, upstream: StandInCore, target: str, size: str
) -> None:
    gateway = await start_gateway(timeouts=SECONDS)
    key = (await gateway.mint("ledgers:*")).key
    upstream.script(take_time)
    body = LENGTHS[size]
    data = request("POST", target, key=key, headers=[("Expect", "100-continue")], body=body)
    client = await gateway.connect()
    await client.send(data[: -len(body)])
    assert (await client.read_head())[0] == 100
    await client.send(body)
    assert (await client.response()).status == 200


async def test_gets_its_response_behind_another_that_took_its_time(
    start_gateway: Start, upstream: StandInCore
) -> None:
    """A request whose body came while an earlier response was waited for gets its own response."""
    gateway = await start_gateway(timeouts=SECONDS)
    key = (await gateway.mint("ledgers:*")).key
    upstream.script(take_time, take_time)
    client = await gateway.connect()
    await client.send(request("POST", STAMPED, key=key, body=SMALL))
    data = request("POST", STREAMED, key=key, body=LARGE)
    await client.send(data[:-10])
    await asyncio.sleep(0.05)
    await client.send(data[-10:])
    assert [(await client.response()).status for _ in range(2)] == [200, 200]
