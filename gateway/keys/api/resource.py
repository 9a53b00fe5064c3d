"""Serve `/api-keys`: create, list, change and revoke keys, with the responses of Core.

Rules kept here:
- Requests are checked in the order of Core's handlers: the body, the owner, the scopes, then the store.
- Requests are never forwarded raw: Go takes the first `owner` parameter and folds the case of members, so
  what was checked here could differ from what Core would do with the master key.
- A new key is counted against the quota of its owner within the write that stores it, also if the master
  key creates it.
- Before its 204, a revocation is in the store, in the changes of the store, and known to this process.
- A key that a key creates gets the terms of its creator, as they are when it is stored: the body names none,
  as in Core.
- PATCH is the gateway's own addition, for the master key alone: Core changes no key.
- `descendants=true` is, too: it revokes a key with every
  key that it created, and those created in turn.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol, Self

from gateway.audit.author import Author
from gateway.errors import Code
from gateway.gocompat.times import Instant
from gateway.keys.api.bodies import read_creation, write_created, write_list, write_updated
from gateway.keys.api.update_bodies import RequestedUpdate, read_update
from gateway.keys.key_update import updated
from gateway.keys.minting import is_key_id
from gateway.keys.new_record import Creation, NewKeyRules, Origin, mint
from gateway.keys.quota import QuotaError
from gateway.keys.record import UPDATED, Event, KeyRecord, RefusedRecordError, Revocation
from gateway.keys.revocation import RevocationHooks, revoke_key, revoke_with_descendants
from gateway.keys.store import (
    ActingStore,
    CreatorNarrowedError,
    CreatorRevokedError,
    KeyChildren,
    KeysById,
    KeysOfOwner,
    RecordAdder,
    RecordReviser,
)
from gateway.policy.decisions import may_grant, may_manage
from gateway.policy.principals import ApiKey, Master, Principal
from gateway.policy.terms import NO_TERMS
from gateway.policy.values import Deny

_CHANGED: Final = "the calling API key was changed meanwhile: send the request again"
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A response of the resource that is no refusal; the body is JSON, empty for 204.

    `created`, `updated` and `revoked` are the ids of the key that the request created, changed or revoked.
    `descendants` is the number of descendants that were revoked with it.
    """

    status: int
    body: bytes = b""
    created: str = ""
    updated: str = ""
    revoked: str = ""
    descendants: int = 0


class KeysResource(Protocol):
    """Serves `/api-keys`; every method raises GatewayError where a dependency fails."""

    def acting_as(self, author: Author) -> Self:
        """Return the same resource, whose changes are those of this author in the audit stream."""

    async def create(self, principal: Principal, body: bytes) -> ApiResponse | Deny:
        """POST /api-keys."""

    async def list(self, principal: Principal, query: str) -> ApiResponse | Deny:
        """GET /api-keys."""

    async def update(self, principal: Principal, key_id: str, query: str, body: bytes) -> ApiResponse | Deny:
        """PATCH /api-keys/{id}."""

    async def delete(self, principal: Principal, key_id: str, query: str) -> ApiResponse | Deny:
        """DELETE /api-keys/{id}."""


class ApiKeysStore(ActingStore, RecordAdder, RecordReviser, KeysById, KeysOfOwner, KeyChildren, Protocol):
    """The store of the resource's keys."""


