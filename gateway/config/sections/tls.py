"""The settings of TLS of the gateway's own listeners."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gateway.config import values
from gateway.config.certificates import KeyPair, PemFile
from gateway.config.setting import described


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """TLS of the gateway's own listeners."""

    certificate: Path | None = field(
        default=None,
        metadata=described(
            values.path,
            "file in PEM with the certificate of the listeners, and behind it those of its "
            "authorities; with `tls.key`, the listeners of `tls.listeners` speak "
            "[TLS](README.md#tls); read again when it changes",
        ),
    )
    key: Path | None = field(
        default=None,
        metadata=described(
            values.path, "file in PEM with the private key of `tls.certificate`, without a password"
        ),
    )
    client_ca: Path | None = field(
        default=None,
        metadata=described(
            values.path,
            "file in PEM with the authorities of clients: on `listen` and `admin`, where they speak "
            "TLS, a client has to show a certificate of one of them",
        ),
    )
    listeners: tuple[str, ...] = field(
        default=("listen",),
        metadata=described(
            values.sequence(values.choice("listen", "admin", "health")),
            "the listeners that speak TLS: `listen`, `admin`, `health`",
        ),
    )

    @property
    def pair(self) -> KeyPair | None:
        """Return the certificate and its key, if they are named."""
        if self.certificate is None or self.key is None:
            return None
        return KeyPair(PemFile("tls.certificate", self.certificate), PemFile("tls.key", self.key))

    @property
    def client_authorities(self) -> PemFile | None:
        """Return the file of the authorities of clients, if it is named."""
        return PemFile("tls.client_ca", self.client_ca) if self.client_ca is not None else None

    def speaks(self, listener: str) -> bool:
        """Return True if a listener speaks TLS."""
        return self.pair is not None and listener in self.listeners

    def asks_clients(self, listener: str) -> bool:
        """Return True if a client of a listener has to show a certificate; a kubelet has none."""
        return self.client_ca is not None and self.speaks(listener) and listener != "health"
