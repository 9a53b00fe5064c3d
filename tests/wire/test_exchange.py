"""The body of one request: read whole without ever waiting for a client that is held back."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from aiohttp import HttpVersion11
from multidict import CIMultiDict

from gateway.wire.deadlines import NEVER
from gateway.wire.exchange import Exchange
from gateway.wire.flow import Pausable

PIECE = bytes(100 * 1024)


class Body:
    """What the parser hands over: a piece each time it is asked, until the end."""

    def __init__(self, pieces: int) -> None:
        self.left = pieces

    def read_nowait(self, _: int) -> bytes:
        self.left -= 1
        return PIECE

    def is_eof(self) -> bool:
        return self.left == 0


class Line:
    """A client's connection that knows whether it is held back."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.peer = "127.0.0.1"
        self.ending = False
        self.ended_at = NEVER
        self.abandoned = False
        self.held_back = False

    def pause_reading(self) -> None:
        self.held_back = True

    def resume_reading(self) -> None:
        self.held_back = False

    def write(self, data: bytes) -> None: ...

    def begin(self, source: Pausable | None) -> None: ...

    def reset(self) -> None: ...


class Uncounted:
    """A meter that lets everything pass."""

    def grow(self, size: int) -> None: ...


async def test_a_body_that_comes_faster_than_it_is_taken_is_read_to_its_end() -> None:
    """Several segments of one turn of the loop hold the client back; the reader lets it go on."""
    line, body = Line(), Body(4)
    message = SimpleNamespace(
        method="POST",
        path="/ledgers",
        headers=CIMultiDict({"Content-Length": str(4 * len(PIECE))}),
        raw_headers=(),
        version=HttpVersion11,
        chunked=False,
        should_close=False,
        upgrade=False,
    )
    exchange = Exchange(line, message, body)
    reading = asyncio.create_task(exchange.read(5 * len(PIECE), Uncounted()))
    await asyncio.sleep(0)
    exchange.take()
    exchange.take()
    assert line.held_back
    while line.held_back:
        await asyncio.sleep(0)
    exchange.take()
    exchange.take()
    assert await reading == 4 * PIECE
