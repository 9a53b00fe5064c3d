"""Reads the files of certificates that the settings name, and makes TLS contexts of them.

Rules kept here:
- A certificate and its key are usable together, or they are refused: the text names the setting and says what
  is wrong with its file.
- TLS 1.2 and newer, without renegotiation.
- A certificate that has ended is no reason to refuse it: a restart would then be an outage for everybody.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.config.values import BadValueError

if TYPE_CHECKING:
    from cryptography import x509

SOON_SECONDS: Final = 30 * 86400
"""A certificate that ends within this time is a warning."""
_LARGEST: Final = 1024 * 1024
_NO_KEY: Final = "holds no private key in PEM that can be read without a password"


class CertificateError(BadValueError):
    """The file of one setting cannot be used; the text says why."""

    def __init__(self, setting: str, text: str) -> None:
        self.setting = setting
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class PemFile:
    """A file in PEM, and the path of the setting that names it, such as `tls.key`."""

    setting: str
    path: Path

    def read(self) -> bytes:
        """Return its content. Raises CertificateError."""
        try:
            with self.path.open("rb") as file:
                content = file.read(_LARGEST + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "this is not a path"
            raise CertificateError(self.setting, f"the file cannot be read: {reason}") from None
        if len(content) > _LARGEST:
            raise CertificateError(self.setting, "the file is larger than 1 MiB")
        return content


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate, with those of its authorities behind it, and its private key."""

    certificate: PemFile
    key: PemFile

    def load_into(self, context: ssl.SSLContext) -> None:
        """Let a context show the certificate. Raises CertificateError."""
        read_certificates(self.certificate)
        if b"PRIVATE KEY-----" not in self.key.read():
            raise CertificateError(self.key.setting, f"the file {_NO_KEY}")
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self.certificate.path, self.key.path, password="")
        except ssl.SSLError as error:
            raise self._unusable(error) from None
        except OSError as error:
            # It was replaced meanwhile.
            raise CertificateError(self.key.setting, f"the file cannot be read: {error.strerror}") from None

    def _unusable(self, error: ssl.SSLError) -> CertificateError:
        if error.reason == "KEY_VALUES_MISMATCH":
            return CertificateError(self.key.setting, f"is not the key of {self.certificate.setting}")
        if error.reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
            text = f"OpenSSL refuses the certificate: {error.reason.lower().replace('_', ' ')}"
            return CertificateError(self.certificate.setting, text)
        return CertificateError(self.key.setting, f"the file {_NO_KEY}")

    @property
    def files(self) -> tuple[PemFile, ...]:
        """Both files."""
        return self.certificate, self.key


def read_certificates(file: PemFile) -> Sequence[x509.Certificate]:
    """Return the certificates of a file, of which there is at least one. Raises CertificateError."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(file.read())
    except CertificateError:
        raise
    except ValueError:
        raise CertificateError(
            file.setting, "the file holds no certificate in PEM, or one that cannot be read"
        ) from None


def end_of(file: PemFile) -> float:
    """Return the end of the first certificate of a file, in Unix seconds. Raises CertificateError."""
    return read_certificates(file)[0].not_valid_after_utc.timestamp()


def end_text(end: float, now: float) -> str:
    """Return a warning of a certificate that has ended or ends soon, else ""; both in Unix seconds."""
    if end > now + SOON_SECONDS:
        return ""
    at = f"{datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M} UTC"
    if end <= now:
        return f"the certificate ended on {at}: clients refuse it; renew it"
    return f"the certificate ends in {int((end - now) // 86400)} days, on {at}: renew it"


def _authorities(file: PemFile) -> bytes:
    """Return the authorities of a file, in DER, as OpenSSL can read them. Raises CertificateError."""
    from cryptography.hazmat.primitives.serialization import Encoding

    # The text of the file may have comments outside ASCII, which `ssl` refuses.
    found = b"".join(one.public_bytes(Encoding.DER) for one in read_certificates(file))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=found)
    except ssl.SSLError:
        raise CertificateError(file.setting, "OpenSSL cannot read a certificate of the file") from None
    return found


def server_context(pair: KeyPair, client_ca: PemFile | None) -> ssl.SSLContext:
    """Return the context of a listener; with `client_ca` a certificate of a client is required.

    Raises CertificateError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    pair.load_into(context)
    if client_ca is not None:
        context.load_verify_locations(cadata=_authorities(client_ca))
        context.verify_mode = ssl.CERT_REQUIRED
        # A certificate that has ended, or whose authority was taken out, does not come back with a ticket.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    return context


def core_context(authorities: PemFile | None, pair: KeyPair | None) -> ssl.SSLContext:
    """Return the context of connections to Core, whose certificate is always verified.

    Without `authorities` it trusts what OpenSSL does: SSL_CERT_FILE and SSL_CERT_DIR, or else the system's.
    Raises CertificateError.
    """
    context = ssl.create_default_context(cadata=_authorities(authorities) if authorities else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if pair is not None:
        pair.load_into(context)
    return context
