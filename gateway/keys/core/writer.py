"""Create and revoke keys in Core with the master key, and keep their records in the store.

Rules kept here:
- Core gets a body, an owner and an id that are written anew from what was read and checked, so that it
  cannot read them otherwise.
- A revocation is in the store first: every gateway refuses the key from then on, and the store knows who
  revoked it before anybody can read it from Core's row. It is complete once it is in Core's table as well.
- A revocation that was cut short in between is marked in the store (`KeyRecord.awaiting_core_revocation`)
  and completed later. It may be sent twice: Core accepts the revocation of a revoked key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, Protocol
from urllib.parse import quote

import msgspec

from gateway.audit.author import CORE, Author
from gateway.errors import GatewayError, go_json
from gateway.gocompat.times import Instant, read_instant
from gateway.keys.api.resource import ApiResponse
from gateway.keys.core.records import CoreRow, RowsById, pending_record, revoked_as, row_of, with_row
from gateway.keys.creator import check_creator
from gateway.keys.key_update import KeyUpdate, updated
from gateway.keys.minting import is_key, is_key_id
from gateway.keys.new_record import Creation, Origin, new_record
from gateway.keys.record import Event, KeyRecord, RefusedRecordError, Revocation
from gateway.keys.revocation import RevocationHooks, revoke_key, revoke_with_descendants
from gateway.keys.store import (
    ActingStore,
    BatchAdder,
    DigestBinder,
    DuplicateKeyError,
    KeyChildren,
    KeysById,
    RecordAdder,
    RecordReviser,
    Revision,
)
from gateway.policy.terms import NO_TERMS, KeyTerms

Ask = Callable[[str, str, bytes], Awaitable[ApiResponse]]
"""Core's response to a method, a target and a JSON body (empty for none), asked with the master key.

Raises GatewayError where Core is unreachable, too slow, or refuses the master key.
"""


NOT_IN_CORE: Final = (
    "keys.authority is core, and Core changes no name, scopes or expiry of a key: create a new key, or "
    "rotate this one"
)


class CoreKeyStore(
    ActingStore, KeysById, KeyChildren, RecordReviser, RecordAdder, BatchAdder, DigestBinder, Protocol
):
    """The store of the records of Core's keys."""


class _Created(msgspec.Struct):
    """The members read of Core's 201; all others are only passed on."""

    api_key_id: str
    key: str
    name: str
    owner_id: str
    scopes: tuple[str, ...]
    expires_at: str
    created_at: str


_CREATED: Final = msgspec.json.Decoder(_Created)


