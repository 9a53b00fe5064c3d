"""The gateway's own responses to clients: refusals, failures, `/api-keys`.

Rules kept here:
- A response that has begun cannot be replaced: a failure then breaks the connection.
- The gateway's own responses say so: `Proxy-Status` (RFC 9209), `Cache-Control: no-store`, `X-Request-Id`.
- 401 names the header for the key. 429 and 503 say when to try again: of 429, the limit of the key says it.
- Nothing that the client sent is echoed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.errors import Code, GatewayError, error_body
from gateway.keys.api.resource import ApiResponse
from gateway.policy.values import Deny
from gateway.proxy.context import RequestContext
from gateway.proxy.errors import code_of, message_of
from gateway.wire.exchange import Exchange
from gateway.wire.response_heads import connection_line, date_line, status_line

_JSON: Final = b"application/json; charset=utf-8"


class Responder:
    """Sends the gateway's own responses. `unix` gives Unix seconds."""

    def __init__(self, unix: Callable[[], float]) -> None:
        self._unix_time = unix

    def deny(self, context: RequestContext, deny: Deny) -> None:
        """Refuse a request."""
        context.entry.decision = "deny"
        if deny.route is not None:
            context.entry.route = deny.route.name
        self._refuse(context, deny.code, deny.message)

    def fail(self, context: RequestContext, failure: GatewayError) -> None:
        """Respond to a request that failed; break the connection if its response has begun."""
        code = code_of(failure)
        if context.exchange.responded:
            context.entry.code = code.code
            context.exchange.cut()
        else:
            self._refuse(context, code, message_of(failure))

    def send(self, context: RequestContext, response: ApiResponse) -> None:
        """Send a response of `/api-keys`."""
        exchange, request_id = context.exchange, context.entry.request_id.encode()
        head = own_head(response.status, len(response.body), request_id, _lines(context), self._unix_time())
        exchange.send(head + b"\r\n", response.body, response.status)

    def unreadable(self, failure: GatewayError, request_id: str) -> tuple[bytes, bytes]:
        """Return (head, body) of the response to a request that could not be read."""
        closing = b"Connection: close\r\n"
        return refusal(code_of(failure), message_of(failure), request_id.encode(), closing, self._unix_time())

    def _refuse(self, context: RequestContext, code: Code, message: str) -> None:
        exchange, entry = context.exchange, context.entry
        entry.code = code.code
        head, body = refusal(code, message, entry.request_id.encode(), _lines(context), self._unix_time())
        exchange.send(head, b"" if exchange.method == "HEAD" else body, code.status)


def connection_of(exchange: Exchange) -> bytes:
    """Return the `Connection` header of a response, and settle whether the connection goes on after it."""
    return connection_line(persistent=exchange.settle_keep_alive(), minor=exchange.minor)


def _lines(context: RequestContext) -> bytes:
    return connection_of(context.exchange) + context.limit_lines


def own_head(status: int, length: int, request_id: bytes, lines: bytes, now: float) -> bytes:
    """Return the head of a response of the gateway's own, without its end.

    `lines` are further header lines, and `now` is in Unix seconds.
    """
    typed = b"Content-Type: %b\r\nContent-Length: %d\r\n" % (_JSON, length) if status != 204 else b""
    return b"%b%bCache-Control: no-store\r\n%bX-Request-Id: %b\r\n%b" % (
        status_line(status),
        typed,
        date_line(now),
        request_id,
        lines,
    )


def refusal(code: Code, message: str, request_id: bytes, lines: bytes, now: float) -> tuple[bytes, bytes]:
    """Return (head, body) of an error response of the catalogue; `lines` and `now` as for `own_head`."""
    body = error_body(code.code, message)
    head = own_head(code.status, len(body), request_id, lines, now)
    return head + refusal_lines(code) + b"\r\n", body


def refusal_lines(code: Code) -> bytes:
    """Return the headers that an error response has beside those of `own_head`."""
    lines = b"Proxy-Status: blnk-gateway; error=%b\r\n" % code.proxy_status.encode()
    if code.status == 401:
        lines += b"WWW-Authenticate: X-Blnk-Key\r\n"
    elif code.status == 503:
        lines += b"Retry-After: 1\r\n"
    return lines
