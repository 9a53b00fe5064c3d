"""The body of one request: read whole, without waiting for a client that is paused."""

from __future__ import annotations

import asyncio

from gateway.wire.body_framing import SizedBody
from gateway.wire.request_body import RequestBody
from gateway.wire.request_head import read_head

PIECE = bytes(100 * 1024)


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
    source, framed = Source(), SizedBody(4 * len(PIECE))
    head = read_head(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (4 * len(PIECE)))
    body = RequestBody(source, head, framed, 0.0)

    def come() -> None:
        framed.read(PIECE, 0, 0)
        body.take()

    reading = asyncio.create_task(body.read(5 * len(PIECE), Uncounted()))
    await asyncio.sleep(0)
    come()
    come()
    assert source.held_back
    while source.held_back:
        await asyncio.sleep(0)
    come()
    come()
    assert await reading == 4 * PIECE
