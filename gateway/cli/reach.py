"""Identifies what responds at an address, from the machine of a client: a Core that can be reached directly?

Rules kept here:
- No key is sent, so nothing is given away, and the check accepts any certificate; one that this machine does
  not trust is named.
- `Proxy-Status` distinguishes the gateway from Core: only the gateway's own responses carry it.
- If it is not known what responds, the result says so: no result would be mistaken for safety.
"""

from __future__ import annotations

import enum
import http.client
import json
import socket
import ssl
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from gateway.cli.http_get import get

SECONDS = 5.0
"""The longest time for one step: to connect to an address, or to ask and to receive the response."""
_PROTECTED = "/ledgers?limit=1"
_GATEWAY = "blnk-gateway"
_CORE_AT_ROOT = b"server running"
"""In Core's response to `GET /`, for anyone."""
_HEADERS: Final = {"User-Agent": "blnk-gateway-check"}


class ResponderKind(enum.Enum):
    """The kind of server at an address."""

    NOBODY = "nobody"
    GATEWAY = "the gateway"
    CORE = "a Core"
    OTHER = "another server"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Reached:
    """The kind of server at an address, and a text for operators."""

    responder: ResponderKind
    text: str


def identify_responder(url: str, seconds: float = SECONDS) -> Reached:
    """Return what responds at `url`, `http://host:port` or `https://host:port`.

    Each of two requests takes so many seconds at most, and to connect to an address `SECONDS`.

    Raises:
        ValueError: `url` has another form.
    """
    base = urlsplit(url)
    host = base.hostname or ""
    if base.scheme not in ("http", "https") or not host or base.port == 0 or not _is_name(host):
        raise ValueError("write http://host:port or https://host:port")
    try:
        connection, distrust = _connect(base.scheme, host, base.port)
    except socket.gaierror:
        return Reached(
            ResponderKind.UNKNOWN, "this machine does not know the host name: use Core's IP address"
        )
    except ssl.SSLError:
        return Reached(ResponderKind.UNKNOWN, "something listens, but does not speak TLS: use http://")
    except OSError as error:
        return Reached(ResponderKind.NOBODY, f"nothing responds: {error.strerror or error}")
    try:
        found = _identify(connection, seconds)
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        return Reached(ResponderKind.UNKNOWN, f"something listens, but sends no HTTP response: {reason}")
    return replace(found, text=found.text + distrust)


def _connect(scheme: str, host: str, port: int | None) -> tuple[http.client.HTTPConnection, str]:
    """Return an open connection, and a text about an untrusted certificate, or "". Raises OSError."""
    if scheme == "http":
        return _opened(http.client.HTTPConnection(host, port, timeout=SECONDS)), ""
    try:
        return _opened(http.client.HTTPSConnection(host, port, timeout=SECONDS)), ""
    except ssl.SSLCertVerificationError as error:
        distrust = f"; this machine does not trust its certificate: {error.verify_message.rstrip('.')}"
    context = _any_certificate()
    return _opened(http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)), distrust


def _opened(connection: http.client.HTTPConnection) -> http.client.HTTPConnection:
    connection.connect()
    return connection


def _is_name(host: str) -> bool:
    """Return whether http.client accepts it as a host."""
    return all("!" <= char != "\x7f" for char in host)


def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _identify(connection: http.client.HTTPConnection, seconds: float) -> Reached:
    """Return what responds. Raises OSError, http.client.HTTPException."""
    protected = get(connection, _PROTECTED, _HEADERS, seconds)
    if protected.proxy_status.startswith(_GATEWAY):
        return Reached(ResponderKind.GATEWAY, "the gateway responds")
    asks_for_key = _error_code(protected.body).startswith("AUTH_")
    if not asks_for_key and _CORE_AT_ROOT not in get(connection, "/", _HEADERS, seconds).body:
        if protected.status == HTTPStatus.TOO_MANY_REQUESTS or protected.status >= 500:
            text = f"a server responds with {protected.status}: try again, or use Core's own address"
            return Reached(ResponderKind.UNKNOWN, text)
        return Reached(ResponderKind.OTHER, f"another server responds, with {protected.status}")
    text = "a Core responds, so clients can bypass the gateway: let only the gateway connect to Core"
    if protected.status == HTTPStatus.OK:
        text += "; it requires no key at all: set server.secure to true"
    return Reached(ResponderKind.CORE, text)


def _error_code(body: bytes) -> str:
    """Return the code of an error body of Core; "" for any other body."""
    try:
        return str(json.loads(body)["error_detail"]["code"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
