"""The certificate that a client has shown, as the log and the terms of keys have it.

Rules kept here:
- OpenSSL has verified it before it comes here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

MAX_SUBJECT: Final = 256
"""Characters of a subject that are kept."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A client's certificate: the SHA-256 of its DER in hexadecimal, and its subject (RFC 4514)."""

    sha256: str = ""
    subject: str = ""


NO_CERTIFICATE: Final = ClientCertificate()


def read_client_certificate(der: bytes) -> ClientCertificate:
    """Return what is kept of a certificate; `NO_CERTIFICATE` if there is none."""
    if not der:
        return NO_CERTIFICATE
    return ClientCertificate(hashlib.sha256(der).hexdigest(), _subject(der)[:MAX_SUBJECT])


def _subject(der: bytes) -> str:
    from cryptography import x509

    try:
        return x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except (ValueError, x509.InvalidVersion):
        # OpenSSL reads names that this library does not.
        return ""
