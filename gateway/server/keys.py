"""The keys of a gateway: its store, their cache, and the authority over them."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from gateway.config import KeysConfig
from gateway.keys.api.resource import ApiKeys, KeysResource
from gateway.keys.authority import (
    CORE_PACKAGES,
    CORE_PACKAGES_MISSING,
    Authority,
    StoreAuthority,
)
from gateway.keys.cache import KeyCache
from gateway.keys.pending import HashVerifier, PendingKeys
from gateway.keys.quota import Quota
from gateway.keys.redis.store import RedisKeyStore
from gateway.keys.store import KeyStore, MemoryKeyStore
from gateway.proxy.core_client import CoreClient
from gateway.server.clocks import now, uptime
from gateway.server.errors import StartError
from gateway.server.exit_codes import Exit
from gateway.server.live_config import LiveConfig
from gateway.server.observer import GatewayObserver


@dataclass(frozen=True, slots=True)
class OpenAuthority:
    """An authority of keys, the `/api-keys` that it answers, and what it runs in the background."""

    authority: Authority
    api_keys: KeysResource
    background: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = ()


def open_store(keys: KeysConfig) -> KeyStore:
    """Return the store that `keys.store` names."""
    if keys.store.startswith("memory:"):
        return MemoryKeyStore()
    return RedisKeyStore(keys.store, replicas=keys.replicas)


def open_authority(
    live: LiveConfig, store: KeyStore, cache: KeyCache, core: CoreClient, observer: GatewayObserver
) -> OpenAuthority:
    """Return the authority that `keys.authority` names. Raises StartError where its packages are missing."""

    def quota() -> Quota:
        return Quota(live.config.keys.per_owner)

    if live.config.keys.authority == "gateway":
        pending = PendingKeys(store, _open_verifier(), uptime)
        api_keys = ApiKeys(store, cache.learn, now, os.urandom, quota)
        return OpenAuthority(StoreAuthority(store, cache, pending), api_keys)
    try:
        from gateway.keys.core.api import CoreApiKeys
        from gateway.keys.core.authority import CoreKeys
        from gateway.keys.core.quota import CoreQuota
        from gateway.keys.core.retirement import Retirements
        from gateway.keys.core.rows import CoreRows
        from gateway.keys.core.verifier import Verifier
        from gateway.keys.core.writer import CoreKeyWrites
    except ModuleNotFoundError as missing:
        if missing.name not in CORE_PACKAGES:
            raise
        raise StartError(CORE_PACKAGES_MISSING, Exit.USAGE) from missing
    rows = CoreRows(live.config.keys.core_database)
    keys = CoreKeys(cache, store, rows, Verifier(), clock=uptime, now=now)
    writes = CoreKeyWrites(core.ask, rows, store, cache.learn, now)
    api = CoreApiKeys(core.ask, writes, store, cache.learn, now, CoreQuota(rows, store, quota))
    return OpenAuthority(keys, api, (Retirements(store, writes, now, observer.not_revoked_in_core).run,))


def _open_verifier() -> HashVerifier | None:
    try:
        from gateway.keys.core.verifier import Verifier
    except ModuleNotFoundError as missing:
        if missing.name != "bcrypt":
            raise
        return None
    return Verifier()
