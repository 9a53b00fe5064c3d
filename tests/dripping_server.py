"""A slow HTTP server: it sends the beginning of a response at once, and then a byte now and then."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl

from tests.running import eventually

BETWEEN_BYTES = 0.05


class DrippingServer:
    """Responds at `url` with `at_once`, and then with the bytes of `slowly`, again and again.

    Attributes:
        ended: how many of its connections the client has closed.
    """

    def __init__(self, at_once: bytes, slowly: bytes, tls: ssl.SSLContext | None = None) -> None:
        self._at_once = at_once
        self._slowly = slowly
        self._tls = tls
        self._begun = 0
        self.ended = 0
        self.port = 0
        self.url = ""

    async def __aenter__(self) -> DrippingServer:
        self._server = await asyncio.start_server(self._respond, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://localhost:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await eventually(lambda: self.ended == self._begun, "the end of every connection")

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begun += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self._at_once)
            for byte in itertools.cycle(self._slowly):
                await writer.drain()
                await asyncio.sleep(BETWEEN_BYTES)
                writer.write(bytes([byte]))
        self.ended += 1
        writer.close()
