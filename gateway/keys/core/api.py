"""Serve `/api-keys` with Core as the authority: check a request, then let Core do it with the master key.

Rules kept here:
- Nothing of a client's request is forwarded: the request to Core is written anew (`core.writer`).
- The owner and the scopes are checked here: Core grants the master key everything.
- A key that Core created is in the store before its 201, so that every replica knows it at once, and its
  record names its creator. Where the store fails, the key, which nobody has seen, is withdrawn.
- A revocation is in the store and in Core's table before its 204.
- A list leaves out a key whose record cannot be read: the store may have revoked it, and Core's table not.
- Other responses of Core go to the client as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import msgspec

from gateway.audit.author import Author
from gateway.errors import Code, GatewayError
from gateway.gocompat.times import Instant, read_instant
from gateway.keys.api.bodies import write_slices
from gateway.keys.api.resource import (
    ApiResponse,
    authorize_creation,
    authorize_update,
    creator_refusal,
    managed_owner,
    name_of,
    read_revocation,
    revoked_response,
    updated_response,
)
from gateway.keys.core.quota import CoreQuota
from gateway.keys.core.records import instant_of
from gateway.keys.core.writer import CoreKeyWrites
from gateway.keys.errors import UnreadableListError
from gateway.keys.minting import is_key_id
from gateway.keys.new_record import Creation
from gateway.keys.quota import QuotaError
from gateway.keys.record import UPDATED, Event, KeyRecord, RefusedRecordError, Revocation
from gateway.keys.record_json import terms_members
from gateway.keys.store import CreatorNarrowedError, CreatorRevokedError, FoundById
from gateway.policy.principals import Principal
from gateway.policy.terms import NO_TERMS
from gateway.policy.values import Deny

_LAST_YEAR: Final = "expires_at must be before the year 10000 in UTC"
_LIST: Final = msgspec.json.Decoder(list[dict[str, Any]] | None)


class CoreApiKeys:
    """The resource over Core's own.

    Args:
        writes: changes keys in Core and in the store.
        store: where the records are.
        on_change: gets every new record, before the response is sent: `KeyCache.apply_record`.
        now: the time, aware and in UTC.
        quota: counts keys before Core is asked for another.
    """

    def __init__(
        self,
        writes: CoreKeyWrites,
        store: FoundById,
        on_change: Callable[[KeyRecord], None],
        now: Callable[[], datetime],
        quota: CoreQuota,
    ) -> None:
        self._writes = writes
        self._store = store
        self._on_change = on_change
        self._now = now
        self._quota = quota

    def acting_as(self, author: Author) -> CoreApiKeys:
        """Return the same resource, whose changes are those of this author in the audit stream."""
        writes = self._writes.acting_as(author)
        return CoreApiKeys(writes, self._store, self._on_change, self._now, self._quota)

    async def create(self, principal: Principal, body: bytes) -> ApiResponse | Deny:
        """POST /api-keys: let Core create a key; raises GatewayError if Core cannot be asked."""
        creation = authorize_creation(principal, body)
        if isinstance(creation, Deny):
            return creation
        if not creation.expires_at.listable:
            # Core could never list this owner's keys again.
            return Deny(Code.MALFORMED_BODY, _LAST_YEAR)
        try:
            async with self._quota.turn(creation.owner):
                return await self._create_in_core(principal, creation)
        except QuotaError as refused:
            return Deny(Code.KEY_QUOTA, str(refused))

    async def _create_in_core(self, principal: Principal, creation: Creation) -> ApiResponse | Deny:
        response = await self._writes.create_in_core(creation)
        created = await self._writes.created(response, name_of(principal), terms=creation.terms)
        if created is None:
            return response
        record, _ = created
        try:
            await self._writes.store_created(record)
        except (CreatorRevokedError, CreatorNarrowedError) as refused:
            # Changed while Core created the key: the new key, which nobody has seen, is revoked.
            await self._writes.withdraw(record.id, record.owner)
            return creator_refusal(refused)
        except GatewayError:
            # Without a record it would have no creator, and `descendants` would miss it.
            with contextlib.suppress(GatewayError):
                await self._writes.withdraw(record.id, record.owner)
            raise
        self._on_change(record)
        return replace(response, created=record.id)

    async def list(self, principal: Principal, query: str) -> ApiResponse | Deny:
        """GET /api-keys: Core's list without its hashes; raises GatewayError if Core or the store fails."""
        owner = managed_owner(principal, query)
        if isinstance(owner, Deny):
            return owner
        response = await self._writes.list_in_core(owner)
        if response.status != 200:
            return response
        try:
            listed = _LIST.decode(response.body)
        except (ValueError, RecursionError):
            # Core's list is empty text where it cannot write a time of one of the keys.
            raise UnreadableListError("Upstream gave no list of keys") from None
        found = await self._store.find_many([_id_of(item) for item in listed or ()])
        kept = [item for item in listed or () if _id_of(item) not in found.unreadable]
        if not kept:
            return ApiResponse(200, b"null")
        return ApiResponse(200, await write_slices(kept, lambda item: _shown(item, found.records)))

    async def update(self, principal: Principal, key_id: str, query: str, body: bytes) -> ApiResponse | Deny:
        """PATCH /api-keys/{id}: change the terms of a key, which the store alone has.

        Raises GatewayError if Core's database or the store fails; the key may be changed by then.
        """
        asked = authorize_update(principal, query, body)
        if isinstance(asked, Deny):
            return asked
        owner, wanted = asked
        row = await self._writes.row(key_id) if is_key_id(key_id) else None
        unknown = Deny(Code.KEY_NOT_FOUND, Code.KEY_NOT_FOUND.message)
        if row is None or row.owner != owner:
            return unknown
        event = Event(Instant.of(self._now()), UPDATED, name_of(principal), wanted.reason)
        try:
            changed = await self._writes.update_in_store(row, wanted.update, event)
        except RefusedRecordError as refused:
            return Deny(Code.KEY_UPDATE, str(refused))
        if changed is None:
            return unknown
        self._on_change(changed)
        return updated_response(changed, instant_of(row.last_used_at) if row.last_used_at else None)

    async def delete(self, principal: Principal, key_id: str, query: str) -> ApiResponse | Deny:
        """DELETE /api-keys/{id}: revoke a key; raises GatewayError if Core, its database or the store fails.

        The key may be revoked here by then, and will be in Core; the request can be repeated.
        """
        asked = read_revocation(principal, query)
        if isinstance(asked, Deny):
            return asked
        owner, descendants = asked
        row = await self._writes.row(key_id) if is_key_id(key_id) else None
        # Another owner's key looks unknown, as in Core.
        if row is None or row.owner != owner:
            return Deny(Code.KEY_NOT_FOUND, Code.KEY_NOT_FOUND.message)
        revocation = Revocation(Instant.of(self._now()), name_of(principal))
        revoked = await self._writes.revoke_in_store(key_id, row, revocation, descendants=descendants)
        response = revoked_response(key_id, revocation, revoked)
        refused = await self._writes.revoke_in_core(revoked)
        return response if refused is None else replace(response, status=refused.status, body=refused.body)