class CoreKeyWrites:
    """Changes keys in Core and in the store.

    Args:
        ask: asks Core.
        rows: Core's table.
        store: where the records are.
        on_change: gets every record that is revoked.
        now: the time, aware and in UTC.
    """

    def __init__(
        self,
        ask: Ask,
        rows: RowsById,
        store: CoreKeyStore,
        on_change: Callable[[KeyRecord], None],
        now: Callable[[], datetime],
    ) -> None:
        self._ask = ask
        self._rows = rows
        self._store = store
        self._on_change = on_change
        self._now = now

    def acting_as(self, author: Author) -> CoreKeyWrites:
        """Return the same, whose changes in the store are those of this author in the audit stream."""
        return CoreKeyWrites(self._ask, self._rows, self._store.acting_as(author), self._on_change, self._now)

    async def row(self, key_id: str) -> CoreRow | None:
        """Return Core's row of a key; None if there is none. Raises GatewayError."""
        return await row_of(self._rows, key_id)

    async def list_in_core(self, owner: str) -> ApiResponse:
        """Return Core's list of an owner's keys; raises what `Ask` does."""
        return await self._ask("GET", f"/api-keys?owner={escape(owner)}", b"")

    async def create_in_core(self, creation: Creation) -> ApiResponse:
        """Return Core's response to the creation of a key; store nothing. Raises what `Ask` does."""
        members = {
            "name": creation.name,
            "owner": creation.owner,
            "scopes": creation.scopes,
            "expires_at": str(creation.expires_at),
        }
        return await self._ask("POST", "/api-keys", go_json(members))

    async def created(
        self, response: ApiResponse, by: str, *, replaces: str = "", terms: KeyTerms = NO_TERMS
    ) -> tuple[KeyRecord, str] | None:
        """Return the record of the key in Core's 201, and the key itself; None if there is none to keep.

        The record has the hash of the row, if that can be read: then the key is not compared with it later.
        It gets the terms that are given, which Core does not know.
        """
        created = read_created(response, by, replaces=replaces)
        if created is None:
            return None
        record, key = created
        with contextlib.suppress(GatewayError):
            row = await self.row(record.id)
            record = replace(record, bcrypt="" if row is None else row.hashed)
        return replace(record, terms=terms), key

    async def withdraw(self, key_id: str, owner: str) -> ApiResponse:
        """Revoke a key in Core's table alone; return Core's 204, or a response that says why not."""
        return await self._ask("DELETE", f"/api-keys/{escape(key_id)}?owner={escape(owner)}", b"")

    async def store_row(self, row: CoreRow) -> KeyRecord:
        """Return the store's record of a row, stored now if there was none; revoked, if the row is.

        The author is Core: somebody changed its table, and the caller is the first who sees that.
        """
        store, now = self._store.acting_as(CORE), Instant.of(self._now())
        record = pending_record(row, now)
        (there,) = await store.add_all([record])
        if there is None or there.revoked or not row.revoked:
            return there or record
        return await store.revise(row.id, lambda found: revoked_as(found, row, now)) or record

    async def update_in_store(self, row: CoreRow, update: KeyUpdate, event: Event) -> KeyRecord | None:
        """Change what the store alone has of a key, its terms; return its record; None if it is gone.

        Raises:
            RefusedRecordError: the key has ended, or more is to be changed than its terms.
            GatewayError: the store failed.
        """
        if not update.terms_only:
            raise RefusedRecordError(NOT_IN_CORE)
        await self.store_row(row)
        # What the row says now is compared, not what the store remembers of it; Core is the author of that.
        await self._store.acting_as(CORE).revise(row.id, lambda found: with_row(found, row))
        return await self._store.revise(
            row.id, lambda found: updated(revoked_as(with_row(found, row), row, event.at), update, event)
        )

    async def store_created(self, record: KeyRecord) -> None:
        """Store the record of a key that Core has just created.

        Raises:
            CreatorRevokedError: the key that created it is revoked or disabled.
            CreatorNarrowedError: the terms of that key, as they are stored, are others.
            GatewayError: the store failed.
        """
        try:
            # The scopes that count are those in Core's table, which Core itself never changes.
            await self._store.add(record, terms_only=True)
        except DuplicateKeyError:
            # Somebody stored the row before the key was known here, and could not know its creator.
            await self._store.bind_digest(record.id, record.digest)
            await self._store.revise(
                record.id,
                lambda found: replace(
                    found, created_by=record.created_by, bcrypt=record.bcrypt, terms=record.terms
                ),
            )
            # Read after that: from now on, a revocation of the creator's descendants finds this key.
            check_creator(await self._store.get(record.created_by), record, terms_only=True)

    async def revoke_in_store(
        self, key_id: str, row: CoreRow | None, revocation: Revocation, *, descendants: bool = False
    ) -> list[KeyRecord]:
        """Revoke a key in the store; return the records to pass to `revoke_in_core` then.

        Raises:
            GatewayError: the store or Core's database failed; some may be revoked by then.
        """
        if row is not None:
            await self.store_row(row)
        if descendants:
            hooks = RevocationHooks(self._on_change, self._store_revoked_rows, awaiting_core=True)
            return await revoke_with_descendants(self._store, key_id, revocation, hooks)
        revoked = await revoke_key(self._store, key_id, revocation, awaiting_core=True)
        if revoked is None:
            return []
        self._on_change(revoked)
        return [revoked]

    async def revoke_in_core(self, records: Sequence[KeyRecord]) -> ApiResponse | None:
        """Revoke in Core keys that have ended here, each for the owner in its row, unless the row is gone.

        Return Core's first response that does not confirm a revocation, once all others were sent.

        Raises:
            GatewayError: Core, its database or the store failed for one; the others were sent, too.
        """
        rows = await self._rows.by_ids([record.id for record in records])
        refused, failed = None, None
        for record in records:
            try:
                refused = await self._revoke_row(record, rows.get(record.id)) or refused
            except GatewayError as failure:
                failed = failed or failure
        if failed is not None:
            raise failed
        return refused

    async def _revoke_row(self, record: KeyRecord, row: CoreRow | None) -> ApiResponse | None:
        now = Instant.of(self._now())
        if not record.revoked:
            # Before Core is asked, as with every revocation.
            await self._revise(record.id, lambda found: _overlap_ended(found, row, now))
        if row is not None and not row.revoked:
            response = await self.withdraw(row.id, row.owner)
            if response.status != 204:
                return response
        await self._revise(record.id, KeyRecord.as_revoked_in_core)
        return None

    async def _store_revoked_rows(self, key_ids: Sequence[str]) -> None:
        """Store what Core has revoked of these keys, before somebody else is named as who revoked them."""
        for row in (await self._rows.by_ids(key_ids)).values():
            if row.revoked:
                await self.store_row(row)

    async def _revise(self, key_id: str, revision: Revision) -> None:
        revised = await self._store.revise(key_id, revision)
        if revised is not None:
            self._on_change(revised)


def _overlap_ended(record: KeyRecord, row: CoreRow | None, now: Instant) -> KeyRecord:
    return (record if row is None else revoked_as(record, row, now)).as_overlap_ended(now)


def escape(text: str) -> str:
    """Percent-encode every character but the unreserved ones."""
    # An owner from a query may hold bytes that are not UTF-8; Core gets the same bytes.
    return quote(text, safe="", errors="surrogateescape")


def read_created(response: ApiResponse, by: str, *, replaces: str = "") -> tuple[KeyRecord, str] | None:
    """Return the record of the key in Core's 201, and the key itself; None if there is none to keep."""
    if response.status != 201:
        return None
    # A key of another shape is known to Core alone: it goes to the client, and is not kept.
    with contextlib.suppress(ValueError, RecursionError):
        made = _CREATED.decode(response.body)
        if is_key(made.key) and is_key_id(made.api_key_id):
            creation = Creation(made.name, made.scopes, made.owner_id, read_instant(made.expires_at))
            origin = Origin(read_instant(made.created_at), by, replaces)
            return new_record(creation, origin, made.api_key_id, made.key), made.key
    return None
