"""Decides whether a key may be used from where its request comes: the client's address and certificate.

Rules kept here:
- A key that is bound to a certificate is refused on every connection without that one, also without TLS.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from gateway.errors import Code
from gateway.ip_addresses import is_inside
from gateway.policy.terms import KeyTerms
from gateway.policy.values import Deny


@dataclass(frozen=True, slots=True)
class Origin:
    """The place that a request comes from.

    `address` is the client's IP address. `certificate` is the SHA-256, in hexadecimal, of the certificate
    that the client showed on this connection; "" for none.
    """

    address: str
    certificate: str = ""


def check_origin(terms: KeyTerms, origin: Origin) -> Deny | None:
    """Return the refusal of a key with these terms from this origin, if it is refused."""
    if terms.allow_from and not is_inside(origin.address, terms.allow_from):
        return Deny(Code.ADDRESS_DENIED, Code.ADDRESS_DENIED.message)
    if terms.certificate and not hmac.compare_digest(terms.certificate, origin.certificate):
        return Deny(Code.CERTIFICATE_MISMATCH, Code.CERTIFICATE_MISMATCH.message)
    return None
