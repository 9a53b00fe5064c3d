"""The stream of snapshots, as server-sent events (HTML Living Standard, section 9.2).

Rules kept here:
- Nothing is computed while nobody looks: there is no task, and each stream asks for its own snapshots.
- So many streams are open at most. A page of another site opens none, though it could not read one.
- Once the gateway drains, a stream sends one more snapshot and ends; so does a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from aiohttp import web

from gateway.admin.responses import error_response
from gateway.admin.server import CONNECTION

MOST_STREAMS: Final = 8
EVERY_SECONDS: Final = 1.0
# Fetch Metadata Request Headers: what a browser sends for its own page, and for an address that was typed.
_OWN_SITE: Final = ("same-origin", "none")


class EventStreams:
    """Sends a snapshot a second to each browser that looks.

    Args:
        latest: returns a snapshot, as JSON on one line.
        draining: returns whether the gateway ends.
        most: the greatest number of streams.
        every: the seconds between two snapshots.
    """

    def __init__(
        self,
        latest: Callable[[], bytes],
        draining: Callable[[], bool],
        *,
        most: int = MOST_STREAMS,
        every: float = EVERY_SECONDS,
    ) -> None:
        self._latest = latest
        self._draining = draining
        self._most = most
        self._every = every
        self._closing = asyncio.Event()
        self.open = 0

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Return the response to a request for a stream, once the stream has ended."""
        if request.headers.get("Sec-Fetch-Site", "none") not in _OWN_SITE:
            return error_response(403, "GATEWAY_ADMIN_SITE", "A page of another site may not open a stream")
        if self.open >= self._most:
            refusal = error_response(503, "GATEWAY_ADMIN_STREAMS", "Too many consoles are open: close one")
            refusal.headers["Retry-After"] = "5"
            return refusal
        self.open += 1
        try:
            return await self._stream(request)
        finally:
            self.open -= 1

    async def close(self, _: web.Application) -> None:
        """End every stream."""
        self._closing.set()

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        connection = request.get(CONNECTION)
        # A client that leaves ends its stream.
        with contextlib.suppress(ConnectionResetError):
            await response.prepare(request)
            while True:
                if connection is not None:
                    connection.goes_on()
                ends = self._draining() or self._closing.is_set()
                await response.write(b"data: " + self._latest() + b"\n\n")
                if ends:
                    break
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._every):
                        await self._closing.wait()
        return response
