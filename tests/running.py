"""A gateway in this process, in front of a recording upstream, whose log and responses are kept.

Rules kept here:
- The configuration is the file that ships; a test changes single values of it.
- When a gateway is closed, its log, its metrics and all bytes its clients received, those of the admin
  listener included, are searched for every secret the test knows.
"""

from __future__ import annotations

import asyncio
import io
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from gateway.config import Config, load_config
from gateway.gocompat.times import Instant
from gateway.keys.minting import digest, mint_id, mint_key
from gateway.keys.record import KeyRecord, Revocation
from gateway.keys.store import KeyStore
from gateway.policy.terms import NO_TERMS, KeyTerms
from gateway.server.build import build
from gateway.server.gateway import Gateway
from gateway.server.parts import Options
from tests.core_stand_in import StandInCore
from tests.raw_client import PATIENCE, Endpoint, RawClient, Response

ROOT = Path(__file__).resolve().parent.parent
MASTER_KEY = (
    "mk-5f0c1b7e2d9a4c68b3e1-of-the-tests"  # used by no other test, since the search for secrets looks for it
)
LOG_PATIENCE = 5.0

Changes = Mapping[str, Mapping[str, Any]]


@cache
def shipped_config() -> Config:
    """Return `gateway.yaml` of this repository, on free ports and with its keys in memory."""
    return load_config(
        ROOT / "gateway.yaml",
        {
            "BLNK_MASTER_KEY": MASTER_KEY,
            "BLNK_GATEWAY_LISTEN": "127.0.0.1:0",
            "BLNK_GATEWAY_ADMIN": "127.0.0.1:0",
            "BLNK_GATEWAY_UPSTREAM__URL": "http://127.0.0.1:1",
            "BLNK_GATEWAY_KEYS__STORE": "memory://",
            "BLNK_GATEWAY_DRAIN__DELAY": "0s",
            "BLNK_GATEWAY_DRAIN__TIMEOUT": "2s",
        },
        secrets=True,
    )


def configured(upstream: StandInCore, changes: Changes) -> Config:
    """Return the shipped configuration in front of this upstream; `changes` maps a section to its values."""
    config = shipped_config()
    sections: dict[str, Any] = {
        name: replace(getattr(config, name), **values) if isinstance(values, Mapping) else values
        for name, values in changes.items()
    }
    core = sections.get("upstream", config.upstream)
    sections["upstream"] = replace(core, url=upstream.url)
    return replace(config, **sections)


@dataclass(frozen=True, slots=True)
class Minted:
    """A key in the gateway's store."""

    key: str
    id: str
    owner: str


@dataclass(slots=True)
class Running:
    """A started gateway, with its log, its store and the secrets that the test knows."""

    gateway: Gateway
    log: io.StringIO
    upstream: StandInCore
    secrets: set[str] = field(default_factory=lambda: {MASTER_KEY})
    forbidden: set[str] = field(default_factory=set)
    _clients: list[RawClient] = field(default_factory=list)

    async def mint(
        self,
        *scopes: str,
        owner: str = "acme",
        expired: bool = False,
        revoked: bool = False,
        terms: KeyTerms = NO_TERMS,
    ) -> Minted:
        """Add a new key to the store directly."""
        key, key_id, now = mint_key(os.urandom), mint_id(os.urandom), datetime.now(UTC)
        await self.gateway.store.add(
            KeyRecord(
                id=key_id,
                digest=digest(key),
                name="minted by a test",
                owner=owner,
                scopes=scopes,
                expires_at=Instant.of(now + timedelta(days=-1 if expired else 365)),
                created_at=Instant.of(now),
                revocation=Revocation(Instant.of(now)) if revoked else None,
                created_by="master",
                terms=terms,
            )
        )
        self.secrets.add(key)
        return Minted(key, key_id, owner)

    async def connect(self, address: Endpoint | None = None, *, keep: bool = True, **more: Any) -> RawClient:
        """Connect until the gateway is closed; `keep` keeps the connection's bytes for the search then."""
        client = await RawClient.connect(address or self.gateway.address, keep=keep, **more)
        self._clients.append(client)
        return client

    async def ask(self, method: str, target: str, **more: Any) -> Response:
        """Send one request on a connection of its own; `more` as for `raw_client.request`."""
        async with await self.connect() as client:
            return await client.ask(method, target, **more)

    async def ask_over(self, tls: ssl.SSLContext, method: str, target: str, **more: Any) -> int:
        """Send one request over TLS, on a connection of its own, and return the status."""
        async with await self.connect(tls=tls) as client:
            return (await client.ask(method, target, **more)).status

    async def logged(self, text: str) -> str:
        """Return the log once `text` is in it; lines are written in batches."""
        await eventually(lambda: text in self.log.getvalue(), f"{text!r} in the log", LOG_PATIENCE)
        return self.log.getvalue()

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        await self.gateway.close()

    def _scraped(self) -> str:
        page, _ = self.gateway.metrics.exposition("")
        return page.decode()

    def received(self) -> list[str]:
        """Return the bytes that each client received, one character for each."""
        return [client.received.decode("latin-1") for client in self._clients]

    def leaks(self) -> list[str]:
        """Return the places where a secret, or text that a test forbade, was found."""
        texts = {"the log": self.log.getvalue(), "the metrics": self._scraped()} | {
            f"what client {number} received": text for number, text in enumerate(self.received())
        }
        return sorted(
            f"{word!r} in {name}"
            for word in self.secrets | self.forbidden
            for name, text in texts.items()
            if word in text
        )


async def start(
    upstream: StandInCore,
    /,
    *,
    ready: bool = True,
    store: KeyStore | None = None,
    **changes: Mapping[str, Any],
) -> Running:
    """Start a gateway in front of the upstream; by default it has accepted Core before this returns."""
    log = io.StringIO()
    gateway = build(configured(upstream, changes), log, Options(store=store))
    await gateway.start()
    if ready:
        async with asyncio.timeout(PATIENCE):
            await gateway.ready()
    return Running(gateway, log, upstream)


async def eventually(holds: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait until the condition holds; fail, naming `what`, after `patience` seconds."""
    try:
        async with asyncio.timeout(patience):
            while not holds():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never came: {what}") from None
