"""The settings of Core and of the connections to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from gateway.config import secret_values, urls, values
from gateway.config.certificates import KeyPair, PemFile
from gateway.config.secret_values import Secret
from gateway.config.setting import described


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConfig:
    """Blnk Core and the connections to it."""

    url: str = field(
        metadata=described(
            urls.upstream_url,
            "Core, with `server.secure: true`: `http://` or `https://`, host and port, no path; the "
            "certificate of an `https://` one is verified with the system's authorities, or with "
            "`upstream.ca_file`",
            "http://127.0.0.1:5100",
        )
    )
    master_key: Secret = field(
        default=Secret(""),
        metadata=described(
            secret_values.secret, "Core's master key; or name its file in `upstream.master_key_file`"
        ),
    )
    master_key_file: Path | None = field(
        default=None,
        metadata=described(
            values.path, "file with Core's master key; read again every second, and when Core refuses it"
        ),
    )
    master_key_next_file: Path | None = field(
        default=None,
        metadata=described(
            values.path,
            "file for the next master key, while [Core's is "
            "changed](README.md#changing-the-master-key); absent or empty at other times",
        ),
    )
    ca_file: Path | None = field(
        default=None,
        metadata=described(
            values.path,
            "file in PEM with the authorities of Core's certificate, or with its self-signed "
            "certificate, instead of the system's; read again when it changes",
        ),
    )
    certificate: Path | None = field(
        default=None,
        metadata=described(
            values.path,
            "file in PEM with the certificate that the gateway shows to Core; read again when it "
            "changes, for new connections",
        ),
    )
    key: Path | None = field(
        default=None,
        metadata=described(
            values.path, "file in PEM with the private key of `upstream.certificate`, without a password"
        ),
    )
    connections: int = field(
        default=128,
        metadata=described(
            values.count(1, 65535),
            "the most requests at Core at once; when all are in use, keys below their share may use "
            "an eighth more, and networks a sixteenth; with requests that run on after their 504, at "
            "most twice as many connections",
        ),
    )
    queue: int = field(
        default=1024,
        metadata=described(
            values.count(0), "the most requests that wait for a connection to Core; more get 503"
        ),
    )
    queue_wait: float = field(
        default=0.05,
        metadata=described(
            values.duration,
            "once requests have waited for half a second without a pause, only as many may wait as "
            "get a connection within this time; more get 503 at once "
            "([Overload](README.md#overload)); `0s`: all may wait, for `timeouts.connect`",
        ),
    )
    max_body: int = field(
        default=5 * 1024**2,
        metadata=described(
            values.size,
            "Core's limit of a request body (its `max_request_body_size_mb`, in MiB); a body that is "
            "longer after it is stamped gets 413",
        ),
    )

    @property
    def host(self) -> str:
        """Return the host name or IP address, without brackets."""
        return urlsplit(self.url).hostname or ""

    @property
    def authority(self) -> str:
        """Return host and port as the URL has them, for the `Host` header to Core."""
        return urlsplit(self.url).netloc

    @property
    def tls(self) -> bool:
        """Return True for https."""
        return urlsplit(self.url).scheme == "https"

    @property
    def port(self) -> int:
        """Return the port of the URL, or the default port of its scheme."""
        return urlsplit(self.url).port or (443 if self.tls else 80)

    @property
    def authorities(self) -> PemFile | None:
        """Return the file of the authorities of Core's certificate, if it is named."""
        return PemFile("upstream.ca_file", self.ca_file) if self.ca_file is not None else None

    @property
    def pair(self) -> KeyPair | None:
        """Return the certificate that the gateway shows to Core, and its key, if they are named."""
        if self.certificate is None or self.key is None:
            return None
        return KeyPair(PemFile("upstream.certificate", self.certificate), PemFile("upstream.key", self.key))
