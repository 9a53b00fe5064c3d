"""A link to Redis that delays every response by a fixed time, however many are under way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def slow_link(redis_port: int, seconds: float) -> AsyncIterator[int]:
    """Yield the port of a link that delays every response by `seconds`."""
    loop = asyncio.get_running_loop()
    transports: list[asyncio.Transport] = []

    class Responses(asyncio.Protocol):
        """Passes data from Redis on, `seconds` later."""

        def __init__(self, client: asyncio.Transport) -> None:
            self._client = client

        def data_received(self, data: bytes) -> None:
            loop.call_later(seconds, self._client.write, data)

        def connection_lost(self, _: Exception | None) -> None:
            self._client.close()

    class Commands(asyncio.Protocol):
        """Passes data of a client on to Redis, and keeps it until Redis is connected."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transports.append(transport)
            self._early: list[bytes] = []
            self._pass: Callable[[bytes], object] = self._early.append
            self._joining = loop.create_task(self._join(transport))

        async def _join(self, client: asyncio.Transport) -> None:
            redis, _ = await loop.create_connection(lambda: Responses(client), "127.0.0.1", redis_port)
            transports.append(redis)
            self._pass = redis.write
            redis.writelines(self._early)

        def data_received(self, data: bytes) -> None:
            self._pass(data)

    server = await loop.create_server(Commands, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for transport in transports:
            with contextlib.suppress(RuntimeError):
                transport.abort()
