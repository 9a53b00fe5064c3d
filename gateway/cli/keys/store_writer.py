"""Changes keys where the key store is the authority."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime

from gateway.cli.dependency_failures import unfinished
from gateway.cli.keys.changed import NOT_SHOWN, advise_to_repeat, read_changed
from gateway.cli.keys.new_key import NewKey, store_new_key
from gateway.cli.keys.operator import operator_name
from gateway.cli.keys.rotation import (
    Rotation,
    end_of_old_key,
    refuse_second_rotation,
    store_rotation,
    successor_of,
)
from gateway.gocompat.times import Instant
from gateway.keys.errors import UnreadableKeyError
from gateway.keys.key_update import KeyUpdate, updated
from gateway.keys.new_record import Creation, NewKeyRules, Origin, mint
from gateway.keys.record import UPDATED, Event, KeyRecord, Revocation
from gateway.keys.revocation import RevocationHooks, revoke_key, revoke_with_descendants
from gateway.keys.store import KeyStore, Revision


class StoreKeyWriter:
    """A KeyWriter with the store as the authority; `at` is the time that records state."""

    def __init__(self, store: KeyStore, at: datetime, rules: NewKeyRules) -> None:
        self._store = store
        self._at = at
        self._rules = rules

    async def create(self, creation: Creation) -> NewKey:
        """Create a key. Raises QuotaError."""
        made = self._mint(creation)
        return await store_new_key(made, self._store.add(made.record, self._rules.quota))

    async def rotate(self, key_id: str, rotation: Rotation) -> NewKey | None:
        """Create a key that replaces one; None for an unknown id. Raises RefusedRecordError."""
        old = await self._store.get(key_id)
        if old is None:
            return None
        await refuse_second_rotation(self._store, old)
        made = self._mint(successor_of(old, rotation, self._at), replaces=old.id)
        return await store_rotation(self._store, key_id, end_of_old_key(rotation, self._at), made)

    async def revoke(self, key_id: str, reason: str, *, descendants: bool) -> list[KeyRecord]:
        """Revoke a key; return the revoked records, the key's own first, or none for an unknown id."""
        revocation = Revocation(Instant.of(self._at), operator_name(), reason)
        if not descendants:
            revoked = await revoke_key(self._store, key_id, revocation)
            return [] if revoked is None else await read_changed(self._store, [revoked])
        some: list[KeyRecord] = []
        with advise_to_repeat(some):
            hooks = RevocationHooks(on_change=some.append)
            await revoke_with_descendants(self._store, key_id, revocation, hooks)
        return await read_changed(self._store, some)

    async def revoke_all(self, key_ids: Sequence[str], reason: str) -> list[KeyRecord]:
        """Revoke keys; return the records of those that are known.

        Raises GatewayError, for a key that cannot be read once all others are revoked.
        """
        revocation = Revocation(Instant.of(self._at), operator_name(), reason)
        some: list[KeyRecord] = []
        unreadable: list[UnreadableKeyError] = []
        with advise_to_repeat(some):
            for key_id in key_ids:
                try:
                    revoked = await revoke_key(self._store, key_id, revocation)
                except UnreadableKeyError as failure:
                    unreadable.append(failure)
                    continue
                if revoked is not None:
                    some.append(revoked)
            if unreadable:
                raise unreadable[0]
        return await read_changed(self._store, some)

    async def update(self, key_id: str, update: KeyUpdate, reason: str) -> KeyRecord | None:
        """Change the properties of a key, and return its record; None for an unknown id."""
        event = Event(Instant.of(self._at), UPDATED, operator_name(), reason)
        return await self.revise(key_id, lambda record: updated(record, update, event))

    async def revise(self, key_id: str, revision: Revision) -> KeyRecord | None:
        """Change a record, and return it; None for an unknown id."""
        if await self._store.revise(key_id, revision) is None:
            return None
        with unfinished(NOT_SHOWN):
            return await self._store.get(key_id)

    def _mint(self, creation: Creation, *, replaces: str = "") -> NewKey:
        origin = Origin(Instant.of(self._at), operator_name(), replaces)
        return NewKey(*mint(creation, origin, os.urandom, self._rules.prefix))
