"""Heads of the responses that clients get: the gateway's own, and the parts of Core's. Pure.

Rules kept here:
- The gateway's own responses say so: `Proxy-Status` (RFC 9209), `Cache-Control: no-store`, `X-Request-Id`.
- 401 names the header for the key. 429 and 503 say when to try again.
- Nothing that the client sent is echoed.
"""

from __future__ import annotations

import http
from email.utils import formatdate

from gateway.errors import Code, error_body

_STATUS_LINES = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, _phrase)
    for status, _phrase in [(known.value, known.phrase.encode()) for known in http.HTTPStatus]
}
_CLOSE = b"Connection: close\r\n"
_KEEP_ALIVE = b"Connection: keep-alive\r\n"
JSON = b"application/json; charset=utf-8"


def status_line(status: int) -> bytes:
    """Return a line such as `HTTP/1.1 200 OK`, with its CRLF."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d Status\r\n" % status


def connection_line(*, persistent: bool, minor: int) -> bytes:
    """Return the `Connection` header, empty if the version's default says the same (RFC 9112 section 9.3)."""
    if not persistent:
        return _CLOSE
    return b"" if minor else _KEEP_ALIVE


def date_line(now: float) -> bytes:
    """Return the `Date` header for `now` in Unix seconds (RFC 9110 section 6.6.1)."""
    return b"Date: %b\r\n" % formatdate(now, usegmt=True).encode()


def own_head(status: int, length: int, request_id: bytes, connection: bytes, now: float) -> bytes:
    """Return the head of a response of the gateway's own, without its end; `now` is in Unix seconds."""
    typed = b"Content-Type: %b\r\nContent-Length: %d\r\n" % (JSON, length) if status != 204 else b""
    return b"%b%bCache-Control: no-store\r\n%bX-Request-Id: %b\r\n%b" % (
        status_line(status),
        typed,
        date_line(now),
        request_id,
        connection,
    )


def refusal(
    code: Code, message: str, request_id: bytes, connection: bytes, now: float
) -> tuple[bytes, bytes]:
    """Return (head, body) of an error response of the catalogue; `now` is in Unix seconds."""
    body = error_body(code.code, message)
    extra = b"Proxy-Status: blnk-gateway; error=%b\r\n" % code.proxy_status.encode()
    if code.status == 401:
        extra += b"WWW-Authenticate: X-Blnk-Key\r\n"
    elif code.status in (429, 503):
        extra += b"Retry-After: 1\r\n"
    return own_head(code.status, len(body), request_id, connection, now) + extra + b"\r\n", body
