"""Read a response to ROLE: is the peer a primary, and how many replicas does it have."""

from __future__ import annotations

from typing import Any, Final

RECENT_SECONDS: Final = 10.0
"""How long a replica counts after it has disconnected.

A failover disconnects the replica that it promotes from the old primary before anybody names the new one.
"""

_REPLICA: Final = "the Redis that answers is a replica: name its primary, or its Sentinels"
_SENTINEL: Final = "what answers is a Sentinel: write redis+sentinel://host:port/NAME/0"


def is_primary(role: Any) -> bool:
    """Return True if a response to ROLE is that of a primary."""
    return isinstance(role, list) and len(role) > 2 and role[0] == b"master"


def connected_replicas(role: Any) -> int:
    """Return how many replicas are connected to the primary that responded so; 0 for any other peer."""
    return len(role[2]) if is_primary(role) else 0


def describe_other(role: Any) -> str:
    """Return in words for operators what a peer is that is no primary."""
    return _SENTINEL if isinstance(role, list) and role[:1] == [b"sentinel"] else _REPLICA


class RecentReplicas:
    """The highest number of replicas that one primary had within the last `RECENT_SECONDS`."""

    def __init__(self) -> None:
        self._most = 0
        self._seen_at = float("-inf")

    def observe(self, connected: int, now: float) -> int:
        """Take in the number of connected replicas, and return the number to count on.

        `now` is in seconds of a clock that never goes back.
        """
        if connected >= self._most or now > self._seen_at + RECENT_SECONDS:
            self._most, self._seen_at = connected, now
        return self._most
