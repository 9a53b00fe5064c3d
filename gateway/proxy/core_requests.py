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
    crossing = request_lines(exchange.raw_headers, trusted=trusted, traced=trace is not None)
    if trace is not None:
        crossing += trace.lines
    forwarded = exchange.peer
    if trusted and (earlier := headers.getall("X-Forwarded-For", ())):
        forwarded = ", ".join([*earlier, forwarded])
    return (
        b"%b %b HTTP/1.1\r\n%b%bVia: 1.%d blnk-gateway\r\nX-Forwarded-For: %b\r\n%bX-Request-Id: %b\r\n%b"
        % (
            exchange.method.encode(),
            exchange.target.encode("utf-8", "surrogateescape"),
            core.host_line,
            crossing,
            exchange.minor,
            forwarded.encode("utf-8", "surrogateescape"),
            _forwarded_lines(exchange, trusted=trusted),
            context.entry.request_id.encode(),
            core.master.line if master else b"",
        )
    )


def scheme_of(exchange: Exchange, *, trusted: bool) -> str:
    """Return the scheme of the client's request: its connection's, or what a trusted proxy says of it."""
    if not trusted:
        return exchange.scheme
    said: str = exchange.headers.get("X-Forwarded-Proto", exchange.scheme)
    return said


def _forwarded_lines(exchange: Exchange, *, trusted: bool) -> bytes:
    headers = exchange.headers
    host = headers.get("Host", "")
    if trusted:
        host = headers.get("X-Forwarded-Host", host)
    proto = scheme_of(exchange, trusted=trusted)
    line = b"X-Forwarded-Proto: %b\r\n" % proto.encode("utf-8", "surrogateescape")
    if host:
        line += b"X-Forwarded-Host: %b\r\n" % host.encode("utf-8", "surrogateescape")
    return line
