"""A stand-in for Core that notes when a request of which round reaches it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time

_MARK = re.compile(rb"(?:GET /transactions/|POST /transactions\?)(\w+-\d+)[ ?]")
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_REFUSAL = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}"
_GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class NotingCore:
    """Listens on a free port; `arrived` maps what stands in the path to the time of its last arrival."""

    def __init__(self) -> None:
        self.url = ""
        self.arrived: dict[str, float] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> NotingCore:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*list(self._tasks), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        # By the end of the test; asyncio's own callback would report a cancelled handler.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if found := _MARK.match(head):
                    self.arrived[found[1].decode()] = time.monotonic()
                if length := _LENGTH.search(head):
                    await reader.readexactly(int(length[1]))
                writer.write(_GOOD if b"x-blnk-key:" in head.lower() else _REFUSAL)
                await writer.drain()
        writer.transport.abort()
        self._tasks.discard(task)
