"""`/api-keys`: create, list and revoke keys, answered by the gateway as Core answers.

Rules kept here:
- The order of Core's handlers: the body, the owner, the scopes, then the store.
- Requests are never forwarded raw: Go takes the first `owner` parameter and folds the case of
  members, so what was checked here could differ from what Core would do with the master key.
- A new key is counted within the write that stores it, against the quota of its owner; the master key's too.
- A revocation is in the store, in its changes, and known to this process before its 204.
- `descendants=true` is the gateway's own addition, for the master key alone: a key is revoked with every
  key that it minted.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from gateway.errors import Code
from gateway.gocompat.times import Instant
from gateway.keys.api.bodies import Creation, read_creation, write_created, write_list
from gateway.keys.descendants import revoke_with_descendants
from gateway.keys.minting import digest, is_key_id, mint_id, mint_key
from gateway.keys.quota import NO_QUOTA, Quota, QuotaError
from gateway.keys.store import CreatorRevokedError, KeyRecord, KeyStore
from gateway.policy.decisions import Deny, may_grant, may_manage
from gateway.policy.principals import Master, Principal

_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A good answer of the resource; the body is JSON, empty for 204.

    `created` is the id of the key that the request made, `revoked` the id of the one that it revoked, and
    `descendants` how many of the keys that this one minted went with it.
    """

    status: int
    body: bytes = b""
    created: str = ""
    revoked: str = ""
    descendants: int = 0


class KeysResource(Protocol):
    """Answers `/api-keys`; every method raises GatewayError where a dependency fails."""

    async def create(self, principal: Principal, body: bytes) -> ApiResponse | Deny:
        """POST /api-keys."""

    async def list(self, principal: Principal, query: str) -> ApiResponse | Deny:
        """GET /api-keys."""

    async def revoke(self, principal: Principal, key_id: str, query: str) -> ApiResponse | Deny:
        """DELETE /api-keys/{id}."""


class ApiKeys:
    """The resource over one store.

    Args:
        store: where the keys live.
        learn: told of every record that changed, before the answer: `KeyCache.learn`.
        now: the time, aware and in UTC.
        random_bytes: a cryptographic source, such as `os.urandom`.
        quota: how many keys an owner may have now.
    """

    def __init__(
        self,
        store: KeyStore,
        learn: Callable[[KeyRecord], None],
        now: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
        quota: Callable[[], Quota] = lambda: NO_QUOTA,
    ) -> None:
        self._store = store
        self._learn = learn
        self._now = now
        self._random_bytes = random_bytes
        self._quota = quota

    async def create(self, principal: Principal, body: bytes) -> ApiResponse | Deny:
        """POST /api-keys: mint a key; raises GatewayError if the store fails."""
        creation = wanted(principal, body)
        if isinstance(creation, Deny):
            return creation
        key = mint_key(self._random_bytes)
        record = self._mint(key, creation, principal)
        try:
            await self._store.add(record, self._quota())
        except CreatorRevokedError:
            # The caller was revoked after this process judged it.
            return Deny(Code.EXPIRED_KEY, Code.EXPIRED_KEY.message)
        except QuotaError as refused:
            return Deny(Code.KEY_QUOTA, str(refused))
        self._learn(record)
        return ApiResponse(201, write_created(record, key), created=record.id)

    async def list(self, principal: Principal, query: str) -> ApiResponse | Deny:
        """GET /api-keys: an owner's keys, newest first; raises GatewayError if the store fails."""
        owner = managed_owner(principal, query)
        if isinstance(owner, Deny):
            return owner
        return ApiResponse(200, await write_list(await self._store.owned(owner)))

    async def revoke(self, principal: Principal, key_id: str, query: str) -> ApiResponse | Deny:
        """DELETE /api-keys/{id}: raises GatewayError if the store fails, and then nothing is promised."""
        asked = read_revocation(principal, query)
        if isinstance(asked, Deny):
            return asked
        owner, descendants = asked
        unknown = Deny(Code.KEY_NOT_FOUND, Code.KEY_NOT_FOUND.message)
        record = await self._store.get(key_id) if is_key_id(key_id) else None
        # Another owner's key looks unknown, so ids cannot be probed.
        if record is None or record.owner != owner:
            return unknown
        at, by = str(Instant.of(self._now())), name_of(principal)
        if descendants:
            revoked = await revoke_with_descendants(self._store, key_id, (at, by, ""), self._learn)
            return done(key_id, at, revoked) if revoked else unknown
        alone = await self._store.revoke(key_id, at, by)
        if alone is None:
            return unknown
        self._learn(alone)
        return done(key_id, at, [alone])

    def _mint(self, key: str, creation: Creation, principal: Principal) -> KeyRecord:
        return KeyRecord(
            id=mint_id(self._random_bytes),
            digest=digest(key),
            name=creation.name,
            owner=creation.owner,
            scopes=creation.scopes,
            expires_at=str(creation.expires_at),
            created_at=str(Instant.of(self._now())),
            created_by=name_of(principal),
        )


def wanted(principal: Principal, body: bytes) -> Creation | Deny:
    """The key that a body asks for, if the caller may make it; its owner is whose keys the caller manages."""
    creation = read_creation(body)
    if isinstance(creation, Deny):
        return creation
    owner = may_manage(principal, creation.owner, required=True)
    if isinstance(owner, Deny):
        return owner
    return may_grant(principal, creation.scopes) or replace(creation, owner=owner)


def managed_owner(principal: Principal, query: str) -> str | Deny:
    """The owner whose keys a query means."""
    return may_manage(principal, read_owner(query), required=isinstance(principal, Master))


def read_revocation(principal: Principal, query: str) -> tuple[str, bool] | Deny:
    """Whose key is to be revoked, and whether with what it minted."""
    owner = managed_owner(principal, query)
    if isinstance(owner, Deny):
        return owner
    descendants = _wants_descendants(principal, query)
    return descendants if isinstance(descendants, Deny) else (owner, descendants)


def _wants_descendants(principal: Principal, query: str) -> bool | Deny:
    """Whether what the key minted is to go too; anything but one true or false is no answer to that.

    Core knows no such parameter, so there is no reading of it to copy: what Go would drop in silence, as
    `descendants=true;x`, would leave the descendants alive behind a 204.
    """
    pairs = [pair.partition("=") for pair in re.split("[&;]", query)]
    said = [value for name, _, value in pairs if _unescape(name) == "descendants"]
    asked = read_parameter(query, "descendants")
    if len(said) > 1 or (said and asked not in ("true", "false")):
        return Deny(Code.MALFORMED_BODY, "descendants must be true or false, and be said once")
    if asked == "true" and not isinstance(principal, Master):
        return Deny(Code.MASTER_REQUIRED, "revoking descendants requires the master key")
    return asked == "true"


def done(key_id: str, at: str, records: Iterable[KeyRecord]) -> ApiResponse:
    """The answer to the revocation of a key at `at`; descendants that were revoked earlier do not count."""
    others = sum(record.id != key_id and record.revoked_at == at for record in records)
    return ApiResponse(204, revoked=key_id, descendants=others)


def name_of(principal: Principal) -> str:
    """Who did it, as records name them."""
    return "master" if isinstance(principal, Master) else principal.id


def read_owner(query: str) -> str:
    """The `owner` of a query; empty if there is none."""
    return read_parameter(query, "owner")


def read_parameter(query: str, wanted: str) -> str:
    """A parameter of a query as Go's `url.ParseQuery` reads it; empty if there is none.

    The first value counts, and a pair with `;` or a bad escape is as good as absent.
    Bytes that are no UTF-8 become lone surrogates, which equal no owner.
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
