"""Certificates made at run time, and TLS contexts for listeners and clients."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """A certificate that is its own authority, and its key, both in PEM."""

    certificate: Path
    key: Path

    def listener(self) -> ssl.SSLContext:
        """Return a context with which a listener shows the certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def trusting(self) -> ssl.SSLContext:
        """Return a context with which a client trusts this certificate and no other."""
        return ssl.create_default_context(cafile=self.certificate)


def self_signed(folder: Path, *names: str) -> SelfSigned:
    """Make a certificate for `names` such as `DNS:localhost`, with openssl."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl is installed")
    made = SelfSigned(folder / "certificate.pem", folder / "key.pem")
    subprocess.run(
        [
            *(program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tests"),
            *("-days", "2", "-addext", f"subjectAltName={','.join(names)}"),
            *("-keyout", str(made.key), "-out", str(made.certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return made
