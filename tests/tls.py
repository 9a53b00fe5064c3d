"""Certificates made at run time, and TLS contexts for listeners and clients."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

AHEAD = timedelta(days=60)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, both in PEM."""

    certificate: Path
    key: Path

    @property
    def der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(self.certificate.read_text())

    @property
    def sha256(self) -> str:
        """Return its fingerprint, as `openssl x509 -fingerprint -sha256` shows it, without colons."""
        return x509.load_der_x509_certificate(self.der).fingerprint(hashes.SHA256()).hex()

    def listener(self) -> ssl.SSLContext:
        """Return a context with which a listener shows the certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


@dataclass(frozen=True, slots=True)
class SelfSigned(Issued):
    """A certificate that is its own authority, and its key."""

    def trusting(self) -> ssl.SSLContext:
        """Return a context with which a client trusts this certificate and no other."""
        return ssl.create_default_context(cafile=self.certificate)


class Authority:
    """A certificate authority; its certificate and all that it issues are files in `folder`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(_pem(self._signed(self._name, self._key.public_key(), AHEAD)))

    def issue(self, name: str, *names: str, ends_in: timedelta = AHEAD, file: str = "") -> Issued:
        """Return a certificate of `O=acme, CN=<name>` for `names` such as `localhost` or `127.0.0.1`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "acme"),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        issued = Issued(self._folder / f"{file or name}.pem", self._folder / f"{file or name}.key")
        issued.certificate.write_bytes(_pem(self._signed(subject, key.public_key(), ends_in, names)))
        issued.key.write_bytes(_key_pem(key))
        return issued

    def trusting(self, shown: Issued | None = None) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority alone, and may show a certificate."""
        context = ssl.create_default_context(cafile=self.certificate)
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        return context

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        ends_in: timedelta,
        names: tuple[str, ...] = (),
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        constraints = x509.BasicConstraints(ca=subject == self._name, path_length=None)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=365))
            .not_valid_after(now + ends_in)
            .add_extension(constraints, critical=True)
        )
        if names:
            alternatives = x509.SubjectAlternativeName(list(map(_name, names)))
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def self_signed(folder: Path, *names: str) -> SelfSigned:
    """Make a certificate for `names` such as `DNS:localhost`, with openssl."""
    openssl = program("openssl")
    made = SelfSigned(folder / "certificate.pem", folder / "key.pem")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tests"),
            *("-days", "2", "-addext", f"subjectAltName={','.join(names)}"),
            *("-keyout", str(made.key), "-out", str(made.certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return made


def program(name: str) -> str:
    """Return the path of a program such as `openssl`; the test is skipped if it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} is installed")
    return found


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
