"""A hostile collector of traces: it responds to each request with a body that it sends without end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

MOST_SENT = 64 * 1024 * 1024
"""Where it gives up, so that a test of a client that reads everything fails."""


class EndlessCollector:
    """Responds at `url` with `head`, and then with `piece` again and again.

    Attributes:
        sent: the bytes of the bodies that were sent to clients that have closed their connection.
        requests: the heads of all requests.
    """

    def __init__(self, head: Iterable[str], piece: bytes) -> None:
        self._head = "".join(f"{line}\r\n" for line in ("HTTP/1.1 200 OK", *head, "")).encode()
        self._piece = piece
        self.sent: list[int] = []
        self.requests: list[bytes] = []
        self.port = 0
        self.url = ""

    async def __aenter__(self) -> EndlessCollector:
        self._server = await asyncio.start_server(self._respond, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1/traces"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = 0
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self._head)
            while sent < MOST_SENT:
                writer.write(self._piece)
                await writer.drain()
                sent += len(self._piece)
        self.sent.append(sent)
        writer.close()
