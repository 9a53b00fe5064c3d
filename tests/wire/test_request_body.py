"""The body of one request: read whole, without waiting for a client that is paused."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from aiohttp import HttpVersion11
from multidict import CIMultiDict

from gateway.wire.request_body import RequestBody

PIECE = bytes(100 * 1024)


class Body:
    """A parser that hands over one piece each time it is asked, until the end."""

    def __init__(self, pieces: int) -> None:
        self.left = pieces

    def read_nowait(self, _: int) -> bytes:
        self.left -= 1
        return PIECE

    def is_eof(self) -> bool:
        return self.left == 0


class Source:
    """A client's input that knows whether it is paused."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.held_back = False

    def pause_reading(self) -> None:
        self.held_back = True

    def resume_reading(self) -> None:
        self.held_back = False

    @property
    def writer(self) -> Source:
        """Return itself; what is written to it is dropped."""
        return self

    def write(self, data: bytes) -> None: ...


class Uncounted:
    """A meter that lets everything pass."""

    def grow(self, size: int) -> None: ...


async def test_a_body_that_comes_faster_than_it_is_taken_is_read_to_its_end() -> None:
    """Segments that come faster than they are read pause the client, and the reader resumes it."""
    source, payload = Source(), Body(4)
    message = SimpleNamespace(
        headers=CIMultiDict({"Content-Length": str(4 * len(PIECE))}), version=HttpVersion11, chunked=False
    )
    body = RequestBody(source, message, payload, 0.0)
    reading = asyncio.create_task(body.read(5 * len(PIECE), Uncounted()))
    await asyncio.sleep(0)
    body.take()
    body.take()
    assert source.held_back
    while source.held_back:
        await asyncio.sleep(0)
    body.take()
    body.take()
    assert await reading == 4 * PIECE
