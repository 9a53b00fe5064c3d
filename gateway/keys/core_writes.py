"""Keys made and revoked by Core itself, asked with the master key, and remembered in the store.

Rules kept here:
- Core gets a body, an owner and an id that are written anew from what was read and checked, so that it
  cannot read them otherwise.
- A revocation is done once it is in Core's table and in the store.
- A row that is gone needs no revocation.
- Whatever was cut short can be done again: Core revokes a revoked key without a word.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import quote

import msgspec

from gateway.errors import go_json
from gateway.keys.bodies import Creation
from gateway.keys.descendants import revoke_with_descendants
from gateway.keys.minting import digest, is_key, is_key_id
from gateway.keys.record import KeyRecord
from gateway.keys.resource import Answer
from gateway.keys.store import KeyStore

Ask = Callable[[str, str, bytes], Awaitable[Answer]]
"""Core's answer to a method, a target and a JSON body (empty for none), asked with the master key.

Raises GatewayError where Core is unreachable, too slow, or refuses the master key.
"""

Revocation = tuple[str, str, str]
"""When a key is revoked (RFC 3339), by whom, and why."""


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


class CoreWrites:
    """What is changed in Core.

    Args:
        ask: asks Core.
        store: where the digests are.
        learn: told of every record that is revoked.
    """

    def __init__(self, ask: Ask, store: KeyStore, learn: Callable[[KeyRecord], None]) -> None:
        self._ask = ask
        self._store = store
        self._learn = learn

    async def mint(self, creation: Creation, owner: str) -> Answer:
        """Core's answer to the wish for a key, which is not stored here yet; raises what `Ask` does."""
        members = {
            "name": creation.name,
            "owner": owner,
            "scopes": creation.scopes,
            "expires_at": str(creation.expires_at),
        }
        return await self._ask("POST", "/api-keys", go_json(members))

    async def withdraw(self, key_id: str, owner: str) -> Answer:
        """Revoke a key in Core's table alone; Core's 204, or another answer that says why not."""
        return await self._ask("DELETE", f"/api-keys/{escape(key_id)}?owner={escape(owner)}", b"")

    async def revoke(
        self, key_id: str, owner: str, revocation: Revocation, *, descendants: bool = False
    ) -> Answer:
        """Revoke a key in Core and here; Core's 204 if all of it came out, else the answer that says why not.

        Raises:
            GatewayError: Core or the store failed; some may be revoked by then.
        """
        answer = await self.withdraw(key_id, owner)
        if answer.status != 204:
            return answer
        refused = await self.revoke_here(key_id, revocation, descendants=descendants)
        return refused or answer

    async def revoke_here(
        self, key_id: str, revocation: Revocation, *, descendants: bool = False
    ) -> Answer | None:
        """Revoke a key whose row is revoked or gone; what it minted, in the store and then in Core.

        Returns Core's answer where that stopped it; raises GatewayError.
        """
        if not descendants:
            revoked = await self._store.revoke(key_id, *revocation)
            if revoked is not None:
                self._learn(revoked)
            return None
        for record in await revoke_with_descendants(self._store, key_id, revocation, self._learn):
            if record.id == key_id:
                continue
            answer = await self.withdraw(record.id, record.owner)
            if answer.status not in (204, 404):
                return answer
        return None


def escape(text: str) -> str:
    """Percent-encoded, every character but the unreserved ones."""
    # An owner from a query may hold bytes that are no UTF-8; Core gets the same bytes.
    return quote(text, safe="", errors="surrogateescape")


def read_made(answer: Answer, by: str, *, replaces: str = "") -> tuple[KeyRecord, str] | None:
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
