"""Creates and changes keys for the commands, at whichever authority the settings name."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol

from gateway.cli.keys.core_writer import CoreKeyWriter
from gateway.cli.keys.new_key import NewKey
from gateway.cli.keys.rotation import Rotation
from gateway.cli.keys.store import authority_of, open_core_rows
from gateway.cli.keys.store_writer import StoreKeyWriter
from gateway.config import Config
from gateway.keys.core.quota import CoreQuota
from gateway.keys.core.writer import CoreKeyWrites
from gateway.keys.key_update import KeyUpdate
from gateway.keys.new_record import Creation, NewKeyRules
from gateway.keys.quota import Quota
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore, Revision


class KeyWriter(Protocol):
    """Changes keys; a change is complete once its method returns.

    Every method raises GatewayError if a dependency failed, and UnfinishedError if something was changed by
    then.
    """

    async def create(self, creation: Creation) -> NewKey:
        """Create a key. Raises QuotaError."""

    async def rotate(self, key_id: str, rotation: Rotation) -> NewKey | None:
        """Create a key that replaces one; None for an unknown id. Raises RefusedRecordError."""

    async def revoke(self, key_id: str, reason: str, *, descendants: bool) -> list[KeyRecord]:
        """Revoke a key; return the revoked records, the key's own first, or none for an unknown id."""

    async def revoke_all(self, key_ids: Sequence[str], reason: str) -> list[KeyRecord]:
        """Revoke keys; return the records of those that are known."""

    async def update(self, key_id: str, update: KeyUpdate, reason: str) -> KeyRecord | None:
        """Change the properties of a key, and return its record; None for an unknown id.

        Raises RefusedRecordError.
        """

    async def revise(self, key_id: str, revision: Revision) -> KeyRecord | None:
        """Change a record, and return it; None for an unknown id."""


@contextlib.asynccontextmanager
async def open_key_writer(config: Config, store: KeyStore, at: datetime) -> AsyncIterator[KeyWriter]:
    """Open the writer for this configuration; exit with 2 if a package for it is missing.

    `at` is the time that records state.
    """
    quota = Quota(config.keys.per_owner)
    if authority_of(config).store_is_record:
        yield StoreKeyWriter(store, at, NewKeyRules(quota, config.keys.prefix))
        return
    from gateway.cli.keys.core_client import open_core_client

    rows = open_core_rows(config)
    revoked: list[KeyRecord] = []
    async with open_core_client(config) as ask:
        try:
            writes = CoreKeyWrites(ask, rows, store, revoked.append, lambda: at)
            yield CoreKeyWriter(store, writes, revoked, at, CoreQuota(rows, store, lambda: quota))
        finally:
            rows.close()
