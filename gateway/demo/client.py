"""Sends the requests of the walk over HTTP."""

from __future__ import annotations

import aiohttp

from gateway.demo.steps import DemoRequest, DemoResponse


class DemoClient:
    """Sends requests to the gateway at the URL `base`; a failure is a response too."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._base = base

    async def send(self, request: DemoRequest) -> DemoResponse:
        """Return the response, or status 0 and the reason if there is none."""
        headers = {"Content-Type": "application/json"} if request.body else {}
        if request.key is not None:
            headers["X-Blnk-Key"] = request.key.secret.reveal()
        try:
            async with self._session.request(
                request.method, self._base + request.target, data=request.body or None, headers=headers
            ) as response:
                return DemoResponse(response.status, await response.text(errors="replace"))
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            return DemoResponse(0, f"no response: {failure or type(failure).__name__}")
