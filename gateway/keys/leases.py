"""Leases of the limit of a key: the values that a replica and the store exchange about it.

Rules kept here:
- Tokens are requests: one token lets one request through.
- The store has one bucket of tokens for each key, which all replicas share. A replica reports what it spent,
  and gets a lease: some tokens that are taken out of the bucket for it, and the level of the bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

NO_ESTIMATE = -1.0
"""Stands for a replica that knows nothing of a bucket."""


@dataclass(frozen=True, slots=True)
class BucketMemory:
    """The bucket of a key as a replica remembers it, with which the store restores one that it has lost.

    Attributes:
        estimate: the tokens that the replica believes to be in it now; NO_ESTIMATE if it does not know.
        began: when the store made the bucket, which tells one bucket from the next; 0 for unknown.
        seen: when the store changed it last, as far as the replica knows. Both by the clock of the store.
    """

    estimate: float = NO_ESTIMATE
    began: float = 0.0
    seen: float = 0.0


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """The report and the wish of one replica for one key.

    Attributes:
        key_id: the key.
        rate: the tokens that flow into the bucket in a second.
        capacity: the most tokens in the bucket.
        spent: the requests that were let through since the last lease.
        granted: the tokens of the last lease, which were taken out of the bucket then.
        wanted: the most tokens of the next lease.
        memory: the bucket as the replica remembers it.
    """

    key_id: str
    rate: float
    capacity: float
    spent: int
    granted: float
    wanted: float
    memory: BucketMemory


@dataclass(frozen=True, slots=True)
class Lease:
    """The response for one key.

    Attributes:
        granted: the tokens that were taken out of the bucket for this replica.
        level: the tokens that are left in the bucket; below 0 if replicas have spent more than there was.
        began: when the store made the bucket.
        total: the requests of all replicas that were reported since then.
    """

    granted: float
    level: float
    began: float
    total: int


@dataclass(frozen=True, slots=True)
class LeaseBatch:
    """The leases of one call in the order of the requests; `now` is by the clock of the store.

    `replicas` is the number of replicas that asked for leases within the last seconds, this one included.
    """

    now: float
    replicas: int
    leases: tuple[Lease, ...]


class TokenLeases(Protocol):
    """Gives leases."""

    async def lease(self, replica: str, requests: Sequence[LeaseRequest]) -> LeaseBatch:
        """Settle what a replica spent, and give it its next leases, in one step. Raises GatewayError."""
