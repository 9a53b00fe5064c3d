"""The connection of a command to a private listener of a running gateway, over HTTP or TLS.

Rules kept here:
- A gateway that speaks TLS has to show the very certificate that `tls.certificate` names, whatever address it
  is asked at. So no name has to match, and health can be asked of a gateway whose certificate has ended.
- Without such a certificate the gateway's is verified as that of any server.
- Nothing is sent before the certificate was compared, for a request may carry the admin token.
"""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path

from gateway.config import Config
from gateway.config.certificates import CertificateError, KeyPair, PemFile, read_certificates

STEP_SECONDS = 5.0
"""The longest that a command waits to connect to an address, or for the whole response."""


class WrongCertificateError(OSError):
    """The gateway showed another certificate."""


class PinnedConnection(http.client.HTTPSConnection):
    """A connection to the server that has this certificate (DER)."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, certificate: bytes) -> None:
        super().__init__(host, port, timeout=STEP_SECONDS, context=context)
        self._certificate = certificate

    def connect(self) -> None:
        """Connect, and compare the certificate. Raises OSError."""
        super().connect()
        if not isinstance(self.sock, ssl.SSLSocket) or self.sock.getpeercert(True) != self._certificate:
            self.close()
            raise WrongCertificateError(
                None,
                "what responds shows another certificate than tls.certificate; a new file is used within 2 s",
            )


def private_connection(
    scheme: str, host: str, port: int | None, config: Config | None, shown: KeyPair | None
) -> http.client.HTTPConnection:
    """Return a connection that is not made yet.

    Args:
        scheme: `http` or `https`.
        host: the host to connect to.
        port: the port, None for that of the scheme.
        config: names the gateway's certificate, if there is one.
        shown: the certificate to show where the gateway asks for one; None for the gateway's own.

    Raises CertificateError if a file cannot be used.
    """
    if scheme == "http":
        return http.client.HTTPConnection(host, port or 80, timeout=STEP_SECONDS)
    tls = None if config is None else config.tls
    from cryptography.hazmat.primitives.serialization import Encoding

    context = ssl.create_default_context()
    pair = shown if shown is not None or tls is None or tls.client_ca is None else tls.pair
    if pair is not None:
        pair.load_into(context)
    if tls is None or tls.pair is None:
        return http.client.HTTPSConnection(host, port or 443, timeout=STEP_SECONDS, context=context)
    certificate = read_certificates(tls.pair.certificate)[0].public_bytes(Encoding.DER)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return PinnedConnection(host, port or 443, context, certificate)


def shown_pair(certificate: Path | None, key: Path | None) -> KeyPair | None:
    """Return the certificate that options name, and its key.

    Raises CertificateError for one without the other.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise CertificateError("--certificate", "write both --certificate and --key")
    return KeyPair(PemFile("--certificate", certificate), PemFile("--key", key))
