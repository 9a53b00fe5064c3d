"""The heads of requests to Core, built new from what the client sent, with the master key."""

from __future__ import annotations

from gateway.proxy.context import RequestContext
from gateway.proxy.core_access import CoreAccess
from gateway.wire.exchange import Exchange
from gateway.wire.headers import request_lines


def core_head(context: RequestContext, core: CoreAccess, *, master: bool) -> bytes:
    """Return the head for Core without its framing and its end; `master` adds the master key, last."""
    exchange = context.exchange
    trusted = context.config.trusts(exchange.peer)
    headers = exchange.headers
    trace = context.trace
    crossing = request_lines(headers.lines, trusted=trusted, traced=trace is not None)
    if trace is not None:
        crossing += trace.lines
    forwarded = exchange.peer.encode()
    if trusted and (earlier := headers.values(b"x-forwarded-for")):
        forwarded = b", ".join([*earlier, forwarded])
    return (
        b"%b %b HTTP/1.1\r\n%b%bVia: 1.%d blnk-gateway\r\nX-Forwarded-For: %b\r\n%bX-Request-Id: %b\r\n%b"
        % (
            exchange.method.encode(),
            exchange.target.encode("utf-8", "surrogateescape"),
            core.host_line,
            crossing,
            exchange.minor,
            forwarded,
            _forwarded_lines(exchange, trusted=trusted),
            context.entry.request_id.encode(),
            core.master.line if master else b"",
        )
    )


def scheme_of(exchange: Exchange, *, trusted: bool) -> str:
    """Return the scheme of the client's request: its connection's, or what a trusted proxy says of it."""
    if trusted and exchange.headers.count(b"x-forwarded-proto"):
        return exchange.headers.text(b"x-forwarded-proto")
    return exchange.scheme


def _forwarded_lines(exchange: Exchange, *, trusted: bool) -> bytes:
    headers = exchange.headers
    host = headers.value(b"host")
    if trusted and headers.count(b"x-forwarded-host"):
        host = headers.value(b"x-forwarded-host")
    proto = scheme_of(exchange, trusted=trusted)
    line = b"X-Forwarded-Proto: %b\r\n" % proto.encode("utf-8", "surrogateescape")
    if host:
        line += b"X-Forwarded-Host: %b\r\n" % host
    return line
