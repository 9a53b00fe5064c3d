"""A link to Redis that closes a connection once a given command has passed over it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests import redis_acl
from tests.faults.pipes import Ends, join


@asynccontextmanager
async def cut_after(word: bytes, redis_port: int, *, passed: int = 0) -> AsyncIterator[str]:
    """Yield a URL of the Redis; after `word`, a connection gets `passed` more segments and is closed."""

    def cutting() -> Callable[[bytes], bytes]:
        left = passed

        def cut(data: bytes) -> bytes:
            nonlocal left
            if left == 0:
                raise ConnectionAbortedError
            left -= 1
            return data

        return cut

    async with altered_after(word, redis_port, cutting) as url:
        yield url


@contextlib.asynccontextmanager
async def altered_after(
    word: bytes, redis_port: int, altering: Callable[[], Callable[[bytes], bytes]]
) -> AsyncIterator[str]:
    """Yield a URL of the Redis; what it responds after `word` goes through what `altering` returns."""
    connections: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        alter: Callable[[bytes], bytes] | None = None

        def up(data: bytes) -> bytes:
            nonlocal alter
            if word in data:
                alter = altering()
            return data

        def down(data: bytes) -> bytes:
            return data if alter is None else alter(data)

        redis = Ends(*await asyncio.open_connection("127.0.0.1", redis_port))
        try:
            # The end of the block cancels this task, and asyncio would report a handler that ends cancelled.
            with contextlib.suppress(asyncio.CancelledError):
                await join(Ends(reader, writer), redis, up, down)
        finally:
            for each in (writer, redis.writer):
                each.transport.abort()
            connections.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield redis_acl.url(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    finally:
        server.close()
        for connection in list(connections):
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
