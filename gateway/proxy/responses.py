"""The gateway's own responses to clients: refusals, failures, `/api-keys`.

Rules kept here:
- A response that has begun cannot be replaced: a failure then breaks the connection.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import Code, GatewayError
from gateway.keys.api.resource import ApiResponse
from gateway.policy.decisions import Deny
from gateway.proxy.context import RequestContext
from gateway.proxy.errors import code_of, message_of
from gateway.wire.exchange import Exchange
from gateway.wire.response_heads import connection_line, own_head, refusal


class Responder:
    """Sends the gateway's own responses. `unix` gives Unix seconds."""

    def __init__(self, unix: Callable[[], float]) -> None:
        self._unix = unix

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
        head = own_head(response.status, len(response.body), request_id, _connection(exchange), self._unix())
        exchange.send(head + b"\r\n", response.body, response.status)

    def unreadable(self, failure: GatewayError, request_id: str) -> tuple[bytes, bytes]:
        """Return (head, body) of the response to a request that could not be read."""
        closing = b"Connection: close\r\n"
        return refusal(code_of(failure), message_of(failure), request_id.encode(), closing, self._unix())

    def _refuse(self, context: RequestContext, code: Code, message: str) -> None:
        exchange, entry = context.exchange, context.entry
        entry.code = code.code
        head, body = refusal(code, message, entry.request_id.encode(), _connection(exchange), self._unix())
        exchange.send(head, b"" if exchange.method == "HEAD" else body, code.status)


def _connection(exchange: Exchange) -> bytes:
    return connection_line(persistent=exchange.settle_keep_alive(), minor=exchange.minor)
