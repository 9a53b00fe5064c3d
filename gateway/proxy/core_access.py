"""The gateway's access to Core: the master key, which `core_requests` sends, and whether Core was verified.

Rules kept here:
- Nothing is forwarded before Core was seen secure and accepted the master key.
- While the master key is changed there are two keys. Core decides which one is sent, clients may send either.
"""

from __future__ import annotations

import hmac
from typing import Final

from gateway.keys.minting import digest
from gateway.wire.errors import UpstreamUnreachableError

_TRIALS: Final = tuple([symbol == "x" for symbol in "xx-x--xx--x-xx-"])
"""Whether the unsent key is tried, in each trial after Core has refused the sent one.

With the refused key before it, it is the Thue-Morse sequence, which has no period. So if some replicas of
Core have the old key and some the new one, and a balancer takes up to eleven of them in turn, one trial is
accepted. If it takes them at random, one request in 65,000 is refused.
"""


KEY: Final = b"X-Blnk-Key: "


class MasterKey:
    """Core's master key as requests need it: the digest to compare with, the header line to send."""

    __slots__ = ("digest", "line")

    def __init__(self, key: str) -> None:
        self.digest = digest(key)
        self.line = b"%b%b\r\n" % (KEY, key.encode())

    def __repr__(self) -> str:
        """Without the key."""
        return "MasterKey(***)"


class CoreAccess:
    """The state that all requests share: where Core is, the master key, and whether Core was verified.

    Args:
        url: that of Core.
        authority: its host and port as `Host` names them.
        master: the master key.
        following: the next master key, if it is known already.

    Attributes:
        master: the key that is sent.
        other: the key that is tried if Core refuses `master`; None if there is none.
    """

    def __init__(
        self, url: str, authority: str, master: MasterKey, following: MasterKey | None = None
    ) -> None:
        self.url = url
        self.host_line = b"Host: %b\r\n" % authority.encode()
        self.master = master
        self.other: MasterKey | None = None
        self.verified = False
        self._refused = False
        self.hold(master, following)

    def hold(self, current: MasterKey, following: MasterKey | None) -> None:
        """Take the keys that the settings name now. The one that Core accepted last is still sent."""
        if following is not None and following.digest != self.master.digest:
            self.other = following
        else:
            self.other = current if current.digest != self.master.digest else None

    def is_master(self, hashed: str) -> bool:
        """Return True if `hashed` is the digest of a master key; takes the same time for every digest."""
        matches, other = hmac.compare_digest(hashed, self.master.digest), self.other
        return matches if other is None else hmac.compare_digest(hashed, other.digest) | matches

    def with_master(self, head: bytes) -> bytes:
        """Return a head for Core with the key that is sent now, in place of the one at its end."""
        return head[: head.rindex(KEY)] + self.master.line

    def trials(self, head: bytes) -> tuple[MasterKey, ...]:
        """Return the keys to try, in this order, once Core has refused the key at the end of `head`.

        If Core has refused all trials of the last request, there is one trial: Core has neither key.
        """
        other = self.other
        if other is None:
            # The key may have been replaced while the request was at Core.
            return () if head.endswith(self.master.line) else (self.master,)
        sent, unsent = (other, self.master) if head.endswith(other.line) else (self.master, other)
        if self._refused:
            return (unsent,)
        return tuple([unsent if is_unsent else sent for is_unsent in _TRIALS])

    def accept(self, key: MasterKey) -> bool:
        """Send `key` from now on, which Core has accepted. Return False if it was sent before, too."""
        self._refused = False
        if key.digest == self.master.digest:
            return False
        self.other, self.master = self.master, key
        return True

    def refuse(self) -> None:
        """Take note that Core has refused every key."""
        self._refused = True

    def verify(self) -> None:
        """Take note that Core is secure and accepted the master key."""
        self.verified = True

    def require_verified(self) -> None:
        """Raise UpstreamUnreachableError before Core was verified."""
        if not self.verified:
            raise UpstreamUnreachableError
