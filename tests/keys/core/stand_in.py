"""A stand-in for Core's /api-keys that keeps its keys in the table, as Core does."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from gateway.keys.minting import mint_id, mint_key
from tests.keys.core.conftest import Table
from tests.recording import Behaviour, Exchange, answering


@dataclass(slots=True)
class CoreApi:
    """Mints into the table and revokes in it; `failing` answers the next requests instead."""

    table: Table
    minted: list[str] = field(default_factory=list)
    failing: list[Behaviour] = field(default_factory=list)

    async def __call__(self, exchange: Exchange) -> None:
        behave = self.failing.pop(0) if self.failing else self.answer
        await behave(exchange)

    async def answer(self, exchange: Exchange) -> None:
        """As Core does."""
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
        await exchange.answer("201 Created", json.dumps(made).encode())

    async def _revoke(self, exchange: Exchange) -> None:
        target = urlsplit(exchange.request.target)
        done = await self.table.connection.execute(
            "UPDATE blnk.api_keys SET is_revoked = true, revoked_at = now()"
            " WHERE api_key_id = $1 AND owner_id = $2",
            target.path.rpartition("/")[2],
            parse_qs(target.query)["owner"][0],
        )
        if done == "UPDATE 1":
            await exchange.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            await answering("404 Not Found", b'{"error":"API key not found"}')(exchange)
