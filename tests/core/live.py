"""The live Blnk Core named by the environment, and a gateway in front of it.

Rules kept here:
- The tests write to that Core, back it up and recover its queue: its data must be worthless.
- Core's master key is in no `repr`, so that no report of a failed test shows it.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from gateway.config import Address, Secret
from gateway.server.build import build
from gateway.server.gateway import Gateway
from tests.raw_client import RawClient, Response
from tests.running import Minted, shipped_config

REQUIRED = ("BLNK_CORE_URL", "BLNK_CORE_MASTER_KEY")
DATABASE = "BLNK_CORE_DATABASE"


@dataclass(frozen=True, slots=True)
class Core:
    """A live Blnk Core with `server.secure`; `database` is the URL of its PostgreSQL, or None if unknown."""

    url: str
    master_key: str = field(repr=False)
    database: str | None = field(repr=False)

    @property
    def address(self) -> Address:
        """The address on which Core listens."""
        split = urlsplit(self.url)
        return Address(split.hostname or "", split.port or 80)

    async def ask(self, data: bytes, *, head: bool = False) -> tuple[Response, bytes]:
        """Return Core's response to these bytes: parsed, and as it came."""
        async with await RawClient.connect(self.address) as client:
            response = await client.call(data, head=head)
            return response, bytes(client.received)


def named(environ: Mapping[str, str]) -> Core | None:
    """Return the Core that the environment names, or None."""
    if not all(environ.get(name) for name in REQUIRED):
        return None
    url, master_key = (environ[name] for name in REQUIRED)
    return Core(url, master_key, environ.get(DATABASE))


@dataclass(frozen=True, slots=True)
class Fronted:
    """A gateway in front of a live Core, with nothing between them."""

    gateway: Gateway
    core: Core
    log: io.StringIO

    async def ask(self, method: str, target: str, key: str, document: Any = None) -> Response:
        """Send a request through the gateway; a `document` that is text is sent as it is written."""
        text = document if isinstance(document, str) else json.dumps(document)
        body = None if document is None else text.encode()
        async with await RawClient.connect(self.gateway.address) as client:
            headers = [("Content-Type", "application/json")] if body else []
            response = await client.ask(method, target, key=key, headers=headers, body=body)
        assert self.core.master_key.encode() not in response.body
        return response

    async def made(self, method: str, target: str, key: str, document: Any = None) -> dict[str, Any]:
        """Return the record that a request created or changed; fail if Core refused it."""
        response = await self.ask(method, target, key, document)
        assert response.status in (200, 201), (method, target, response)
        found: dict[str, Any] = response.json()
        return found

    async def mint(self, *scopes: str, owner: str = "acme") -> Minted:
        """Mint a key through the gateway's own /api-keys."""
        wanted = {"name": "e2e", "owner": owner, "scopes": scopes, "expires_at": "2099-01-01T00:00:00Z"}
        made = await self.made("POST", "/api-keys", self.core.master_key, wanted)
        return Minted(made["key"], made["api_key_id"], owner)


@asynccontextmanager
async def fronted(core: Core) -> AsyncIterator[Fronted]:
    """Run the shipped gateway in front of this Core; yield it once its checks at the start have passed."""
    config = shipped_config()
    upstream = replace(config.upstream, url=core.url, master_key=Secret(core.master_key))
    log = io.StringIO()
    gateway = build(replace(config, upstream=upstream), log)
    try:
        await gateway.start()
        await gateway.ready()
        yield Fronted(gateway, core, log)
    finally:
        await gateway.close()
    assert core.master_key not in log.getvalue()
