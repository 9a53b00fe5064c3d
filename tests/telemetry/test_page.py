"""The page of `/metrics` of a running gateway: its series, its names and its process.

Rules kept here:
- Whatever a client sends, the page has no series that the table in deploy/reference.md does not name, and no
  more series after 10,000 random requests than before.
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import string
import subprocess
from collections.abc import Iterable

import pytest

from tests.conftest import Mint, Start
from tests.core_stand_in import held
from tests.raw_client import RawClient, request
from tests.running import ROOT, Running, eventually

RANDOM_REQUESTS = 10_000
AT_ONCE = 50
SCOPES = ("ledgers:*", "transactions:*")


def page(gateway: Running) -> str:
    return gateway.gateway.metrics.exposition("")[0].decode()


def series(gateway: Running) -> set[str]:
    """Return every series of the page, with its labels."""
    lines = page(gateway).splitlines()
    return {line.rpartition(" ")[0] for line in lines if line and not line.startswith("#")}


def documented() -> set[str]:
    """Return the names in the first column of the reference."""
    text = (ROOT / "deploy" / "reference.md").read_text(encoding="utf-8").partition("## Metrics")[2]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name.strip("` ") for cell in cells for name in cell.split(",")}


class Chance:
    """Makes up requests as a client may, always the same ones."""

    def __init__(self) -> None:
        self._random = random.Random(13)  # noqa: S311  # it has to repeat

    def word(self) -> str:
        length = self._random.randint(1, 40)
        return "".join(self._random.choices(string.ascii_letters + string.digits + "-_", k=length))

    def request(self, key: str) -> bytes:
        """Return a request to an unknown path or an id that nobody has, with a random method and key."""
        first, second = self.word(), self.word()
        paths = (f"/{first}", f"/ledgers/{first}", f"/{first}/{second}?{second}={first}")
        methods = ("GET", "GET", "DELETE", "PROPFIND", "PURGE", "MKCOL")
        keys = (key, self.word(), self.word().ljust(44, "A"), None)
        return request(
            self._random.choice(methods),
            self._random.choice(paths),
            key=self._random.choice(keys),
            headers=[("User-Agent", self.word()), ("traceparent", self.word())],
            host=self.word(),
        )


async def send(client: RawClient, requests: Iterable[bytes]) -> None:
    """Send requests in one write, and read as many responses."""
    whole = list(requests)
    await client.send(b"".join(whole))
    for _ in whole:
        await client.response()


async def test_ten_thousand_random_paths_and_keys_add_no_series(gateway: Running, mint: Mint) -> None:
    key, chance = (await mint(*SCOPES)).key, Chance()
    await eventually(lambda: "\nblnk_gateway_keys_expiring " in page(gateway), "the first count of keys")
    # The first ones bring every outcome that there is.
    await gateway.ask(chance.word(), f"/{chance.word()}", key=key)
    async with await gateway.connect(keep=False) as client:
        for _ in range(20):
            await send(client, (chance.request(key) for _ in range(AT_ONCE)))
        before = series(gateway)
        for _ in range(RANDOM_REQUESTS // AT_ONCE):
            await send(client, (chance.request(key) for _ in range(AT_ONCE)))
    await gateway.ask(chance.word(), f"/{chance.word()}", key=key)
    after = series(gateway)
    counted = re.findall(r"^blnk_gateway_requests_total{.*} ([\d.]+)$", page(gateway), re.MULTILINE)
    assert sum(map(float, counted)) == RANDOM_REQUESTS + 20 * AT_ONCE + 2
    assert after - before == set()
    suffixes = ("_bucket", "_count", "_sum", "_created")
    names = {name.partition("{")[0] for name in after}
    bases = {name.removesuffix(next((end for end in suffixes if name.endswith(end)), "")) for name in names}
    assert bases - documented() == set()


@pytest.mark.prometheus
async def test_promtool_finds_nothing_to_improve(gateway: Running, mint: Mint) -> None:
    """`promtool check metrics` judges names, units and help texts; it prints what it does not like."""
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed")
    await gateway.ask("GET", "/ledgers", key=(await mint(*SCOPES)).key)
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=page(gateway),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


async def test_a_request_is_in_flight_until_its_response_is_whole(gateway: Running, mint: Mint) -> None:
    key, release = (await mint(*SCOPES)).key, asyncio.Event()
    gateway.upstream.script(held(release))
    asking = asyncio.create_task(gateway.ask("GET", "/ledgers", key=key))
    await eventually(lambda: "blnk_gateway_requests_in_flight 1.0" in page(gateway), "a request in flight")
    release.set()
    await asking
    assert "blnk_gateway_requests_in_flight 0.0" in page(gateway)


async def test_a_wait_for_a_connection_to_core_is_measured(start_gateway: Start) -> None:
    """A request that finds no idle connection waits: here for the only one, which another request has."""
    gateway = await start_gateway(upstream={"connections": 1})
    key, release = (await gateway.mint(*SCOPES)).key, asyncio.Event()
    gateway.upstream.script(held(release), held(release), held(release), held(release))
    asking = [asyncio.create_task(gateway.ask("GET", "/ledgers", key=key)) for _ in range(4)]
    waiting = 'blnk_gateway_upstream_connections{state="waiting"}'
    await eventually(lambda: f"{waiting} 0.0" not in page(gateway), "a request that waits")
    await asyncio.sleep(0.05)
    release.set()
    await asyncio.gather(*asking)
    lines = dict(line.rpartition(" ")[::2] for line in page(gateway).splitlines())
    wait = "blnk_gateway_upstream_connection_wait_seconds"
    longest = float(lines[f"{wait}_count"]) - float(lines[f'{wait}_bucket{{le="0.025"}}'])
    assert (longest > 0, float(lines[f"{wait}_sum"]) >= 0.05) == (True, True)
