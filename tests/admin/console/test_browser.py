"""The console in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.keys.redis.names import key_name
from tests.admin.console import chromium
from tests.admin.console.chromium import Page, opened
from tests.conftest import Start
from tests.redis_server import RedisServer
from tests.running import Running, eventually

pytestmark = pytest.mark.chromium

HOSTILE = "<img src=/console/x onerror=document.title='owned'>"
TOKEN = "the-token-of-a-test"  # gitleaks:allow
LIVE = "document.getElementById('connection').innerText === 'Live'"
ROUTES = "document.querySelectorAll('#routes tr td.code').length"


@pytest.fixture(scope="module")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if chromium.program() is None:
        pytest.skip("chromium is not installed")
    with chromium.chromium(tmp_path_factory.mktemp("chromium")) as address:
        yield address


def address(gateway: Running) -> str:
    return f"http://{gateway.gateway.admin_address}/console"


async def rows(page: Page, table: str) -> list[list[str]]:
    """Return the texts of the cells of a table."""
    script = (
        f"[...document.querySelectorAll('#{table} tr')].map(row => [...row.cells].map(one => one.innerText))"
    )
    found: list[list[str]] = await page.evaluate(script)
    return found


async def test_it_shows_what_happens_without_a_complaint_of_the_browser(
    gateway: Running, devtools: str
) -> None:
    key = await gateway.mint("ledgers:read", "balances:read", owner=HOSTILE)
    async with opened(devtools, address(gateway)) as page:
        await page.until(LIVE)
        await gateway.ask("GET", "/ledgers", key=key.key)
        await gateway.ask("POST", "/ledgers", key=key.key, body=b"{}")
        await page.until(f"{ROUTES} === 2")
        await page.until("document.querySelectorAll('#audit td.code').length > 1")
        await page.evaluate("document.getElementById('read-keys').click()")
        await page.until("document.querySelector('#scopes-unused td.code')")
        assert (
            await page.text("health-status"),
            [row[:1] + row[3:5] for row in await rows(page, "routes")],
            [[row[0], row[2]] for row in await rows(page, "refusals")],
            await rows(page, "refused-keys"),
            await rows(page, "scopes-unused"),
            await page.evaluate("document.querySelectorAll('main img').length"),
            await page.evaluate("document.title"),
            page.complaints,
        ) == (
            "ready",
            [["GET /ledgers", "1", "0"], ["POST /ledgers", "0", "1"]],
            [["AUTH_INSUFFICIENT_PERMISSIONS", "1"]],
            [[key.id, "AUTH_INSUFFICIENT_PERMISSIONS", "1"]],
            [[key.id, HOSTILE, "balances:read"]],
            0,
            "Blnk Gateway console",
            [],
        )


@pytest.mark.redis
async def test_it_says_how_many_keys_cannot_be_read(
    start_gateway: Start, redis_url: str, redis_server: RedisServer, devtools: str
) -> None:
    redis_server.command("SET", key_name("0" * 64), "{")
    gateway = await start_gateway(keys={"store": redis_url})
    async with opened(devtools, address(gateway)) as page:
        await page.until(LIVE)
        await page.evaluate("document.getElementById('read-keys').click()")
        await page.until("document.getElementById('keys-summary').innerText")
        summary = await page.text("keys-summary")
    assert summary.endswith(". Left out, because their records cannot be read: 1")


async def test_a_request_is_explained_with_the_keyboard_alone(gateway: Running, devtools: str) -> None:
    async with opened(devtools, address(gateway)) as page:
        await page.until(LIVE)
        await page.press("Tab", 9)
        first = await page.evaluate("document.activeElement.className")
        await page.evaluate("document.getElementById('explain-caller').focus()")
        await page.type("balances:read")
        await page.press("Enter", 13, "\r")
        await page.until("document.querySelector('#explained tr')")
        assert (first, await page.text("explained-route"), await rows(page, "explained")) == (
            "skip",
            "Route GET /ledgers, line 30",
            [
                [
                    "key with balances:read",
                    "refused: 403 AUTH_INSUFFICIENT_PERMISSIONS: Insufficient permissions for ledgers:read",
                ]
            ],
        )


async def test_the_token_is_asked_for_and_sent(start_gateway: Start, tmp_path: Path, devtools: str) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    gateway = await start_gateway(admin_token_file=file)
    async with opened(devtools, address(gateway)) as page:
        await page.until("document.activeElement.id === 'token'")
        await page.type("wrong")
        await page.press("Enter", 13, "\r")
        await page.until("document.getElementById('connection').innerText === 'The token is wrong'")
        await page.type(TOKEN)
        await page.press("Enter", 13, "\r")
        await page.until(LIVE)
        await page.until("document.getElementById('health-status').innerText === 'ready'")
        stored = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.search])"
        assert await page.evaluate(stored) == '[{},{},"",""]'


async def test_it_fits_a_phone_and_follows_the_dark_mode(gateway: Running, devtools: str) -> None:
    async with opened(devtools, address(gateway)) as page:
        await page.size(360, 740, phone=True)
        await page.until(LIVE)
        colours = []
        for scheme in ("light", "dark"):
            await page.prefer(scheme)
            colours.append(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
        wide = await page.evaluate("document.documentElement.scrollWidth")
        assert (wide, colours) == (360, ["rgb(246, 247, 249)", "rgb(17, 22, 28)"])


async def test_every_field_has_a_label_and_every_table_a_caption(gateway: Running, devtools: str) -> None:
    async with opened(devtools, address(gateway)) as page:
        await page.until(LIVE)
        unnamed = """[...document.querySelectorAll('input, select, table, section, [role=region]')]
            .filter(one => one.labels ? !one.labels.length : one.tagName === 'TABLE' ? !one.caption
            : !one.ariaLabel && !one.ariaLabelledByElements).map(one => one.outerHTML)"""
        landmarks = "['header', 'main'].map(name => document.querySelectorAll(name).length)"
        assert (await page.evaluate(unnamed), await page.evaluate(landmarks)) == ([], [1, 1])


async def test_a_paused_page_ends_its_stream_and_opens_another_later(gateway: Running, devtools: str) -> None:
    async with opened(devtools, address(gateway)) as page:
        await page.until(LIVE)
        assert page.ended == 0
        await page.evaluate("document.getElementById('pause').click()")
        assert await page.text("connection") == "Paused"
        await eventually(lambda: page.ended == 1, "the end of the stream")
        await page.evaluate("document.getElementById('pause').click()")
        await page.until(LIVE)
        assert page.complaints == []
