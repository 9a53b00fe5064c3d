"""`/api-keys` with Core as the authority: checked here, then done by Core with the master key.

Rules kept here:
- Nothing of a client's request is sent on: Core gets a body, an owner and an id that are written anew
  from what was read and checked, so that Core cannot read them otherwise.
- The owner and the scopes are judged here, for Core grants the master key everything.
- A key that Core made is in the store before its 201, so that every replica knows it at once; what
  fails behind Core's 201 does not lose the key: it is then found by its prefix.
- A revocation is in Core's table and in the store before its 204.
- Other answers of Core go to the client as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import msgspec

from gateway.errors import Code, GatewayError, go_json
from gateway.keys.bodies import Creation, read_creation
from gateway.keys.descendants import revoke_with_descendants
from gateway.keys.instants import Instant, read_instant
from gateway.keys.minting import digest, is_key, is_key_id
from gateway.keys.resource import Answer, managed_owner, name_of, wants_descendants
from gateway.keys.store import DeadMinterError, KeyRecord, KeyStore, RefusedRecordError
from gateway.policy.decisions import Deny, may_grant, may_manage
from gateway.policy.principals import Principal

Ask = Callable[[str, str, bytes], Awaitable[Answer]]
"""Core's answer to a method, a target and a JSON body (empty for none), asked with the master key.

Raises GatewayError where Core is unreachable, too slow, or refuses the master key.
"""

_LAST_YEAR: Final = "expires_at must be before the year 10000 in UTC"


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
_LIST: Final = msgspec.json.Decoder(list[dict[str, Any]] | None)


class CoreApiKeys:
    """The resource over Core's own.

    Args:
        ask: asks Core.
        store: where the digests are.
        learn: told of every record that changed, before the answer: `KeyCache.learn`.
        now: the time, aware and in UTC.
    """

    def __init__(
        self,
        ask: Ask,
        store: KeyStore,
        learn: Callable[[KeyRecord], None],
        now: Callable[[], datetime],
    ) -> None:
        self._ask = ask
        self._store = store
        self._learn = learn
        self._now = now

    async def create(self, principal: Principal, body: bytes) -> Answer | Deny:
        """POST /api-keys: let Core mint a key; raises GatewayError if Core cannot be asked."""
        creation = read_creation(body)
        if isinstance(creation, Deny):
            return creation
        owner = may_manage(principal, creation.owner, required=True)
        if isinstance(owner, Deny):
            return owner
        refusal = may_grant(principal, creation.scopes) or _unlistable(creation)
        if refusal is not None:
            return refusal
        answer = await self._ask("POST", "/api-keys", _written(creation, owner))
        record = _made(answer, principal)
        if record is None:
            return answer
        try:
            await self._store.add(record)
        except DeadMinterError:
            # Revoked while Core minted: the new key, which nobody has seen, goes too.
            await self._ask("DELETE", _target(record.id, record.owner), b"")
            return Deny(Code.EXPIRED_KEY, Code.EXPIRED_KEY.message)
        except (GatewayError, RefusedRecordError):
            return answer
        self._learn(record)
        return answer

    async def list(self, principal: Principal, query: str) -> Answer | Deny:
        """GET /api-keys: Core's list without its hashes; raises GatewayError if Core or the store fails."""
        owner = managed_owner(principal, query)
        if isinstance(owner, Deny):
            return owner
        answer = await self._ask("GET", f"/api-keys?owner={_escape(owner)}", b"")
        if answer.status != 200:
            return answer
        try:
            listed = _LIST.decode(answer.body)
        except msgspec.DecodeError:
            # Core's list is empty text where it cannot write a time of one of the keys.
            raise GatewayError(Code.UPSTREAM_UNREACHABLE, "Upstream gave no list of keys") from None
        if not listed:
            return Answer(200, b"null")
        used = {record.id: record.last_used_at for record in await self._store.owned(owner)}
        return Answer(200, go_json([_shown(item, used) for item in listed]))

    async def revoke(self, principal: Principal, key_id: str, query: str) -> Answer | Deny:
        """DELETE /api-keys/{id}: raises GatewayError if Core or the store fails; it can be sent again."""
        owner = managed_owner(principal, query)
        if isinstance(owner, Deny):
            return owner
        descendants = wants_descendants(principal, query)
        if isinstance(descendants, Deny):
            return descendants
        if not is_key_id(key_id):
            return Deny(Code.KEY_NOT_FOUND, Code.KEY_NOT_FOUND.message)
        answer = await self._ask("DELETE", _target(key_id, owner), b"")
        if answer.status != 204:
            return answer
        at, by = str(Instant.of(self._now())), name_of(principal)
        if descendants:
            return await self._revoke_minted(key_id, (at, by, ""), answer)
        revoked = await self._store.revoke(key_id, at, by)
        if revoked is not None:
            self._learn(revoked)
        return answer

    async def _revoke_minted(self, key_id: str, revocation: tuple[str, str, str], done: Answer) -> Answer:
        """Revoke what a key minted, in the store and then in Core; `done` if all of it came out."""
        for record in await revoke_with_descendants(self._store, key_id, revocation, self._learn):
            if record.id == key_id:
                continue
            answer = await self._ask("DELETE", _target(record.id, record.owner), b"")
            # A row that is gone needs no revocation.
            if answer.status not in (204, 404):
                return answer
        return done


def _unlistable(creation: Creation) -> Deny | None:
    """Core would store a time beyond the year 9999, and could never list this owner's keys again."""
    moment, nanoseconds = creation.expires_at.seconds, creation.expires_at.nanoseconds
    try:
        moment.astimezone(UTC) + timedelta(microseconds=round(nanoseconds / 1000))
    except OverflowError:
        return Deny(Code.MALFORMED_BODY, _LAST_YEAR) if moment.year > 1 else None
    return None


def _written(creation: Creation, owner: str) -> bytes:
    return go_json(
        {
            "name": creation.name,
            "owner": owner,
            "scopes": creation.scopes,
            "expires_at": str(creation.expires_at),
        }
    )


def _target(key_id: str, owner: str) -> str:
    return f"/api-keys/{_escape(key_id)}?owner={_escape(owner)}"


def _escape(text: str) -> str:
    # An owner from a query may hold bytes that are no UTF-8; Core gets the same bytes.
    return quote(text, safe="", errors="surrogateescape")


def _made(answer: Answer, principal: Principal) -> KeyRecord | None:
    """The record of the key in Core's 201; None if there is none to keep."""
    if answer.status != 201:
        return None
    # A key of another make is Core's to know: it goes to the client, and is not kept.
    with contextlib.suppress(msgspec.DecodeError, ValueError):
        made = _MADE.decode(answer.body)
        if is_key(made.key) and is_key_id(made.api_key_id):
            return KeyRecord(
                id=made.api_key_id,
                digest=digest(made.key),
                name=made.name,
                owner=made.owner_id,
                scopes=made.scopes,
                expires_at=made.expires_at,
                created_at=made.created_at,
                created_by=name_of(principal),
            )
    return None


def _shown(item: dict[str, Any], used: dict[str, str]) -> dict[str, Any]:
    """A key of Core's list without its hash, and with the later of both last uses."""
    ours = used.get(str(item.get("api_key_id")), "")
    theirs = str(item.get("last_used_at", ""))
    return {**item, "key": "", "last_used_at": _later(theirs, ours)}


def _later(theirs: str, ours: str) -> str:
    with contextlib.suppress(ValueError):
        if read_instant(ours.encode()).unix > read_instant(theirs.encode()).unix:
            return ours
    return theirs
