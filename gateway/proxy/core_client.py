"""Requests of the gateway's own to Core, with its master key.

Rules kept here:
- Each has `timeouts.first_byte` until Core responds, and as much again for the whole body.
"""

from __future__ import annotations

from typing import Final

from gateway.keys.api.resource import ApiResponse
from gateway.proxy.core_access import CoreAccess
from gateway.proxy.core_responses import CoreObserver
from gateway.proxy.key_trials import KeyTrials, blames_key
from gateway.wire.pool import Pool
from gateway.wire.upstream_request import OwnRequest

# A list of keys that Core makes for us: some 100,000 of them.
_LARGE: Final = 1 << 26


class CoreClient:
    """Asks Core."""

    def __init__(self, pool: Pool, core: CoreAccess, observer: CoreObserver) -> None:
        self._pool = pool
        self._core = core
        self._observer = observer
        self._trials = KeyTrials(pool, core, observer)

    async def ask(self, method: str, target: str, body: bytes) -> ApiResponse:
        """Return Core's response to a request with the master key; `body` is JSON, or empty.

        Raises GatewayError: UpstreamRefusedError where Core refuses the master key.
        """
        self._core.require_verified()
        framing = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body) if body else b""
        head = b"%b %b HTTP/1.1\r\n%bVia: 1.1 blnk-gateway\r\n%b%b" % (
            method.encode(),
            target.encode(),
            self._core.host_line,
            framing,
            self._core.master.line,
        )
        rest = b"\r\n" + body
        request = OwnRequest(changes=method != "GET", repeatable=method == "GET")
        response = await self._pool.request(head + rest, request)
        if await blames_key(response, method):
            response = await self._trials.send_again(head, rest, request, method)
        await response.read(_LARGE, self._pool.limits.first_byte)
        self._observer.core_responded()
        return ApiResponse(response.status, response.body)
