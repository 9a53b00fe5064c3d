"""Choose the authority on keys, the key store or Core, in one place.

Rules kept here:
- The packages that Core as the authority needs are imported only where it is the authority.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from gateway.keys.api.resource import ApiKeys, KeysResource
from gateway.keys.authority import CORE_PACKAGES, CORE_PACKAGES_MISSING, Authority, StoreAuthority
from gateway.keys.cache import KeyCache, revocation_bound
from gateway.keys.new_record import NewKeyRules
from gateway.keys.pending import HashVerifier, PendingKeys
from gateway.keys.store import KeyStore

if TYPE_CHECKING:
    from gateway.keys.core.writer import Ask

IN_MEMORY: Final = (
    "a revoked key is refused at once; the keys are in the memory of this process: no other replica knows "
    "them, and a restart loses them"
)
"""The bound of a store that is not shared."""


class MissingPackagesError(Exception):
    """The authority needs packages that are not installed; the text tells an operator which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityParts:
    """The parts of a gateway that an authority is built from.

    Args:
        store: the key store; closed by its owner.
        cache: its records in process.
        grace: the seconds for which known keys stay valid while the store fails.
        clock: monotonic seconds.
        now: the time, aware and in UTC.
        random_bytes: a cryptographic source, such as `os.urandom`.
        rules: returns what holds for new keys now.
        ask: asks Core with the master key.
        on_unrevoked: gets the id of each ended key that could not be revoked in Core, and why.
    """

    store: KeyStore
    cache: KeyCache
    grace: float
    clock: Callable[[], float]
    now: Callable[[], datetime]
    random_bytes: Callable[[int], bytes]
    rules: Callable[[], NewKeyRules]
    ask: Ask
    on_unrevoked: Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class OpenAuthority:
    """An authority, its `/api-keys`, and what is to run beside `Authority.follow` for ever."""

    authority: Authority
    api_keys: KeysResource
    background: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = ()


class AuthorityKind(Protocol):
    """One of the values of `keys.authority`."""

    @property
    def store_is_record(self) -> bool:
        """True if the store is the only record of keys; else Core's table is the record."""

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that it needs besides those of every gateway."""

    def open(self, parts: AuthorityParts) -> OpenAuthority:
        """Build it. Raises MissingPackagesError."""


class _Store:
    """`keys.authority: gateway`."""

    store_is_record: Final = True
    packages: Final = ()

    def open(self, parts: AuthorityParts) -> OpenAuthority:
        store, cache = parts.store, parts.cache
        pending = PendingKeys(store, _open_verifier(), parts.clock)
        bound = revocation_bound(parts.grace) if store.shared else IN_MEMORY
        return OpenAuthority(
            StoreAuthority(store, cache, pending, bound),
            ApiKeys(store, cache.apply_record, parts.now, parts.random_bytes, parts.rules),
        )


@dataclass(frozen=True, slots=True)
class _Core:
    """`keys.authority: core`, with the URL of Core's database."""

    database: str

    store_is_record = False
    packages = CORE_PACKAGES

    def open(self, parts: AuthorityParts) -> OpenAuthority:
        try:
            from gateway.keys.core.api import CoreApiKeys
            from gateway.keys.core.authority import CoreAuthority
            from gateway.keys.core.quota import CoreQuota
            from gateway.keys.core.revocations import CoreRevocations
            from gateway.keys.core.rows import CoreRows
            from gateway.keys.core.sources import CoreSources, KeyClocks
            from gateway.keys.core.verifier import Verifier
            from gateway.keys.core.writer import CoreKeyWrites
        except ModuleNotFoundError as missing:
            if missing.name not in CORE_PACKAGES:
                raise
            raise MissingPackagesError(CORE_PACKAGES_MISSING) from missing
        store, on_change, now = parts.store, parts.cache.apply_record, parts.now
        rows = CoreRows(self.database)
        sources = CoreSources(store, rows, Verifier())
        writes = CoreKeyWrites(parts.ask, rows, store, on_change, now)
        return OpenAuthority(
            CoreAuthority(parts.cache, sources, KeyClocks(parts.clock, now)),
            CoreApiKeys(writes, store, on_change, now, CoreQuota(rows, store, lambda: parts.rules().quota)),
            (CoreRevocations(store, writes, now, parts.on_unrevoked).run,),
        )


def authority_kind(name: str, core_database: str) -> AuthorityKind:
    """Return the kind that `keys.authority` names; `core_database` is the URL of Core's database."""
    return _Core(core_database) if name == "core" else _Store()


def _open_verifier() -> HashVerifier | None:
    """Return a verifier; None where bcrypt is not installed."""
    try:
        from gateway.keys.core.verifier import Verifier
    except ModuleNotFoundError as missing:
        if missing.name != "bcrypt":
            raise
        return None
    return Verifier()
