"""The gateway's access to Core: the master key, which `core_requests` sends, and whether Core was verified.

Rules kept here:
- Nothing is forwarded before Core was seen secure and accepted the master key.
"""

from __future__ import annotations

from gateway.keys.minting import digest
from gateway.wire.errors import UpstreamUnreachableError


class MasterKey:
    """Core's master key as requests need it: the digest to compare with, the header line to send."""

    __slots__ = ("digest", "line")

    def __init__(self, key: str) -> None:
        self.digest = digest(key)
        self.line = b"X-Blnk-Key: %b\r\n" % key.encode()

    def __repr__(self) -> str:
        """Without the key."""
        return "MasterKey(***)"


class CoreAccess:
    """The state that all requests share: where Core is, the master key, and whether Core was verified.

    Args:
        url: that of Core.
        authority: its host and port as `Host` names them.
        master: the master key.
    """

    def __init__(self, url: str, authority: str, master: MasterKey) -> None:
        self.url = url
        self.host_line = b"Host: %b\r\n" % authority.encode()
        self.master = master
        self.verified = False

    def use(self, master: MasterKey) -> None:
        """Send another master key from now on."""
        self.master = master

    def verify(self) -> None:
        """Take note that Core is secure and accepted the master key."""
        self.verified = True

    def require_verified(self) -> None:
        """Raise UpstreamUnreachableError before Core was verified."""
        if not self.verified:
            raise UpstreamUnreachableError
