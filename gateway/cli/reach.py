"""Whether a Core answers at an address, asked from where a client stands.

Rules kept here:
- No key is sent, so nothing is given away, and who answers is found out whatever certificate is shown; one
  that this machine does not trust is named.
- The gateway is told from Core by `Proxy-Status`, which only its own answers carry.
- Where it cannot be told who answers, that is said: silence would be taken for safety.
"""

from __future__ import annotations

import enum
import http.client
import json
import socket
import ssl
from contextlib import closing
from dataclasses import dataclass, replace
from http import HTTPStatus
from urllib.parse import urlsplit

SECONDS = 5.0
"""How long one step of an answer may take."""
_PROTECTED = "/ledgers?limit=1"
_OWN = "blnk-gateway"
_AT_THE_ROOT = b"server running"
"""What Core says to `GET /`, to anyone."""
_MOST = 64 * 1024


class Who(enum.Enum):
    """Who answers."""

    NOBODY = "nobody"
    GATEWAY = "the gateway"
    CORE = "a Core"
    OTHER = "another server"
    UNKNOWN = "cannot be told"


@dataclass(frozen=True, slots=True)
class Answering:
    """Who answers at an address, and what shows it."""

    who: Who
    text: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    proxy_status: str
    body: bytes


def who_answers(url: str) -> Answering:
    """Who answers at `url`, `http://host:port` or `https://host:port`.

    Raises:
        ValueError: `url` is of another shape.
    """
    base = urlsplit(url)
    host = base.hostname or ""
    if base.scheme not in ("http", "https") or not host or base.port == 0 or not _is_name(host):
        raise ValueError("write http://host:port or https://host:port")
    try:
        connection, distrust = _connected(base.scheme, host, base.port)
    except socket.gaierror:
        return Answering(Who.UNKNOWN, "the name is not known here: give Core's IP address")
    except ssl.SSLError:
        return Answering(Who.UNKNOWN, "something listens, but not with TLS: ask with http://")
    except OSError as error:
        return Answering(Who.NOBODY, f"nobody answers: {error.strerror or error}")
    try:
        found = _judge(_ask(connection, _PROTECTED), connection)
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        return Answering(Who.UNKNOWN, f"something listens, but gives no HTTP answer: {reason}")
    return replace(found, text=found.text + distrust)


def _connected(scheme: str, host: str, port: int | None) -> tuple[http.client.HTTPConnection, str]:
    """An open connection, and that its certificate is not trusted and why, or "". Raises OSError."""
    if scheme == "http":
        return _opened(http.client.HTTPConnection(host, port, timeout=SECONDS)), ""
    try:
        return _opened(http.client.HTTPSConnection(host, port, timeout=SECONDS)), ""
    except ssl.SSLCertVerificationError as error:
        distrust = f"; its certificate is not trusted on this machine: {error.verify_message.rstrip('.')}"
    context = _any_certificate()
    return _opened(http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)), distrust


def _opened(connection: http.client.HTTPConnection) -> http.client.HTTPConnection:
    connection.connect()
    return connection


def _is_name(host: str) -> bool:
    """Whether http.client takes it for a host."""
    return all("!" <= char != "\x7f" for char in host)


def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _ask(connection: http.client.HTTPConnection, target: str) -> _Answer:
    """The answer to one request; the connection is closed after it, and opened again by the next."""
    with closing(connection):
        connection.request("GET", target, headers={"User-Agent": "blnk-gateway-check"})
        answer = connection.getresponse()
        return _Answer(answer.status, answer.getheader("Proxy-Status", ""), answer.read(_MOST))


def _judge(protected: _Answer, connection: http.client.HTTPConnection) -> Answering:
    if protected.proxy_status.startswith(_OWN):
        return Answering(Who.GATEWAY, "the gateway answers")
    asks_for_key = _code(protected.body).startswith("AUTH_")
    if not asks_for_key and _AT_THE_ROOT not in _ask(connection, "/").body:
        if protected.status == HTTPStatus.TOO_MANY_REQUESTS or protected.status >= 500:
            text = f"something answers {protected.status}: ask again, or Core's own address"
            return Answering(Who.UNKNOWN, text)
        return Answering(Who.OTHER, f"another server answers, with {protected.status}")
    text = "a Core answers here, beside the gateway: let only the gateway connect to it"
    if protected.status == HTTPStatus.OK:
        text += "; it asks for no key at all: set server.secure to true"
    return Answering(Who.CORE, text)


def _code(body: bytes) -> str:
    """The code of an error as Core answers it; empty for any other body."""
    try:
        return str(json.loads(body)["error_detail"]["code"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
