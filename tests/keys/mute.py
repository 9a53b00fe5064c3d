"""A link to Redis that passes commands on and drops the responses to them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.faults.pipes import Ends, join


@contextlib.contextmanager
def mute_after(word: bytes, url: str) -> Iterator[str]:
    """Yield a URL of the Redis; a connection over it that has sent `word` gets no further response."""
    redis_port = urlsplit(url).port
    assert redis_port is not None
    loop = asyncio.new_event_loop()
    serving = threading.Thread(target=loop.run_forever)
    serving.start()
    link = _Mute(word, redis_port)
    try:
        port = asyncio.run_coroutine_threadsafe(link.open(), loop).result()
        yield url.replace(f":{redis_port}", f":{port}")
    finally:
        asyncio.run_coroutine_threadsafe(link.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        serving.join()
        loop.close()


class _Mute:
    def __init__(self, word: bytes, redis_port: int) -> None:
        self._word = word
        self._redis_port = redis_port
        self._server: asyncio.Server
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        muted = False

        def up(data: bytes) -> bytes:
            nonlocal muted
            muted = muted or self._word in data
            return data

        def down(data: bytes) -> bytes:
            return b"" if muted else data

        redis = Ends(*await asyncio.open_connection("127.0.0.1", self._redis_port))
        try:
            # `close` cancels this task, and asyncio would report a handler that ends cancelled.
            with contextlib.suppress(asyncio.CancelledError):
                await join(Ends(reader, writer), redis, up, down)
        finally:
            for each in (writer, redis.writer):
                each.transport.abort()
            self._connections.discard(task)
