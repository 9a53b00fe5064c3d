"""Core's responses on their way to clients.

Rules kept here:
- A failure behind the response's first byte breaks the connection.
"""

from __future__ import annotations

from typing import Protocol

from gateway.errors import GatewayError
from gateway.proxy.clocks import Clocks
from gateway.proxy.context import RequestContext
from gateway.proxy.stream import Download
from gateway.wire.errors import ClientGoneError
from gateway.wire.response_heads import connection_line, date_line, status_line
from gateway.wire.upstream_response import UpstreamResponse


class CoreObserver(Protocol):
    """Observes how Core behaves."""

    def core_responded(self) -> None:
        """Take note that Core responded."""

    def key_refused(self) -> None:
        """Take note that Core refused a master key: another one may be known by now."""

    def key_accepted(self) -> None:
        """Take note that Core accepted another master key than the one that was sent until now."""

    def refused(self) -> None:
        """Take note that Core refused every master key."""


class ResponseRelay:
    """Passes Core's responses on."""

    def __init__(self, observer: CoreObserver, clocks: Clocks) -> None:
        self._observer = observer
        self._unix_time = clocks.unix
        self._monotonic = clocks.monotonic

    async def pass_on(self, context: RequestContext, response: UpstreamResponse) -> None:
        """Send a response that blames no key to the client. Raises GatewayError, or ClientGoneError."""
        if response.complete:
            self.relay(context, response)
        else:
            await self._stream(context, response)

    def relay(self, context: RequestContext, response: UpstreamResponse) -> None:
        """Send a response that is whole and blames no key."""
        head, _ = self._head(context, response)
        context.exchange.send(head, response.body, response.status)

    def _head(self, context: RequestContext, response: UpstreamResponse) -> tuple[bytes, bool]:
        """Return the head for the client, and whether it says that the body is chunked."""
        exchange, entry = context.exchange, context.entry
        self._observer.core_responded()
        entry.answered_by = "core"
        persistent = exchange.settle_keep_alive()
        bare = response.head.bodiless or exchange.method == "HEAD"
        length = len(response.body) if response.complete and not bare else response.length
        chunked = length is None and not bare and exchange.minor == 1
        if length is None and not bare and not chunked:
            persistent = exchange.end_with_connection()
        head = b"%b%b%b%b%b%bX-Request-Id: %b\r\n\r\n" % (
            status_line(response.status),
            response.head.lines,
            b"" if response.head.dated else date_line(self._unix_time()),
            b"" if response.head.bodiless else _framing(length, chunked=chunked),
            connection_line(persistent=persistent, minor=exchange.minor),
            context.limit_lines,
            entry.request_id.encode(),
        )
        return head, chunked

    async def _stream(self, context: RequestContext, response: UpstreamResponse) -> None:
        exchange = context.exchange
        head, chunked = self._head(context, response)
        exchange.begin(head, response.status, response)
        began = self._monotonic()
        try:
            await response.stream(Download(exchange, response, chunked=chunked))
        except GatewayError:
            if exchange.gone:
                raise ClientGoneError from None
            raise
        finally:
            context.entry.upstream_ms += (self._monotonic() - began) * 1000
        if chunked:
            exchange.write(b"0\r\n\r\n", 0)
        exchange.finish()


def _framing(length: int | None, *, chunked: bool) -> bytes:
    if chunked:
        return b"Transfer-Encoding: chunked\r\n"
    return b"" if length is None else b"Content-Length: %d\r\n" % length
