"""Requests that Core has refused because of the master key, sent again with the other one.

Rules kept here:
- Core refuses a key before it does anything else. So any request can be sent again whose bytes are here.
- A 401 of Core that blames the gateway's own master key never reaches a client.
"""

from __future__ import annotations

from typing import Final

from gateway.fairness.errors import OverloadedError
from gateway.proxy.core_access import KEY, CoreAccess, MasterKey
from gateway.proxy.core_responses import CoreObserver
from gateway.proxy.errors import KeyChangesError, UpstreamRefusedError
from gateway.proxy.stream import SMALL
from gateway.wire.pool import Pool
from gateway.wire.upstream_request import OwnRequest, UpstreamRequest
from gateway.wire.upstream_response import UpstreamResponse

_BODY_SECONDS: Final = 10.0
"""The longest time for the body of a 401, of some 100 bytes, which comes with its head."""


class KeyTrials:
    """Tries the master keys that are known while Core's is changed."""

    def __init__(self, pool: Pool, core: CoreAccess, observer: CoreObserver) -> None:
        self._pool = pool
        self._core = core
        self._observer = observer

    async def send_again(
        self, head: bytes, rest: bytes, request: UpstreamRequest, method: str
    ) -> UpstreamResponse:
        """Return Core's response to a request once Core accepts one of the keys.

        Args:
            head: the head as it was sent, up to the line of the refused key.
            rest: what follows that line.
            request: the request; it is asked for its permission again.
            method: its method.

        Raises:
            UpstreamRefusedError: Core refuses every key.
            GatewayError, ClientGoneError: what `Pool.request` raises.
        """
        self._observer.key_refused()
        bare = head[: head.rindex(KEY)]
        for key in self._core.trials(head):
            response = await self._pool.request(b"%b%b%b" % (bare, key.line, rest), request)
            if not await blames_key(response, method):
                self._accept(key)
                return response
        self._core.refuse()
        self._observer.refused()
        raise UpstreamRefusedError(reason="Core refuses the master key")

    async def settle(self, waiting: UpstreamRequest) -> None:
        """Find the key that Core accepts, for a request whose body can be sent only once.

        Raises as `send_again`.
        """
        if self._core.other is None:
            return
        head = b"GET /ledgers?limit=1 HTTP/1.1\r\n%b%b" % (self._core.host_line, self._core.master.line)
        request = OwnRequest(repeatable=True)
        try:
            response = await self._pool.request(head + b"\r\n", request)
        except OverloadedError:
            waiting.unsent()
            raise
        if await blames_key(response, "GET"):
            response = await self.send_again(head, b"\r\n", request, "GET")
        response.abandon()

    def refuse(self, head: bytes) -> KeyChangesError | UpstreamRefusedError:
        """Return the failure of a request that cannot be sent again; the next one finds the key by itself."""
        self._observer.key_refused()
        if not self._core.trials(head):
            self._observer.refused()
            return UpstreamRefusedError(reason="Core refuses the master key")
        return KeyChangesError(reason="Core's master key changes, and this body was sent already")

    def _accept(self, key: MasterKey) -> None:
        if self._core.accept(key):
            self._observer.key_accepted()


async def blames_key(response: UpstreamResponse, method: str) -> bool:
    """Return True for a 401 of Core that is about the key it got, which then is dropped."""
    if response.status != 401:
        return False
    if method != "HEAD":  # Its response has no body to tell; Core has no other 401.
        if not response.complete and response.length is not None and response.length > SMALL:
            return False
        await response.read(SMALL, _BODY_SECONDS)
        if b'"AUTH_' not in response.body:
            return False
    response.abandon()
    return True