class ApiKeys:
    """The resource over one store.

    Args:
        store: where the keys are.
        on_change: gets every record that changed, before the response is sent: `KeyCache.apply_record`.
        now: the time, aware and in UTC.
        random_bytes: a cryptographic source, such as `os.urandom`.
        rules: returns what holds for new keys now.
    """

    def __init__(
        self,
        store: ApiKeysStore,
        on_change: Callable[[KeyRecord], None],
        now: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
        rules: Callable[[], NewKeyRules] = NewKeyRules,
    ) -> None:
        self._store = store
        self._on_change = on_change
        self._now = now
        self._random_bytes = random_bytes
        self._rules = rules

    def acting_as(self, author: Author) -> ApiKeys:
        """Return the same resource, whose changes are those of this author in the audit stream."""
        store = self._store.acting_as(author)
        return ApiKeys(store, self._on_change, self._now, self._random_bytes, self._rules)

    async def create(self, principal: Principal, body: bytes) -> ApiResponse | Deny:
        """POST /api-keys: create a key; raises GatewayError if the store fails."""
        creation = authorize_creation(principal, body)
        if isinstance(creation, Deny):
            return creation
        origin = Origin(Instant.of(self._now()), name_of(principal))
        rules = self._rules()
        record, key = mint(creation, origin, self._random_bytes, rules.prefix)
        try:
            await self._store.add(record, rules.quota)
        except (CreatorRevokedError, CreatorNarrowedError) as refused:
            return creator_refusal(refused)
        except QuotaError as refused:
            return Deny(Code.KEY_QUOTA, str(refused))
        self._on_change(record)
        return ApiResponse(201, write_created(record, key), created=record.id)

    async def list(self, principal: Principal, query: str) -> ApiResponse | Deny:
        """GET /api-keys: an owner's keys, newest first; raises GatewayError if the store fails."""
        owner = managed_owner(principal, query)
        if isinstance(owner, Deny):
            return owner
        return ApiResponse(200, await write_list(await self._store.owned(owner)))

    async def update(self, principal: Principal, key_id: str, query: str, body: bytes) -> ApiResponse | Deny:
        """PATCH /api-keys/{id}: change a key; raises GatewayError if the store fails; it may be changed."""
        asked = authorize_update(principal, query, body)
        if isinstance(asked, Deny):
            return asked
        owner, wanted = asked
        unknown = Deny(Code.KEY_NOT_FOUND, Code.KEY_NOT_FOUND.message)
        record = await self._store.get(key_id) if is_key_id(key_id) else None
        if record is None or record.owner != owner:
            return unknown
        event = Event(Instant.of(self._now()), UPDATED, name_of(principal), wanted.reason)
        try:
            changed = await self._store.revise(key_id, lambda found: updated(found, wanted.update, event))
        except RefusedRecordError as refused:
            return Deny(Code.KEY_UPDATE, str(refused))
        if changed is None:
            return unknown
        self._on_change(changed)
        return updated_response(changed, record.last_used_at)

    async def delete(self, principal: Principal, key_id: str, query: str) -> ApiResponse | Deny:
        """DELETE /api-keys/{id}: revoke a key; raises GatewayError if the store fails; it may be revoked."""
        asked = read_revocation(principal, query)
        if isinstance(asked, Deny):
            return asked
        owner, descendants = asked
        unknown = Deny(Code.KEY_NOT_FOUND, Code.KEY_NOT_FOUND.message)
        record = await self._store.get(key_id) if is_key_id(key_id) else None
        # Another owner's key looks unknown, so ids cannot be probed.
        if record is None or record.owner != owner:
            return unknown
        revocation = Revocation(Instant.of(self._now()), name_of(principal))
        if descendants:
            hooks = RevocationHooks(on_change=self._on_change)
            revoked = await revoke_with_descendants(self._store, key_id, revocation, hooks)
            return revoked_response(key_id, revocation, revoked) if revoked else unknown
        alone = await revoke_key(self._store, key_id, revocation)
        if alone is None:
            return unknown
        self._on_change(alone)
        return revoked_response(key_id, revocation, [alone])


def authorize_creation(principal: Principal, body: bytes) -> Creation | Deny:
    """Return the key that a body asks for, if the caller may create it, with the owner that he manages."""
    creation = read_creation(body)
    if isinstance(creation, Deny):
        return creation
    owner = may_manage(principal, creation.owner, required=True)
    if isinstance(owner, Deny):
        return owner
    refusal = may_grant(principal, creation.scopes)
    if refusal is not None:
        return refusal
    # A key that could mint one without its own terms would escape them.
    terms = principal.terms.of_child(principal.id) if isinstance(principal, ApiKey) else NO_TERMS
    return replace(creation, owner=owner, terms=terms)


