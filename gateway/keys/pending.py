"""Bind a key that came from Core's table as prefix and bcrypt hash to its record, at its first use.

Rules kept here:
- A key is compared with a hash only if a pending record has its first 16 characters. So a flood of bad keys
  costs a look-up each and no bcrypt.
- A key with such a prefix waits for the turn of its client's address (`Verifier`). The same bad key is not
  compared again for a while.
- Requests with the same key share one comparison.
- A key that matches is stored by its digest at once; from then on it is a key like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from gateway.keys.bounded_dict import BoundedDict
from gateway.keys.errors import KeysUnavailableError
from gateway.keys.minting import PREFIX_LENGTH, is_key
from gateway.keys.record import KeyRecord
from gateway.keys.singleflight import SingleFlight
from gateway.keys.store import PendingRecords

_NO_BCRYPT: Final = (
    "a key of Core begins so; comparing it needs the package bcrypt in the gateway's environment: "
    "python3 -m pip --python .venv install bcrypt"
)
REFUSED_SECONDS: Final = 5.0
MAX_REFUSED: Final = 10_000


class HashVerifier(Protocol):
    """Compares a key with a bcrypt hash: `keys.core.verifier.Verifier`."""

    async def matches(self, key: str, hashed: str, *, client: str) -> bool:
        """Return whether `hashed` is the hash of `key`; raises LookupOverloadError if too many wait."""

    def close(self) -> None:
        """Start no further comparison."""


class PendingKeys:
    """Keys that the store does not know by digest, and may know by prefix.

    Args:
        store: where the pending records are.
        verifier: None where bcrypt is not installed; then a key that may be pending is a failure.
        clock: monotonic seconds.
        max_refused: the most bad keys remembered; the oldest is dropped first.
    """

    def __init__(
        self,
        store: PendingRecords,
        verifier: HashVerifier | None,
        clock: Callable[[], float],
        *,
        max_refused: int = MAX_REFUSED,
    ) -> None:
        self._store = store
        self._verifier = verifier
        self._clock = clock
        self._refused: BoundedDict[str, float] = BoundedDict(max_refused)
        self._bindings: SingleFlight[bool] = SingleFlight()

    async def bind(self, key: str, digest: str, client: str = "") -> bool:
        """Return whether a key that was unknown by `digest` is known by it now; False if it has no record.

        `client` is the address that sent it.

        Raises:
            GatewayError: the store failed, too many wait, or bcrypt is not installed.
        """
        if not is_key(key) or self._clock() < self._refused.get(digest, 0.0):
            return False
        return await self._bindings.do(digest, partial(self._bind, key, digest, client))

    def close(self) -> None:
        """Compare no more keys."""
        if self._verifier is not None:
            self._verifier.close()

    async def _bind(self, key: str, digest: str, client: str) -> bool:
        candidates = await self._store.get_by_prefix(key[:PREFIX_LENGTH], client)
        for record in candidates:
            # Another replica may have been faster.
            if record.digest == digest:
                return True
            if record.pending and await self._matches(key, record, client):
                return await self._store.bind_digest(record.id, digest) is not None
        if candidates:
            self._refused.put(digest, self._clock() + REFUSED_SECONDS)
        return False

    async def _matches(self, key: str, record: KeyRecord, client: str) -> bool:
        if self._verifier is None:
            raise KeysUnavailableError(reason=_NO_BCRYPT)
        return await self._verifier.matches(key, record.bcrypt, client=client)
