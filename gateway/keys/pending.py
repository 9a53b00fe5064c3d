"""The first request with a key that came from Core's table as prefix and bcrypt hash only.

Rules kept here:
- Only a key whose first 16 characters a pending record has is compared with a hash, so a flood of bad keys
  costs a look-up each and no bcrypt.
- Who knows those characters of a key waits for the turn of his address (`Verifier`), and the same bad key
  is not compared again for a while.
- Requests with the same key share one comparison.
- A key that matches is stored by its digest at once; from then on it is a key like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from gateway.errors import GatewayError
from gateway.keys.errors import KeysUnavailableError
from gateway.keys.minting import PREFIX_LENGTH, is_key
from gateway.keys.record import KeyRecord
from gateway.keys.singleflight import shared
from gateway.keys.store import KeyStore

_NO_BCRYPT: Final = (
    "a key of Core begins so; comparing it needs the package bcrypt in the gateway's environment: "
    "python3 -m pip --python .venv install bcrypt"
)
REFUSED_SECONDS: Final = 5.0
MAX_REFUSED: Final = 10_000


class HashVerifier(Protocol):
    """What compares a key with a bcrypt hash: `verifying.Verifier`."""

    async def matches(self, key: str, hashed: str, *, client: str) -> bool:
        """Whether `hashed` is the hash of `key`; raises LookupOverloadError if too many wait."""

    def close(self) -> None:
        """Start nothing more."""


class PendingKeys:
    """Keys that the store does not know by digest, and may know by prefix.

    Args:
        store: where the pending records are.
        verifier: None where bcrypt is not installed; then a key that may be pending is a failure.
        clock: monotonic seconds.
        max_refused: the most bad keys remembered; the oldest goes first.
    """

    def __init__(
        self,
        store: KeyStore,
        verifier: HashVerifier | None,
        clock: Callable[[], float],
        *,
        max_refused: int = MAX_REFUSED,
    ) -> None:
        self._store = store
        self._verifier = verifier
        self._clock = clock
        self._max_refused = max_refused
        self._refused: dict[str, float] = {}
        self._claims: dict[str, asyncio.Task[bool | GatewayError]] = {}

    async def claim(self, key: str, digest: str, client: str = "") -> bool:
        """Whether a key that was unknown by `digest` is known by it now; False if no record is this key's.

        `client` is the address that sent it.

        Raises:
            GatewayError: the store failed, too many wait, or bcrypt is not installed.
        """
        if not is_key(key) or self._clock() < self._refused.get(digest, 0.0):
            return False
        return await shared(self._claims, digest, partial(self._settle, key, digest, client))

    def close(self) -> None:
        """Compare no more keys."""
        if self._verifier is not None:
            self._verifier.close()

    async def _settle(self, key: str, digest: str, client: str) -> bool:
        candidates = await self._store.prefixed(key[:PREFIX_LENGTH], client)
        for record in candidates:
            # Another replica may have been faster.
            if record.digest == digest:
                return True
            if record.pending and await self._matches(key, record, client):
                return await self._store.settle(record.id, digest) is not None
        if candidates:
            self._refuse(digest)
        return False

    async def _matches(self, key: str, record: KeyRecord, client: str) -> bool:
        if self._verifier is None:
            raise KeysUnavailableError(reason=_NO_BCRYPT)
        return await self._verifier.matches(key, record.bcrypt, client=client)

    def _refuse(self, digest: str) -> None:
        if len(self._refused) >= self._max_refused:
            del self._refused[next(iter(self._refused))]
        self._refused[digest] = self._clock() + REFUSED_SECONDS