def _id_of(item: dict[str, Any]) -> str:
    """Return the id of a key of Core's list."""
    return str(item.get("api_key_id"))


def _shown(item: dict[str, Any], known: Mapping[str, KeyRecord]) -> dict[str, Any]:
    """Return a key of Core's list without its hash, and with what the store alone knows of it."""
    shown = {**item, "key": ""}
    record = known.get(_id_of(item))
    if record is None:
        return shown
    shown["last_used_at"] = _chosen(max, str(item.get("last_used_at", "")), record.last_used_at)
    if record.rotated:
        shown["expires_at"] = _chosen(min, str(item.get("expires_at", "")), record.expires_at)
    if record.revocation is not None and not item.get("is_revoked"):
        shown |= {"is_revoked": True, "revoked_at": record.revocation.written_at}
    if record.disabled:
        shown["is_disabled"] = True
    if record.terms != NO_TERMS:
        shown["terms"] = terms_members(record.terms)
    return shown


def _chosen(choose: Callable[..., float], theirs: str, ours: Instant | None) -> str:
    """Return the later or the earlier of two times; theirs where it cannot be read, or ours is none."""
    if ours is None:
        return theirs
    with contextlib.suppress(ValueError):
        unix = read_instant(theirs).unix
        return theirs if choose(unix, ours.unix) == unix else str(ours)
    return theirs
