"""The keys of a gateway: its store, and the authority over them."""

from __future__ import annotations

import os

from structlog.typing import FilteringBoundLogger

from gateway.config import KeysConfig
from gateway.keys.authorities import AuthorityParts, MissingPackagesError, OpenAuthority, authority_kind
from gateway.keys.cache import KeyCache
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.new_record import NewKeyRules
from gateway.keys.quota import Quota
from gateway.keys.redis.store import KeptEntries, RedisKeyStore
from gateway.keys.store import KeyStore
from gateway.proxy.core_client import CoreClient
from gateway.server.clocks import uptime, utc_now
from gateway.server.errors import StartError
from gateway.server.exit_codes import Exit
from gateway.server.live_config import LiveConfig
from gateway.server.observer import GatewayObserver
from gateway.server.unreadable_keys import UnreadableKeys


def open_store(live: LiveConfig, log: FilteringBoundLogger) -> KeyStore:
    """Return the store that `keys.store` names; its audit stream keeps as many entries as is live.

    `log` takes the keys that lists leave out.
    """
    keys = live.config.keys

    def audit_kept() -> int:
        return live.config.audit.kept

    if keys.in_memory:
        return MemoryKeyStore(audit_kept=audit_kept, now=utc_now)
    return RedisKeyStore(
        keys.store,
        replicas=keys.replicas,
        kept=KeptEntries(audit=audit_kept),
        left_out=UnreadableKeys(log, uptime).add,
    )


def open_authority(
    live: LiveConfig, store: KeyStore, cache: KeyCache, core: CoreClient, observer: GatewayObserver
) -> OpenAuthority:
    """Return the authority that `keys.authority` names. Raises StartError where its packages are missing."""
    keys = live.config.keys
    parts = AuthorityParts(
        store=store,
        cache=cache,
        grace=keys.grace,
        clock=uptime,
        now=utc_now,
        random_bytes=os.urandom,
        rules=lambda: _rules(live.config.keys),
        ask=core.ask,
        on_unrevoked=observer.not_revoked_in_core,
    )
    try:
        return authority_kind(keys.authority, keys.core_database).open(parts)
    except MissingPackagesError as missing:
        raise StartError(str(missing), Exit.USAGE) from missing


def _rules(keys: KeysConfig) -> NewKeyRules:
    return NewKeyRules(Quota(keys.per_owner), keys.prefix)
