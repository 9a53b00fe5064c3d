"""The link between the gateway and Redis, which can be cut, lose everything, or speak for Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import hiredis

from tests.faults.pipes import Ends, join


class _Dialogue:
    """One connection over the link; once `dead` it loses every byte, for ever."""

    def __init__(self, link: RedisLink, writer: asyncio.StreamWriter) -> None:
        self.dead = link.losing
        self.writer = writer
        self._link = link
        self._commands = hiredis.Reader()

    def up(self, data: bytes) -> bytes:
        saying = self._link.saying
        if self.dead:
            return b""
        if saying is None:
            return data
        self._commands.feed(data)
        while self._commands.gets() is not False:
            self.writer.write(saying)
        return b""

    def down(self, data: bytes) -> bytes:
        return b"" if self.dead else data


class RedisLink:
    """Listens on a free port of the loopback and passes on to the port of a Redis."""

    def __init__(self, redis_port: int) -> None:
        self.port = 0
        self.losing = False
        self.saying: bytes | None = None
        self._redis_port = redis_port
        self._server: asyncio.Server | None = None
        self._dialogues: dict[asyncio.Task[None], _Dialogue] = {}

    async def __aenter__(self) -> RedisLink:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def open(self) -> None:
        """Accepts connections."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Ends every connection and refuses new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._dialogues)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextlib.contextmanager
    def lossy(self) -> Iterator[None]:
        """Loses every byte inside the block; what was connected by its end stays dead."""
        self.losing = True
        for dialogue in self._dialogues.values():
            dialogue.dead = True
        try:
            yield
        finally:
            self.losing = False

    @contextlib.contextmanager
    def responding(self, reply: bytes) -> Iterator[None]:
        """Answers every command so inside the block."""
        self.saying = reply
        try:
            yield
        finally:
            self.saying = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        dialogue = self._dialogues[task] = _Dialogue(self, writer)
        try:
            # By `cut`; asyncio's own callback would report a cancelled handler.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                redis = Ends(*await asyncio.open_connection("127.0.0.1", self._redis_port))
                await join(Ends(reader, writer), redis, dialogue.up, dialogue.down)
        finally:
            writer.transport.abort()
            del self._dialogues[task]
