"""Keys made and revoked by Core itself, asked with the master key, and remembered in the store.

Rules kept here:
- Core gets a body, an owner and an id that are written anew from what was read and checked, so that it
  cannot read them otherwise.
- A revocation is in the store first: every gateway refuses the key from then on, and who revoked it is kept
  before anybody can read it off Core's row. It is done once it is in Core's table as well.
- What was cut short in between is known in the store (`KeyRecord.retiring`) and is done later. It may be done
  twice: Core revokes a revoked key without a word.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from urllib.parse import quote

import msgspec

from gateway.errors import GatewayError, go_json
from gateway.gocompat.times import Instant
from gateway.keys.api.bodies import Creation
from gateway.keys.api.resource import ApiResponse
from gateway.keys.core.records import CoreRow, KnownRows, pending_record, revoked_as, row_of
from gateway.keys.descendants import Revocation, revoke_with_descendants
from gateway.keys.minting import digest, is_key, is_key_id
from gateway.keys.record import KeyRecord
from gateway.keys.store import CreatorRevokedError, DuplicateKeyError, KeyStore, Revision

Ask = Callable[[str, str, bytes], Awaitable[ApiResponse]]
"""Core's answer to a method, a target and a JSON body (empty for none), asked with the master key.

Raises GatewayError where Core is unreachable, too slow, or refuses the master key.
"""


class _Made(msgspec.Struct):
    """What is read of Core's 201; what else it holds is only passed on."""

    api_key_id: str
    key: str
    name: str
    owner_id: str
    scopes: tuple[str, ...]
    expires_at: str
    created_at: str


_MADE: Final = msgspec.json.Decoder(_Made)


