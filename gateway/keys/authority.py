"""The authority on keys as the proxy uses it, and the authority that is the key store."""

from __future__ import annotations

from typing import Final, Protocol

from gateway.errors import GatewayError
from gateway.keys.cache import KeyCache
from gateway.keys.pending import PendingKeys
from gateway.keys.store import KeysById
from gateway.policy.principals import ApiKey

CORE_PACKAGES: Final = ("asyncpg", "bcrypt")
CORE_PACKAGES_INSTALLED: Final = (
    "the packages asyncpg and bcrypt in the gateway's environment: "
    "python3 -m pip --python .venv install asyncpg bcrypt"
)
"""The packages an operator needs. No name is advised that is in no registry, as the gateway's own."""
CORE_PACKAGES_MISSING: Final = f"keys.authority: core needs {CORE_PACKAGES_INSTALLED}"


class UnusableAuthorityError(Exception):
    """The authority responds, but cannot be used as it is; the text tells an operator what to do."""


class Authority(KeysById, Protocol):
    """Tells whose key it is."""

    @property
    def failure(self) -> GatewayError | None:
        """The reason why it cannot; None if it can."""

    @property
    def bound(self) -> str:
        """The time within which a revoked key is refused, in a sentence for operators."""

    async def check(self) -> None:
        """Return if it can be used.

        Raises:
            UnusableAuthorityError: it cannot, and will not without an operator.
            GatewayError: it does not respond.
        """

    def peek(self, digest: str) -> ApiKey | None:
        """Return the principal of a key, if it is known here and valid without asking anybody."""

    async def identify(self, digest: str, key: str, client: str = "") -> ApiKey | None:
        """Return the principal of a key, live or not; None if it is unknown. Raises GatewayError.

        `client` is the address that sent the key: look-ups of unknown keys serve the addresses in turns.
        """

    async def follow(self) -> None:
        """Keep what is known true, for ever; returns only by cancellation."""

    async def close(self) -> None:
        """Close everything of its own."""


class StoreAuthority:
    """The store's records, through their cache, and pending records at the first use of their keys.

    Args:
        store: where the records are.
        cache: caches them.
        pending: finds pending records.
        bound: the time within which a revoked key is refused, in a sentence for operators.
    """

    def __init__(self, store: KeysById, cache: KeyCache, pending: PendingKeys, bound: str) -> None:
        self._cache = cache
        self._pending = pending
        self.bound = bound
        self.get = store.get
        self.peek = cache.peek
        self.follow = cache.follow

    @property
    def failure(self) -> GatewayError | None:
        """The reason why the store's changes cannot be read; None if they can."""
        return self._cache.failure

    async def check(self) -> None:
        """Return: a store that responds can be used."""

    async def identify(self, digest: str, key: str, client: str = "") -> ApiKey | None:
        """Return the principal of a key by its digest, or, at its first use, by its prefix."""
        known = await self._cache.lookup(digest, client)
        if known is None and await self._pending.bind(key, digest, client):
            return await self._cache.lookup(digest, client)
        return known

    async def close(self) -> None:
        """Compare no more keys; the store is closed by its owner."""
        self._pending.close()
