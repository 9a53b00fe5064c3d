"""Reads the files of certificates that the settings name, and makes TLS contexts of them.

Rules kept here:
- A certificate and its key are usable together, or they are refused: the text names the setting and says what
  is wrong with its file.
- TLS 1.2 and newer, without renegotiation.
- A certificate that has ended is no reason to refuse it: a restart would then be an outage for everybody.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.config.values import BadValueError

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
        certificate = self.certificate.read()
        if b"PRIVATE KEY-----" not in self.key.read():
            raise CertificateError(self.key.setting, f"the file {_NO_KEY}")
        leaf_of(self.certificate.setting, certificate)
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


def leaf_of(setting: str, pem: bytes) -> bytes:
    """Return the first certificate of a file in DER. Raises CertificateError."""
    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    start, stop = pem.find(begin), pem.find(end)
    try:
        return ssl.PEM_cert_to_DER_cert(pem[start : stop + len(end)].decode("ascii"))
    except ValueError:
        raise CertificateError(setting, "the file holds no certificate in PEM") from None


def end_of(der: bytes) -> float:
    """Return the end of a certificate, in Unix seconds. Raises ValueError for what is no certificate."""
    from cryptography import x509

    return x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()


def end_of_file(file: PemFile) -> float:
    """Return the end of the first certificate of a file, in Unix seconds. Raises CertificateError."""
    try:
        return end_of(leaf_of(file.setting, file.read()))
    except CertificateError:
        raise
    except ValueError:
        raise CertificateError(file.setting, "the file holds no certificate that can be read") from None


def end_text(end: float, now: float) -> str:
    """Return a warning of a certificate that has ended or ends soon, else ""; both in Unix seconds."""
    if end > now + SOON_SECONDS:
        return ""
    at = f"{datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M} UTC"
    if end <= now:
        return f"the certificate ended on {at}: clients refuse it; renew it"
    return f"the certificate ends in {int((end - now) // 86400)} days, on {at}: renew it"


def load_authorities(context: ssl.SSLContext, file: PemFile) -> None:
    """Let a context trust the authorities of a file, and no others. Raises CertificateError."""
    content = file.read()
    leaf_of(file.setting, content)
    try:
        context.load_verify_locations(cadata=content.decode("ascii", "replace"))
    except ssl.SSLError:
        raise CertificateError(file.setting, "the file holds a certificate that cannot be read") from None


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
        load_authorities(context, client_ca)
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
    if authorities is None:
        context = ssl.create_default_context()
    else:
        context = ssl.create_default_context(cadata=_ascii(authorities))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if pair is not None:
        pair.load_into(context)
    return context


def _ascii(file: PemFile) -> str:
    content = file.read()
    leaf_of(file.setting, content)
    return content.decode("ascii", "replace")