def creator_refusal(refused: CreatorRevokedError | CreatorNarrowedError) -> Deny:
    """Return the refusal of a caller that was revoked or changed after its request was accepted."""
    if isinstance(refused, CreatorRevokedError):
        return Deny(Code.EXPIRED_KEY, Code.EXPIRED_KEY.message)
    return Deny(Code.SCOPE_ESCALATION, _CHANGED)


def authorize_update(principal: Principal, query: str, body: bytes) -> tuple[str, RequestedUpdate] | Deny:
    """Return the owner of the key to change, and the update that a body asks for.

    Only the master key may ask: a key that could change another one could widen it.
    """
    if not isinstance(principal, Master):
        return Deny(Code.MASTER_REQUIRED, "changing a key requires the master key")
    wanted = read_update(body)
    if isinstance(wanted, Deny):
        return wanted
    owner = managed_owner(principal, query)
    return owner if isinstance(owner, Deny) else (owner, wanted)


def updated_response(record: KeyRecord, last_used_at: Instant | None) -> ApiResponse:
    """Return the response to an update, with the last use, which is kept beside the record."""
    shown = record.with_last_use(0.0 if last_used_at is None else last_used_at.unix)
    return ApiResponse(200, write_updated(shown), updated=record.id)


def managed_owner(principal: Principal, query: str) -> str | Deny:
    """Return the owner whose keys a query is about, if the caller may manage them."""
    return may_manage(principal, read_owner(query), required=isinstance(principal, Master))


def read_revocation(principal: Principal, query: str) -> tuple[str, bool] | Deny:
    """Return the owner of the key to revoke, and whether its descendants are to be revoked too."""
    owner = managed_owner(principal, query)
    if isinstance(owner, Deny):
        return owner
    descendants = _wants_descendants(principal, query)
    return descendants if isinstance(descendants, Deny) else (owner, descendants)


def _wants_descendants(principal: Principal, query: str) -> bool | Deny:
    """Return whether descendants are to be revoked too; anything but one true or false is refused.

    Core has no such parameter, so there is no reading of it to copy. What Go would drop in silence, as
    `descendants=true;x`, would leave the descendants live behind a 204.
    """
    pairs = [pair.partition("=") for pair in re.split("[&;]", query)]
    sent = [value for name, _, value in pairs if _unescape(name) == "descendants"]
    asked = read_parameter(query, "descendants")
    if len(sent) > 1 or (sent and asked not in ("true", "false")):
        return Deny(Code.MALFORMED_BODY, "descendants must be true or false, and be said once")
    if asked == "true" and not isinstance(principal, Master):
        return Deny(Code.MASTER_REQUIRED, "revoking descendants requires the master key")
    return asked == "true"


def revoked_response(key_id: str, revocation: Revocation, records: Iterable[KeyRecord]) -> ApiResponse:
    """Return the response to the revocation of a key; descendants that were revoked earlier do not count."""
    others = sum(
        record.id != key_id and record.revocation is not None and record.revocation.at == revocation.at
        for record in records
    )
    return ApiResponse(204, revoked=key_id, descendants=others)


def name_of(principal: Principal) -> str:
    """Return the name that records give to a principal."""
    return "master" if isinstance(principal, Master) else principal.id


def read_owner(query: str) -> str:
    """Return the `owner` of a query; empty if there is none."""
    return read_parameter(query, "owner")


def read_parameter(query: str, wanted: str) -> str:
    """Return a parameter of a query as Go's `url.ParseQuery` reads it; empty if there is none.

    The first value counts, and a pair with `;` or a bad escape counts as absent.
    Bytes that are not UTF-8 become lone surrogates, which equal no owner.
    """
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if ";" in pair or _BAD_ESCAPE.search(pair) or _unescape(name) != wanted:
            continue
        return _unescape(value)
    return ""


def _unescape(text: str) -> str:
    # As bytes, for a character may be written half by escapes and half as it is.
    written = text.replace("+", " ").encode("utf-8", "surrogateescape")
    return urllib.parse.unquote_to_bytes(written).decode("utf-8", "surrogateescape")
