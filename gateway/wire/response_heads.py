"""Lines of the heads of responses to clients. Pure."""

from __future__ import annotations

import http
from email.utils import formatdate
from typing import Final

_STATUS_LINES: Final = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, _phrase)
    for status, _phrase in [(known.value, known.phrase.encode()) for known in http.HTTPStatus]
}
_CLOSE: Final = b"Connection: close\r\n"
_KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"


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
