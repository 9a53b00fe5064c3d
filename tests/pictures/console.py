"""Takes pictures of the console, of a gateway under a small load.

Rules kept here:
- The gateway, its keys, the requests and the browser are real; only Core is the stand-in of the tests.
- The name of this machine is replaced before a picture is taken.
"""

from __future__ import annotations

import asyncio
import io
import math
import random
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from aiohttp import ClientSession

from gateway.config import parse_config
from gateway.server.build import build
from gateway.server.gateway import Gateway
from gateway.server.parts import Options
from gateway.server.reload import Source
from tests.admin.console.chromium import Page, chromium, opened
from tests.core_stand_in import Exchange, StandInCore, like_core
from tests.running import MASTER_KEY, ROOT

SECONDS: Final = 75
"""How long the load lasts: until the graph has a shape, and the keys that end soon were counted."""

_CHANGES: Final = {
    " balances:write    # a read": " [balances:read, balances:write]",
    " backup:read        ": " master             ",
}
"""What the policy becomes while the gateway runs, as parts of lines of the file that ships."""

_REQUESTS: Final = (
    ("payments", "POST", "/transactions", 6),
    ("payments", "GET", "/transactions/txn_1", 7),
    ("payments", "GET", "/balances/bln_1", 9),
    ("reporting", "GET", "/ledgers", 12),
    ("reporting", "GET", "/balances", 4),
    ("onboarding", "POST", "/identities", 3),
    ("reporting", "POST", "/transactions", 2),
    ("onboarding", "DELETE", "/identities/idt_1", 1),
    ("onboarding", "GET", "/hooks", 1),
    ("retired", "GET", "/ledgers", 1),
    ("", "GET", "/ledgers", 1),
)
"""Requests as name of the key, method, target, and weight in the mix."""

_RANDOM: Final = random.Random(14)  # noqa: S311  # it only spreads the load
_LIVE: Final = "document.getElementById('connection').innerText === 'Live'"
_HIDE_MACHINE: Final = """(name => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) walker.currentNode.data = walker.currentNode.data.replaceAll(name, 'gateway-0');
})"""


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture: its file, the scheme, the size of the window, and the element at its top."""

    name: str
    scheme: str
    width: int
    height: int
    top: str = "connection"
    phone: bool = False


SHOTS: Final = (
    Shot("console.png", "light", 1100, 962),
    Shot("console-dark.png", "dark", 1100, 700, top="explain-title"),
    Shot("console-phone.png", "light", 390, 844, phone=True),
)


async def take(folder: Path) -> None:
    """Write the pictures into the folder."""
    with tempfile.TemporaryDirectory() as work:
        file = Path(work, "gateway.yaml")
        async with _gateway(file) as gateway, ClientSession() as session:
            load = Load(session, f"http://{gateway.address}")
            with chromium(Path(work, "profile")) as devtools:
                async with opened(devtools, f"http://{gateway.admin_address}/console") as page:
                    await page.size(SHOTS[0].width, SHOTS[0].height)
                    await page.until(_LIVE)
                    await load.make_keys()
                    _change_policy(file)
                    await load.run(SECONDS)
                    await _explain(page)
                    for shot in SHOTS:
                        await _take(page, shot, folder)


class Load:
    """Clients with keys of their own; some of their requests are refused."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._keys: dict[str, str] = {"": ""}

    async def make_keys(self) -> None:
        """Create the keys with the master key, and revoke one."""
        await self._create("payments", "acme", ["transactions:*", "balances:*", "ledgers:read"], days=365)
        await self._create("reporting", "acme", ["ledgers:read", "balances:read", "search:read"], days=12)
        await self._create("onboarding", "globex", ["identities:write", "accounts:write"], days=90)
        await self._create("migration", "globex", ["ledgers:*"], days=5)
        retired = await self._create("retired", "acme", ["ledgers:read"], days=30)
        await self._send("DELETE", f"/api-keys/{retired}?owner=acme", MASTER_KEY)

    async def run(self, seconds: float) -> None:
        """Send requests for so long, at a rate that rises and falls."""
        weights = [weight for *_, weight in _REQUESTS]
        begin = asyncio.get_running_loop().time()
        while (elapsed := asyncio.get_running_loop().time() - begin) < seconds:
            name, method, target, _ = _RANDOM.choices(_REQUESTS, weights)[0]
            await self._send(method, target, self._keys[name], {"name": "x"} if method == "POST" else None)
            await asyncio.sleep(1 / (45 + 20 * math.sin(elapsed / 7)))

    async def _create(self, name: str, owner: str, scopes: list[str], days: int) -> str:
        ends = (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds")
        wanted = {"name": name, "owner": owner, "scopes": scopes, "expires_at": ends}
        created = await self._send("POST", "/api-keys", MASTER_KEY, wanted)
        self._keys[name] = created["key"]
        return str(created["api_key_id"])

    async def _send(self, method: str, target: str, key: str, body: Mapping[str, Any] | None = None) -> Any:
        headers = {"X-Blnk-Key": key} if key else {}
        async with self._session.request(method, self._url + target, headers=headers, json=body) as response:
            return await response.json(content_type=None) if await response.read() else None


@asynccontextmanager
async def _gateway(file: Path) -> AsyncIterator[Gateway]:
    """Run a gateway that follows this file."""
    file.write_bytes((ROOT / "gateway.yaml").read_bytes())
    async with StandInCore(MASTER_KEY, records=False) as core:
        core.behaviour = _take_some_milliseconds
        variables = {
            "BLNK_MASTER_KEY": MASTER_KEY,
            "BLNK_GATEWAY_LISTEN": "127.0.0.1:0",
            "BLNK_GATEWAY_ADMIN": "127.0.0.1:0",
            "BLNK_GATEWAY_UPSTREAM__URL": core.url,
            "BLNK_GATEWAY_KEYS__STORE": "memory://",
            "BLNK_GATEWAY_DRAIN__DELAY": "0s",
        }
        config = parse_config(file.read_bytes(), file, variables, secrets=True)
        gateway = build(config, io.StringIO(), Options(source=Source(file, variables)))
        await gateway.start()
        try:
            await gateway.ready()
            yield gateway
        finally:
            await gateway.close()


async def _take_some_milliseconds(exchange: Exchange) -> None:
    await asyncio.sleep(_RANDOM.lognormvariate(-5.3, 0.5))
    await like_core(exchange)


def _change_policy(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for before, after in _CHANGES.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    file.write_text(text, encoding="utf-8")


async def _explain(page: Page) -> None:
    """Ask the page about a request, read the keys again, and wait for the newest entries."""
    await page.evaluate("document.getElementById('explain-method').value = 'POST'")
    await page.evaluate("document.getElementById('explain-path').value = '/balances/filter'")
    await page.evaluate("document.querySelector('#explain button').click()")
    await page.until("document.querySelector('#explained tr')")
    await page.evaluate("document.getElementById('read-keys').click()")
    await page.until("document.querySelector('#scopes-unused td.code')")


async def _take(page: Page, shot: Shot, folder: Path) -> None:
    """Take one picture."""
    await page.prefer(shot.scheme)
    await page.size(shot.width, shot.height, phone=shot.phone)
    await page.evaluate(f"document.getElementById('{shot.top}').parentElement.scrollIntoView()")
    await page.evaluate(f"{_HIDE_MACHINE}({socket.gethostname()!r})")
    await page.screenshot(folder / shot.name)
