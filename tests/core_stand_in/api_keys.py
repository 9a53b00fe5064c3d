"""Core's /api-keys, with the keys in Core's own table."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Protocol

from gateway.keys.minting import mint_id, mint_key
from tests.core_stand_in.behaviours import responding
from tests.core_stand_in.exchange import Behaviour, Exchange


class KeyTable(Protocol):
    """Core's table of keys."""

    async def insert(self, key: str, key_id: str, scopes: tuple[str, ...], owner: str) -> None:
        """Add the row of a new key."""

    async def revoke(self, key_id: str, owner: str) -> bool:
        """Mark the key as revoked; False if the owner has none of this id."""


@dataclass(slots=True)
class CoreApi:
    """A behaviour that mints and revokes in the table; the next requests get the behaviours in `failing`."""

    table: KeyTable
    minted: list[str] = field(default_factory=list)
    failing: list[Behaviour] = field(default_factory=list)

    async def __call__(self, exchange: Exchange) -> None:
        behave = self.failing.pop(0) if self.failing else self.respond
        await behave(exchange)

    async def respond(self, exchange: Exchange) -> None:
        """Respond as Core does."""
        body = await exchange.body()
        if exchange.request.method == "POST":
            await self._create(exchange, json.loads(body))
        else:
            await self._revoke(exchange)

    async def _create(self, exchange: Exchange, wanted: dict[str, str]) -> None:
        key, key_id = mint_key(os.urandom), mint_id(os.urandom)
        self.minted.append(key_id)
        await self.table.insert(key, key_id, tuple(wanted["scopes"]), wanted["owner"])
        made = {
            "api_key_id": key_id,
            "key": key,
            "name": wanted["name"],
            "owner_id": wanted["owner"],
            "scopes": wanted["scopes"],
            "expires_at": wanted["expires_at"],
            "created_at": "2026-11-23T16:57:49.115568574Z",
            "last_used_at": "0001-01-01T00:00:00Z",
            "is_revoked": False,
        }
        await exchange.respond("201 Created", json.dumps(made).encode())

    async def _revoke(self, exchange: Exchange) -> None:
        request = exchange.request
        if await self.table.revoke(request.path.rpartition("/")[2], request.query["owner"]):
            await exchange.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            await responding("404 Not Found", b'{"error":"API key not found"}')(exchange)
