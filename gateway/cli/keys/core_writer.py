"""Changes keys where Core is the authority, asked with the master key.

Rules kept here:
- Core gets the owner, name and scopes of the key's row, never those that the store remembers.
- A revocation is in effect at the gateways before Core is asked. If Core does not revoke the key at once, the
  gateways keep asking.
- A key that the store does not know becomes a pending record first, so that the store keeps who rotated,
  disabled or revoked it.
- A new key that could not be stored is revoked in Core: nobody has seen it. A new key that may be stored is
  handed over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final

import msgspec

from gateway.cli.console import say
from gateway.cli.dependency_failures import UnfinishedError, unfinished
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
from gateway.errors import GatewayError
from gateway.gocompat.times import Instant
from gateway.keys.api.resource import ApiResponse
from gateway.keys.core.quota import CoreQuota
from gateway.keys.core.records import CoreRow, current_record, with_row
from gateway.keys.core.writer import CoreKeyWrites
from gateway.keys.key_update import KeyUpdate
from gateway.keys.minting import is_key_id
from gateway.keys.new_record import Creation
from gateway.keys.record import UPDATED, Event, KeyRecord, RefusedRecordError, Revocation
from gateway.keys.store import KeyStore, Revision
from gateway.policy.explanation import printable
from gateway.wire.errors import UpstreamError

_SHOWN_CHARACTERS: Final = 200
_CORE_LATER: Final = "the gateways already refuse the key, and keep asking Core to revoke it"
_UNREADABLE_KEY: Final = "Core may have created a key that nobody has: look at 'blnk-gateway keys list'"


class CoreResponseError(UpstreamError):
    """Core responded, but did not do what it was asked for."""


class CoreKeyWriter:
    """A KeyWriter with Core as the authority.

    Args:
        store: keeps digests and histories.
        writes: asks Core, and appends every record that it revokes to `revoked`.
        revoked: empty.
        at: the time that records state.
        quota: counts an owner's keys before Core is asked for a new one.
    """

    def __init__(
        self,
        store: KeyStore,
        writes: CoreKeyWrites,
        revoked: list[KeyRecord],
        at: datetime,
        quota: CoreQuota,
    ) -> None:
        self._store = store
        self._writes = writes
        self._revoked = revoked
        self._at = at
        self._quota = quota

    async def create(self, creation: Creation) -> NewKey:
        """Let Core create a key. Raises QuotaError."""
        # Core must not create a key that then cannot be stored.
        await self._store.ping()
        async with self._quota.turn(creation.owner):
            made = await self._mint(creation)
            async with self._withdrawn_unless_stored(made.record):
                return await store_new_key(made, self._writes.store_created(made.record))

    async def rotate(self, key_id: str, rotation: Rotation) -> NewKey | None:
        """Let Core create a key that replaces one; a gateway revokes the old one in Core once it has ended.

        Returns None for an unknown id. Raises RefusedRecordError.
        """
        row = await self._row(key_id)
        if row is None:
            return None
        end_old_key = end_of_old_key(rotation, self._at, awaiting_core=True)
        old = with_row(await self._writes.store_row(row), row)
        # A key that may not be replaced is refused before Core creates another.
        await refuse_second_rotation(self._store, old)
        end_old_key(old)
        made = await self._mint(successor_of(old, rotation, self._at), replaces=old.id)
        async with self._withdrawn_unless_stored(made.record):
            return await store_rotation(
                self._store, key_id, lambda record: end_old_key(with_row(record, row)), made
            )

    async def revoke(self, key_id: str, reason: str, *, descendants: bool) -> list[KeyRecord]:
        """Revoke a key in the store, then in Core; a gateway keeps asking Core if it does not revoke it now.

        Returns the revoked records, the key's own first, or none for an unknown id.
        """
        revocation = Revocation(Instant.of(self._at), operator_name(), reason)
        row = await self._row(key_id)
        with advise_to_repeat(self._revoked):
            revoked = await self._writes.revoke_in_store(key_id, row, revocation, descendants=descendants)
        return await self._revoke_in_core(revoked)

    async def revoke_all(self, key_ids: Sequence[str], reason: str) -> list[KeyRecord]:
        """Revoke keys in the store, all of them before Core is asked; return the records of known ones."""
        revocation = Revocation(Instant.of(self._at), operator_name(), reason)
        revoked: list[KeyRecord] = []
        with advise_to_repeat(self._revoked):
            for key_id in key_ids:
                row = await self._row(key_id)
                revoked += await self._writes.revoke_in_store(key_id, row, revocation)
        return await self._revoke_in_core(revoked)

    async def _revoke_in_core(self, revoked: Sequence[KeyRecord]) -> list[KeyRecord]:
        """Revoke in Core what is revoked in the store; return the records. Raises UnfinishedError."""
        with unfinished(_CORE_LATER):
            refused = await self._writes.revoke_in_core(revoked)
            if refused is not None:
                raise _unexpected(refused)
        return await read_changed(self._store, revoked)

    async def update(self, key_id: str, update: KeyUpdate, reason: str) -> KeyRecord | None:
        """Change the terms of a key in the store, and return its record; None for an unknown id.

        Raises RefusedRecordError for what Core's row has, because Core changes no key.
        """
        row = await self._row(key_id)
        if row is None:
            return None
        event = Event(Instant.of(self._at), UPDATED, operator_name(), reason)
        await self._writes.update_in_store(row, update, event)
        with unfinished(NOT_SHOWN):
            return current_record(await self._store.get(key_id), row, event.at)

    async def revise(self, key_id: str, revision: Revision) -> KeyRecord | None:
        """Change what the store keeps of a key, and return the key's record with its row; None if unknown."""
        revised = await self._store.revise(key_id, revision)
        try:
            row = await self._row(key_id)
        except GatewayError:
            if revised is None:
                raise
            # The change is in effect without Core: the store's record counts where it is stricter.
            with unfinished(NOT_SHOWN):
                return await self._store.get(key_id)
        if revised is None and row is not None:
            await self._writes.store_row(row)
            await self._store.revise(key_id, revision)
        with unfinished(NOT_SHOWN):
            return current_record(await self._store.get(key_id), row, Instant.of(self._at))

    async def _row(self, key_id: str) -> CoreRow | None:
        return await self._writes.row(key_id) if is_key_id(key_id) else None

    async def _mint(self, creation: Creation, *, replaces: str = "") -> NewKey:
        response = await self._writes.create_in_core(creation)
        made = await self._writes.created(response, operator_name(), replaces=replaces, terms=creation.terms)
        if made is not None:
            return NewKey(*made)
        if response.status == 201:
            raise UnfinishedError(_unexpected(response), _UNREADABLE_KEY)
        raise _unexpected(response)

    @contextlib.asynccontextmanager
    async def _withdrawn_unless_stored(self, record: KeyRecord) -> AsyncIterator[None]:
        """Revoke the new key in Core if it is not stored inside; raise UnfinishedError if Core does not."""
        orphaned = f"{record.id}, a new key that nobody has, is still live in Core: revoke it"
        try:
            yield
        except asyncio.CancelledError:
            # The second Ctrl-C came just after Core had created the key.
            if not await self._withdraw(record):
                say(orphaned, err=True)
            raise
        except (GatewayError, RefusedRecordError) as failure:
            if await self._withdraw(record):
                raise
            raise UnfinishedError(failure, orphaned) from failure

    async def _withdraw(self, record: KeyRecord) -> bool:
        try:
            return (await self._writes.withdraw(record.id, record.owner)).status == 204
        except GatewayError:
            return False


def _unexpected(response: ApiResponse) -> CoreResponseError:
    """Return the failure that shows what Core said."""
    try:
        text = printable(str(msgspec.json.decode(response.body)["error"])[:_SHOWN_CHARACTERS])
    except (ValueError, RecursionError, KeyError, TypeError):
        text = "a body that cannot be read"
    return CoreResponseError(reason=f"Core responded with {response.status}: {text}")
