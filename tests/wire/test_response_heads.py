"""The heads of the gateway's own responses, byte for byte."""

from __future__ import annotations

import pytest

from gateway.errors import Code, error_body
from gateway.proxy.responses import own_head, refusal
from gateway.wire.response_heads import connection_line, status_line

NOW = 784111777.4  # the date that RFC 9110 section 5.6.7 shows
DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK\r\n"),
        (431, b"HTTP/1.1 431 Request Header Fields Too Large\r\n"),
        (299, b"HTTP/1.1 299 Status\r\n"),
    ],
)
def test_a_status_line_has_a_phrase(status: int, line: bytes) -> None:
    """A status line has a phrase; statuses that are not registered have a neutral one."""
    assert status_line(status) == line


@pytest.mark.parametrize(
    ("persistent", "minor", "line"),
    [
        (True, 1, b""),
        (False, 1, b"Connection: close\r\n"),
        (True, 0, b"Connection: keep-alive\r\n"),
        (False, 0, b"Connection: close\r\n"),
    ],
)
def test_connection_says_what_the_version_does_not(persistent: bool, minor: int, line: bytes) -> None:
    """`Connection` is sent only where it differs from the version's default (RFC 9112 section 9.3)."""
    assert connection_line(persistent=persistent, minor=minor) == line


def test_an_own_head_is_never_stored_and_names_the_request() -> None:
    """A head of the gateway has type, length, date, id, `no-store` and `Connection`; the caller ends it."""
    assert own_head(201, 17, b"id-1", b"Connection: close\r\n", NOW) == (
        b"HTTP/1.1 201 Created\r\n"
        b"Content-Type: application/json; charset=utf-8\r\n"
        b"Content-Length: 17\r\n"
        b"Cache-Control: no-store\r\n" + DATE + b"X-Request-Id: id-1\r\n"
        b"Connection: close\r\n"
    )


def test_a_204_has_neither_type_nor_length() -> None:
    """A 204 has neither type nor length; RFC 9110 section 8.6 forbids Content-Length there."""
    assert own_head(204, 0, b"id-1", b"", NOW) == (
        b"HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n" + DATE + b"X-Request-Id: id-1\r\n"
    )


@pytest.mark.parametrize("code", Code)
def test_a_refusal_says_who_said_no(code: Code) -> None:
    """A refusal has Proxy-Status; a 401 also names the key's header, and a 503 has Retry-After."""
    extra = {
        401: b"WWW-Authenticate: X-Blnk-Key\r\n",
        503: b"Retry-After: 1\r\n",
    }
    body = error_body(code.code, "as said")
    assert refusal(code, "as said", b"id-1", b"", NOW) == (
        own_head(code.status, len(body), b"id-1", b"", NOW)
        + b"Proxy-Status: blnk-gateway; error="
        + code.proxy_status.encode()
        + b"\r\n"
        + extra.get(code.status, b"")
        + b"\r\n",
        body,
    )
