"""A real Prometheus that scrapes one gateway."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

from gateway.config import Address
from tests.addresses import free_ports
from tests.bench.processes import find
from tests.raw_client import RawClient

_PATIENCE = 10.0
_CONFIG = """
global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}
scrape_configs:
  - job_name: blnk-gateway
    static_configs: [{{targets: ["{target}"]}}]
"""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus that has scraped its target once."""

    address: Address

    async def values(self, query: str) -> list[float]:
        """Return the values of a query now, without those that are not a number.

        Raises AssertionError if Prometheus refuses the query.
        """
        async with await RawClient.connect(self.address) as client:
            answer = (await client.ask("GET", f"/api/v1/query?{urlencode({'query': query})}")).json()
        assert answer["status"] == "success", (query, answer)
        values = [float(series["value"][1]) for series in answer["data"]["result"]]
        return [value for value in values if not math.isnan(value)]


@asynccontextmanager
async def scraping(target: Address, folder: Path) -> AsyncIterator[Prometheus]:
    """Run a Prometheus with its files in `folder`. A test is skipped if none is installed."""
    program = find("prometheus")
    if program is None:
        pytest.skip("needs prometheus: sudo apt-get install --yes prometheus")
    (port,) = free_ports(1)
    config = folder / "prometheus.yaml"
    config.write_text(_CONFIG.format(target=target))
    with (folder / "output").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=output,
            stderr=output,
        )
    prometheus = Prometheus(Address("127.0.0.1", port))
    try:
        await _scraped(prometheus)
        yield prometheus
    finally:
        process.kill()
        await process.wait()


async def _scraped(prometheus: Prometheus) -> None:
    async with asyncio.timeout(_PATIENCE):
        while True:
            with suppress(OSError, json.JSONDecodeError):
                if await prometheus.values("up == 1"):
                    return
            await asyncio.sleep(0.05)
