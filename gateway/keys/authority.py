"""What an authority of keys does for the proxy, whichever it is; and the store as the authority."""

from __future__ import annotations

from typing import Final, Protocol

from gateway.errors import GatewayError
from gateway.keys.cache import KeyCache
from gateway.keys.pending import PendingKeys
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore, MemoryKeyStore
from gateway.policy.principals import ApiKey

CORE_PACKAGES: Final = ("asyncpg", "bcrypt")
CORE_PACKAGES_INSTALLED: Final = (
    "the packages asyncpg and bcrypt in the gateway's environment: "
    "python3 -m pip --python .venv install asyncpg bcrypt"
)
"""What an operator is told to have. No name is advised that is in no registry, as the gateway's own."""
CORE_PACKAGES_MISSING: Final = f"keys.authority: core needs {CORE_PACKAGES_INSTALLED}"
IN_MEMORY: Final = (
    "a revoked key is refused at once; the keys are in the memory of this process: no other replica knows "
    "them, and a restart forgets them"
)


class UnusableAuthorityError(Exception):
    """The authority answers, and cannot be used as it is; the text tells an operator what to do."""


class KnownKeys(Protocol):
    """Where a key is asked for by its id."""

    async def get(self, key_id: str) -> KeyRecord | None:
        """What is so of a key now; None if nobody knows it. Raises GatewayError."""


class Authority(KnownKeys, Protocol):
    """Says whom a key belongs to."""

    @property
    def failure(self) -> GatewayError | None:
        """Why it cannot; None if it can."""

    @property
    def bound(self) -> str:
        """What a revocation is worth, in a sentence for operators."""

    async def check(self) -> None:
        """Return if it can be used.

        Raises:
            UnusableAuthorityError: it cannot, and will not without an operator.
            GatewayError: it does not answer (KEY_STORE_UNAVAILABLE).
        """

    def peek(self, digest: str) -> ApiKey | None:
        """The principal of a key, if it may be honoured without asking anybody."""

    async def find(self, digest: str, key: str, client: str = "") -> ApiKey | None:
        """The principal of a key, live or not; None if it is unknown. Raises GatewayError.

        `client` is the address that sent the key: unknown keys are looked up by turns of the addresses.
        """

    async def follow(self) -> None:
        """Keep what is known true, for ever; returns only by cancellation."""

    async def close(self) -> None:
        """Let go of everything of its own."""


class StoreAuthority:
    """The store's records, by way of their cache, which somebody follows, and those still pending."""

    def __init__(self, store: KeyStore, cache: KeyCache, pending: PendingKeys) -> None:
        self._cache = cache
        self._pending = pending
        self._in_memory = isinstance(store, MemoryKeyStore)
        self.get = store.get
        self.peek = cache.peek

    @property
    def failure(self) -> GatewayError | None:
        """Why the store's changes cannot be read."""
        return self._cache.failure

    @property
    def bound(self) -> str:
        """What a revocation is worth."""
        return IN_MEMORY if self._in_memory else self._cache.bound

    async def check(self) -> None:
        """A store that answers can be used."""

    async def find(self, digest: str, key: str, client: str = "") -> ApiKey | None:
        """The principal of a key by its digest; at its first use perhaps by its prefix."""
        known = await self._cache.find(digest, client)
        if known is None and await self._pending.claim(key, digest, client):
            return await self._cache.find(digest, client)
        return known

    async def follow(self) -> None:
        """Follow the store's changes."""
        await self._cache.follow()

    async def close(self) -> None:
        """Compare no more keys; the store is closed by its owner."""
        self._pending.close()
