"""Responses to ROLE."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.keys.redis.role import RECENT_SECONDS, RecentReplicas, connected_replicas, is_primary

ONE = [b"127.0.0.1", b"6380", b"15"]


@pytest.mark.parametrize(
    ("role", "primary", "replicas"),
    [
        ([b"master", 15, []], True, 0),
        ([b"master", 15, [ONE, ONE]], True, 2),
        ([b"slave", b"127.0.0.1", 6379, b"connected", 15], False, 0),
        ([b"sentinel", [b"keys"]], False, 0),
        ([b"master"], False, 0),
        (b"master", False, 0),
        (None, False, 0),
    ],
)
def test_only_a_primary_has_replicas(role: Any, primary: bool, replicas: int) -> None:
    assert (is_primary(role), connected_replicas(role)) == (primary, replicas)


def test_a_replica_that_has_left_counts_for_a_while() -> None:
    """A failover disconnects the replica that it promotes before a Sentinel names it."""
    recent = RecentReplicas()
    assert [recent.observe(2, now=0.0), recent.observe(1, now=RECENT_SECONDS)] == [2, 2]
    assert [recent.observe(1, now=RECENT_SECONDS + 0.1), recent.observe(0, now=RECENT_SECONDS + 0.2)] == [
        1,
        1,
    ]
    assert recent.observe(3, now=RECENT_SECONDS + 0.3) == 3
