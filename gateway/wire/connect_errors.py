"""Reasons why Core is not reached, in words for operators.

Rules kept here:
- Each reason says what happened, and which setting mends it if one does.
- Nothing that the other end sent is repeated: its first bytes only choose the words.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Mapping
from typing import Final

from gateway.wire.errors import UpstreamTimeoutError, UpstreamUnreachableError

CLOSED: Final = "Core closed the connection without a byte of a response"
"""For a connection that was made and then lost before the response began."""
BROKEN_OFF: Final = "Core closed the connection in the middle of a response"
SPEAKS_TLS: Final = "what responds at upstream.url speaks TLS: write https:// there"
GATEWAY: Final = (
    "what responds at upstream.url is a Blnk Gateway that does not reach its Core; "
    "upstream.url must be the address of Core, not of a gateway"
)
MAYBE_NOT_HTTP: Final = (
    "if it speaks TLS, write https:// in upstream.url; or it is no HTTP server, such as a Redis"
)
_MAYBE_NO_TLS: Final = "if it speaks no TLS, write http:// in upstream.url"
_SPEAKS_NO_TLS: Final = "what responds at upstream.url does not speak TLS: write http:// there"
_NO_HTTP: Final = "what responds at upstream.url does not speak HTTP"

_BEGINNINGS: Final = ((b"\x15\x03", SPEAKS_TLS), (b"-", f"{_NO_HTTP}: it seems to be a Redis"))
"""The first bytes of servers of other protocols when they get a request: a TLS alert record (RFC 8446
section 5.1), an error of Redis."""
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
"""The reasons that OpenSSL gives, depending on its version, for bytes that are no TLS record."""
_WORDS: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network unreachable",
    errno.ECONNRESET: "connection reset",
    errno.ETIMEDOUT: "timed out",
}
_WRONG_NAME: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
_DATES: Final = {9: "is not valid yet", 10: "has expired"}
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


def unreachable(reason: str) -> UpstreamUnreachableError:
    """Return the failure of a Core that is not reached."""
    return UpstreamUnreachableError(reason=reason)


def too_slow(reason: str) -> UpstreamTimeoutError:
    """Return the failure of a Core that is too slow."""
    return UpstreamTimeoutError(reason=reason)


def name_failed(host: str, error: Exception) -> str:
    """Return why `host` could not be resolved."""
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return f"the name {host} cannot be resolved now: the name server does not respond"
    return f"unknown host name {host}"


def name_too_slow(host: str, seconds: float) -> str:
    """Return the reason for a name that was not resolved in time."""
    return f"the name {host} was not resolved within {seconds:g} s"


def connecting_failed(failures: Mapping[str, OSError | None], seconds: float) -> str:
    """Return why no address could be connected to.

    Args:
        failures: the failure of each address that was tried, as `host:port`; None for no response.
        seconds: how long those were waited for.
    """
    silent = f"no response within {seconds:g} s"
    addresses: dict[str, list[str]] = {}
    for address, error in failures.items():
        addresses.setdefault(silent if error is None else _words(error), []).append(address)
    return "; ".join(f"{words} ({', '.join(at)})" for words, at in addresses.items())


def handshake_failed(host: str, error: OSError) -> str:
    """Return why the TLS handshake with `host` failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_failed(host, error)
    if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        return _SPEAKS_NO_TLS
    if isinstance(error, ssl.SSLError) and error.reason and not isinstance(error, ssl.SSLEOFError):
        return f"TLS handshake with {host} failed: {error.reason.lower().replace('_', ' ')}"
    return f"{host} closed the connection during the TLS handshake; {_MAYBE_NO_TLS}"


def handshake_too_slow(host: str, seconds: float) -> str:
    """Return the reason for a handshake that was not done in time."""
    return f"TLS handshake with {host} not done within {seconds:g} s; {_MAYBE_NO_TLS}"


def unparsable(beginning: bytes) -> str:
    """Return why a response with this beginning cannot be parsed; the beginning may be empty."""
    if not beginning or beginning.startswith(b"HTTP/"):
        return "Core's response is malformed HTTP"
    return next((words for start, words in _BEGINNINGS if beginning.startswith(start)), _NO_HTTP)


def _certificate_failed(host: str, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _WRONG_NAME:
        return f"the certificate of {host} is for another name"
    if error.verify_code in _DATES:
        return f"the certificate of {host} {_DATES[error.verify_code]}"
    return (
        f"the certificate of {host} is not trusted ({error.verify_message}): name a PEM file with the "
        "certificate of its authority in upstream.ca_file"
    )


def _words(error: OSError) -> str:
    if error.errno is None:
        return type(error).__name__
    return _WORDS.get(error.errno) or os.strerror(error.errno).lower()