class CoreKeyWrites:
    """What is changed in Core.

    Args:
        ask: asks Core.
        rows: Core's table.
        store: where the digests are.
        learn: told of every record that is revoked.
        now: the time, aware and in UTC.
    """

    def __init__(
        self,
        ask: Ask,
        rows: KnownRows,
        store: KeyStore,
        learn: Callable[[KeyRecord], None],
        now: Callable[[], datetime],
    ) -> None:
        self._ask = ask
        self._rows = rows
        self._store = store
        self._learn = learn
        self._now = now

    async def row(self, key_id: str) -> CoreRow | None:
        """Core's row of a key; None if there is none. Raises GatewayError."""
        return await row_of(self._rows, key_id)

    async def mint(self, creation: Creation) -> ApiResponse:
        """Core's answer to the wish for a key, which is not stored here yet; raises what `Ask` does."""
        members = {
            "name": creation.name,
            "owner": creation.owner,
            "scopes": creation.scopes,
            "expires_at": str(creation.expires_at),
        }
        return await self._ask("POST", "/api-keys", go_json(members))

    async def made(self, answer: ApiResponse, by: str, *, replaces: str = "") -> tuple[KeyRecord, str] | None:
        """The record of the key in Core's 201, and the key itself; None if there is none to keep.

        With the hash in its row, if that can be read: the key need not be compared with it later.
        """
        made = read_made(answer, by, replaces=replaces)
        if made is None:
            return None
        record, key = made
        with contextlib.suppress(GatewayError):
            row = await self.row(record.id)
            record = replace(record, bcrypt="" if row is None else row.hashed)
        return record, key

    async def withdraw(self, key_id: str, owner: str) -> ApiResponse:
        """Revoke a key in Core's table alone; Core's 204, or another answer that says why not."""
        return await self._ask("DELETE", f"/api-keys/{escape(key_id)}?owner={escape(owner)}", b"")

    async def remember(self, row: CoreRow) -> KeyRecord:
        """The store's record of a row, made now if there is none; revoked, if the row is."""
        now = Instant.of(self._now())
        record = pending_record(row, now)
        (there,) = await self._store.add_all([record])
        if there is None or there.revoked or not row.revoked:
            return there or record
        return await self._store.revise(row.id, lambda found: revoked_as(found, row, now)) or record

    async def keep(self, record: KeyRecord) -> None:
        """Store the record of a key that Core has just made.

        Raises:
            DeadMinterError: it is minted by a key that is revoked or disabled.
            GatewayError: the store failed.
        """
        try:
            await self._store.add(record)
        except DuplicateKeyError:
            # Somebody met the row before the key was known here, and could not know its maker.
            await self._store.settle(record.id, record.digest)
            await self._store.revise(
                record.id,
                lambda found: replace(found, created_by=record.created_by, bcrypt=record.bcrypt),
            )
            # Behind that: who revokes the maker's descendants from here on finds the key among them.
            minter = await self._store.get(record.created_by)
            if minter is not None and (minter.revoked or minter.disabled):
                raise CreatorRevokedError(record.id) from None

    async def revoke_here(
        self, key_id: str, row: CoreRow | None, revocation: Revocation, *, descendants: bool = False
    ) -> list[KeyRecord]:
        """Revoke a key in the store; the records that `retire` is to be asked for then.

        Raises:
            GatewayError: the store or Core's database failed; some may be revoked by then.
        """
        if row is not None:
            await self.remember(row)
        if descendants:
            return await revoke_with_descendants(
                self._store, key_id, revocation, self._learn, retiring=True, before=self._remember_all
            )
        revoked = await self._store.revoke(key_id, *revocation, retiring=True)
        if revoked is None:
            return []
        self._learn(revoked)
        return [revoked]

    async def retire(self, records: Sequence[KeyRecord]) -> ApiResponse | None:
        """Revoke in Core what has ended here, each by the owner in its row; a row that is gone needs nothing.

        Returns Core's first answer that is none of a revocation, once all others were asked for.

        Raises:
            GatewayError: Core, its database or the store failed for one; the others were asked for, too.
        """
        rows = await self._rows.by_ids([record.id for record in records])
        refused, failed = None, None
        for record in records:
            try:
                refused = await self._retire(record, rows.get(record.id)) or refused
            except GatewayError as failure:
                failed = failed or failure
        if failed is not None:
            raise failed
        return refused

    async def _retire(self, record: KeyRecord, row: CoreRow | None) -> ApiResponse | None:
        now = Instant.of(self._now())
        if not record.revoked:
            # Before Core is asked, as with every revocation.
            await self._revise(record.id, lambda found: _ended(found, row, now))
        if row is not None and not row.revoked:
            answer = await self.withdraw(row.id, row.owner)
            if answer.status != 204:
                return answer
        await self._revise(record.id, KeyRecord.retired)
        return None

    async def _remember_all(self, key_ids: Sequence[str]) -> None:
        """Let the store know what Core has revoked of these keys, before somebody else is named for it."""
        for row in (await self._rows.by_ids(key_ids)).values():
            if row.revoked:
                await self.remember(row)

    async def _revise(self, key_id: str, revision: Revision) -> None:
        revised = await self._store.revise(key_id, revision)
        if revised is not None:
            self._learn(revised)


def _ended(record: KeyRecord, row: CoreRow | None, now: Instant) -> KeyRecord:
    return record.ended(str(now)) if row is None else revoked_as(record, row, now).ended(str(now))


def escape(text: str) -> str:
    """Percent-encoded, every character but the unreserved ones."""
    # An owner from a query may hold bytes that are no UTF-8; Core gets the same bytes.
    return quote(text, safe="", errors="surrogateescape")


def read_made(answer: ApiResponse, by: str, *, replaces: str = "") -> tuple[KeyRecord, str] | None:
    """The record of the key in Core's 201, and the key itself; None if there is none to keep."""
    if answer.status != 201:
        return None
    # A key of another make is Core's to know: it goes to the client, and is not kept.
    with contextlib.suppress(msgspec.DecodeError, ValueError):
        made = _MADE.decode(answer.body)
        if is_key(made.key) and is_key_id(made.api_key_id):
            record = KeyRecord(
                id=made.api_key_id,
                digest=digest(made.key),
                name=made.name,
                owner=made.owner_id,
                scopes=made.scopes,
                expires_at=made.expires_at,
                created_at=made.created_at,
                created_by=by,
                replaces=replaces,
            )
            return record, made.key
    return None
