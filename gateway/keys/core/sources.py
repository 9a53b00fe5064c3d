"""The dependencies of Core as the authority: the store, Core's table and the clocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.keys.core.records import CoreRow, RowsById
from gateway.keys.pending import HashVerifier
from gateway.keys.store import (
    ActingStore,
    CoreRevocationQueue,
    DigestBinder,
    KeysByDigest,
    KeysById,
    RecordAdder,
    RecordReviser,
    SharedAuditStream,
)


class CoreRowSource(RowsById, Protocol):
    """Core's whole table; failures are DatabaseUnavailableError."""

    async def check(self) -> None:
        """Return if it can be read; raises UnusableAuthorityError or GatewayError."""

    async def by_prefixes(self, prefixes: Sequence[str]) -> Mapping[str, list[CoreRow]]:
        """Return the rows of keys that begin so, by prefix."""

    def close(self) -> None:
        """Close every connection."""


class CoreDigestStore(
    ActingStore,
    SharedAuditStream,
    CoreRevocationQueue,
    KeysById,
    KeysByDigest,
    RecordReviser,
    RecordAdder,
    DigestBinder,
    Protocol,
):
    """The store of the digests of Core's keys."""


@dataclass(frozen=True, slots=True)
class CoreSources:
    """The store, Core's table, and who compares keys with the hashes in it."""

    store: CoreDigestStore
    rows: CoreRowSource
    verifier: HashVerifier


@dataclass(frozen=True, slots=True)
class KeyClocks:
    """`monotonic` gives seconds, `now` the time, aware and in UTC."""

    monotonic: Callable[[], float]
    now: Callable[[], datetime]
