"""Certificates made at run time, and TLS listeners that show them."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """A certificate that is its own authority, and its key; both PEM."""

    certificate: Path
    key: Path

    def listener(self) -> ssl.SSLContext:
        """What a listener shows it with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def trusting(self) -> ssl.SSLContext:
        """What a client trusts it with, and nothing else."""
        return ssl.create_default_context(cafile=self.certificate)


def self_signed(folder: Path, *names: str) -> SelfSigned:
    """A new one for `names` such as `DNS:localhost`, made by openssl."""
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
