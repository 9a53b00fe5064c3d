"""The results of TLS handshakes, counted for the metrics.

Rules kept here:
- There are as many results as this table has, whatever clients send.
"""

from __future__ import annotations

import enum
import ssl
from typing import Final


class HandshakeResult(enum.Enum):
    """The result of one handshake, as the metrics name it."""

    DONE = "done"
    ABANDONED = "abandoned"
    """The connection ended before: its client left, its time was over, or another client got its place."""
    NO_CERTIFICATE = "no_certificate"
    UNTRUSTED = "untrusted"
    """The client's certificate is not of the authority, or has ended."""
    VERSION = "version"
    PLAIN_HTTP = "plain_http"
    FAILED = "failed"
    """Anything else: no TLS, no cipher in common, an alert of the client."""


_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": HandshakeResult.NO_CERTIFICATE,
    "CERTIFICATE_VERIFY_FAILED": HandshakeResult.UNTRUSTED,
    "UNSUPPORTED_PROTOCOL": HandshakeResult.VERSION,
    "VERSION_TOO_LOW": HandshakeResult.VERSION,
    "HTTP_REQUEST": HandshakeResult.PLAIN_HTTP,
}
"""By the reason that OpenSSL gives."""


def result_of(problem: ssl.SSLError) -> HandshakeResult:
    """Return the result of a handshake that has failed."""
    return _REASONS.get(problem.reason or "", HandshakeResult.FAILED)


class HandshakeResults:
    """The number of handshakes of one listener by their results."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(HandshakeResult, 0)

    def count(self, result: HandshakeResult) -> None:
        """Count a handshake that has ended."""
        self.counts[result] += 1
