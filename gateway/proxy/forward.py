"""Admitted requests on their way to Core.

Rules kept here:
- Nothing is forwarded before Core was verified, and nothing for a client that has left.
- A request whose master key Core refuses is sent again with the other key, if there is one. A body that
  streams is gone by then: so Core is asked before which key it accepts, and if that changes just then, the
  request ends with 503.
"""

from __future__ import annotations

from typing import Final

from gateway.errors import GatewayError
from gateway.proxy.clocks import Clocks
from gateway.proxy.context import RequestContext
from gateway.proxy.core_access import CoreAccess
from gateway.proxy.core_responses import ResponseRelay
from gateway.proxy.key_trials import KeyTrials, blames_key
from gateway.proxy.stream import Upload
from gateway.wire.pool import Pool
from gateway.wire.upstream_response import UpstreamResponse

_NO_LENGTH: Final = ("GET", "HEAD", "DELETE")


class Forwarder:
    """Sends requests to Core, and passes the responses back.

    Args:
        pool: the connections to Core.
        core: tells whether Core was verified.
        relay: passes the responses back.
        trials: tries the other master key.
        clocks: the time.
    """

    def __init__(
        self, pool: Pool, core: CoreAccess, relay: ResponseRelay, trials: KeyTrials, clocks: Clocks
    ) -> None:
        self._pool = pool
        self._core = core
        self._relay = relay
        self._trials = trials
        self._monotonic = clocks.monotonic

    async def forward(self, context: RequestContext, head: bytes, body: bytes | None) -> None:
        """Send an admitted request to Core, and Core's response to the client.

        The request's permission is asked whenever bytes leave for Core, for a client may take its time.

        Args:
            context: the request.
            head: its head but for its framing and its end.
            body: its whole body; None for one that streams as it comes.

        Raises:
            GatewayError: Core or the client failed.
            ClientGoneError: nobody is left to respond to.
            DeniedMeanwhileError: the request is not allowed any more.
        """
        self._core.require_verified()
        if body is None:
            await self._stream(context, head)
            return
        if body or context.exchange.method not in _NO_LENGTH:
            data = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        else:
            data = head + b"\r\n"
        context.sent = sent = self._monotonic()
        try:
            response = await self._pool.request(data, context)
            if response.status == 401 and await _refused(context, response):
                response = await self._send_again(context, head, data[len(head) :])
        finally:
            self._note_time(context, sent)
        if response.complete:
            self._relay.relay(context, response)
        else:
            await self._relay.pass_on(context, response)

    def _note_time(self, context: RequestContext, sent: float) -> None:
        """Log the time that a request given to the pool at `sent` was at Core."""
        # 0 after `unsent`: what waited for a connection and got none was not at Core.
        context.entry.upstream_ms = (self._monotonic() - sent) * 1000 if context.sent else 0.0

    async def _send_again(self, context: RequestContext, head: bytes, rest: bytes) -> UpstreamResponse:
        sent = context.sent
        try:
            return await self._trials.send_again(head, rest, context, context.exchange.method)
        finally:
            # It was sent once, whatever became of the repetitions.
            context.sent = sent

    async def _stream(self, context: RequestContext, head: bytes) -> None:
        context.sent = sent = self._monotonic()
        try:
            if self._core.other is not None and context.principal is not None:
                await self._trials.settle(context)
                head = self._core.with_master(head)
            response = await self._upload(context, head)
            if response.status == 401 and await _refused(context, response):
                raise self._trials.refuse(head)
        finally:
            self._note_time(context, sent)
        await self._relay.pass_on(context, response)

    async def _upload(self, context: RequestContext, head: bytes) -> UpstreamResponse:
        exchange = context.exchange
        upload = Upload(exchange.body, context)
        framing = (
            b"Transfer-Encoding: chunked\r\n\r\n"
            if exchange.body.length is None
            else b"Content-Length: %d\r\n\r\n" % exchange.body.length
        )
        try:
            return await self._pool.upload(head + framing, context, upload, upload.begin)
        except GatewayError:
            if (reason := exchange.body.broken or upload.closed) is not None:
                raise reason from None
            raise
        finally:
            exchange.body.stop()
            upload.stop()


async def _refused(context: RequestContext, response: UpstreamResponse) -> bool:
    """Return True for a 401 about the master key, which is not sent on a public route or if Core decides."""
    return context.principal is not None and await blames_key(response, context.exchange.method)
