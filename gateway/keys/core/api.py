"""`/api-keys` with Core as the authority: checked here, then done by Core with the master key.

Rules kept here:
- Nothing of a client's request is sent on: what Core is asked is written anew (`core_writes`).
- The owner and the scopes are judged here, for Core grants the master key everything.
- A key that Core made is in the store before its 201, so that every replica knows it at once and who
  made it stands in its record; where the store fails, the key, which nobody has seen, is withdrawn.
- A revocation is in the store and in Core's table before its 204.
- Other answers of Core go to the client as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import msgspec

from gateway.errors import Code, GatewayError
from gateway.gocompat.times import Instant, read_instant
from gateway.keys.api.bodies import Creation, write_slices
from gateway.keys.api.resource import ApiResponse, done, managed_owner, name_of, read_revocation, wanted
from gateway.keys.core.quota import CoreQuota
from gateway.keys.core.writer import Ask, CoreKeyWrites, escape
from gateway.keys.errors import UnreadableListError
from gateway.keys.minting import is_key_id
from gateway.keys.quota import QuotaError
from gateway.keys.store import CreatorRevokedError, KeyRecord, KeyStore
from gateway.policy.decisions import Deny
from gateway.policy.principals import Principal

_LAST_YEAR: Final = "expires_at must be before the year 10000 in UTC"
_LIST: Final = msgspec.json.Decoder(list[dict[str, Any]] | None)


class CoreApiKeys:
    """The resource over Core's own.

    Args:
        ask: asks Core.
        writes: changes what Core has.
        store: where the digests are.
        learn: told of every record that changed, before the answer: `KeyCache.learn`.
        now: the time, aware and in UTC.
        quota: counts before Core is asked for a key.
    """

    def __init__(
        self,
        ask: Ask,
        writes: CoreKeyWrites,
        store: KeyStore,
        learn: Callable[[KeyRecord], None],
        now: Callable[[], datetime],
        quota: CoreQuota,
    ) -> None:
        self._ask = ask
        self._writes = writes
        self._store = store
        self._learn = learn
        self._now = now
        self._quota = quota

    async def create(self, principal: Principal, body: bytes) -> ApiResponse | Deny:
        """POST /api-keys: let Core mint a key; raises GatewayError if Core cannot be asked."""
        creation = wanted(principal, body)
        if isinstance(creation, Deny):
            return creation
        if not creation.expires_at.listable:
            # Core could never list this owner's keys again.
            return Deny(Code.MALFORMED_BODY, _LAST_YEAR)
        try:
            async with self._quota.turn(creation.owner):
                return await self._made_by_core(principal, creation)
        except QuotaError as refused:
            return Deny(Code.KEY_QUOTA, str(refused))

    async def _made_by_core(self, principal: Principal, creation: Creation) -> ApiResponse | Deny:
        answer = await self._writes.mint(creation)
        made = await self._writes.made(answer, name_of(principal))
        if made is None:
            return answer
        record, _ = made
        try:
            await self._writes.keep(record)
        except CreatorRevokedError:
            # Revoked while Core minted: the new key, which nobody has seen, goes too.
            await self._writes.withdraw(record.id, record.owner)
            return Deny(Code.EXPIRED_KEY, Code.EXPIRED_KEY.message)
        except GatewayError:
            # Unrecorded it would have no maker, and `descendants` would pass it by.
            with contextlib.suppress(GatewayError):
                await self._writes.withdraw(record.id, record.owner)
            raise
        self._learn(record)
        return replace(answer, created=record.id)

    async def list(self, principal: Principal, query: str) -> ApiResponse | Deny:
        """GET /api-keys: Core's list without its hashes; raises GatewayError if Core or the store fails."""
        owner = managed_owner(principal, query)
        if isinstance(owner, Deny):
            return owner
        answer = await self._ask("GET", f"/api-keys?owner={escape(owner)}", b"")
        if answer.status != 200:
            return answer
        try:
            listed = _LIST.decode(answer.body)
        except msgspec.DecodeError:
            # Core's list is empty text where it cannot write a time of one of the keys.
            raise UnreadableListError("Upstream gave no list of keys") from None
        if not listed:
            return ApiResponse(200, b"null")
        ids = [str(item.get("api_key_id")) for item in listed]
        known = {record.id: record for record in await self._store.get_all(ids)}
        return ApiResponse(200, await write_slices(listed, lambda item: _shown(item, known)))

    async def revoke(self, principal: Principal, key_id: str, query: str) -> ApiResponse | Deny:
        """DELETE /api-keys/{id}: raises GatewayError if Core, its database or the store fails.

        The key may be revoked by then, and is in Core later; it can be sent again.
        """
        asked = read_revocation(principal, query)
        if isinstance(asked, Deny):
            return asked
        owner, descendants = asked
        row = await self._writes.row(key_id) if is_key_id(key_id) else None
        # Another owner's key looks unknown, as in Core.
        if row is None or row.owner != owner:
            return Deny(Code.KEY_NOT_FOUND, Code.KEY_NOT_FOUND.message)
        revocation = (str(Instant.of(self._now())), name_of(principal), "")
        revoked = await self._writes.revoke_here(key_id, row, revocation, descendants=descendants)
        made = done(key_id, revocation[0], revoked)
        refused = await self._writes.retire(revoked)
        return made if refused is None else replace(made, status=refused.status, body=refused.body)


def _shown(item: dict[str, Any], known: dict[str, KeyRecord]) -> dict[str, Any]:
    """A key of Core's list without its hash, and with what the store alone knows of it."""
    shown = {**item, "key": ""}
    record = known.get(str(item.get("api_key_id")))
    if record is None:
        return shown
    shown["last_used_at"] = _chosen(max, str(item.get("last_used_at", "")), record.last_used_at)
    if record.rotated:
        shown["expires_at"] = _chosen(min, str(item.get("expires_at", "")), record.expires_at)
    if record.revoked and not item.get("is_revoked"):
        shown |= {"is_revoked": True, "revoked_at": record.revoked_at}
    if record.disabled:
        shown["is_disabled"] = True
    return shown


def _chosen(choose: Callable[..., str], theirs: str, ours: str) -> str:
    """The later or the earlier of two times; theirs where either cannot be read."""
    with contextlib.suppress(ValueError):
        return choose(theirs, ours, key=lambda text: read_instant(text.encode()).unix)
    return theirs
