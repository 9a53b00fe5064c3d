"""The dashboard for Grafana: its panels, and each of its queries in a real Prometheus.

Grafana itself is not run: it is no package of Debian or PyPI.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Address
from gateway.config.sections.tls import TlsConfig
from gateway.policy.terms import KeyTerms, Rate
from tests.core_stand_in import StandInCore
from tests.deploy.prometheus import Prometheus, scraping
from tests.redis_server import RedisServer
from tests.running import MASTER_KEY, ROOT, Running, start
from tests.tls import Authority

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
PATIENCE = 30.0
WIDTH = 24
VARIABLES = {"$job": ".+", "$instance": ".+", "$__rate_interval": "10s"}
"""The values that stand in for those of Grafana, when all gateways are chosen."""
ABSENT = {
    "Would be denied": "no key is report-only",
    "Would be changed": "the gateway does not observe",
    "Spans": "nothing is traced",
}
"""The panels that show nothing of this gateway, and why."""
UNITS = {
    "s", "bytes", "Bps", "reqps", "ops", "percentunit", "bool_yes_no", "short", "none",
}  # fmt: skip


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries(panel: dict[str, Any]) -> list[str]:
    """Return the queries of a panel, with the variables filled in."""
    filled = []
    for target in panel["targets"]:
        query = str(target["expr"])
        for name, value in VARIABLES.items():
            query = query.replace(name, value)
        filled.append(query)
    return filled


def fitting(query: str) -> Iterator[str]:
    """Yield the unit that the values of a query have, where its metrics say so."""
    if "_total" in query and "/" not in query and "process_" not in query:
        yield from (
            ("short",) if "increase(" in query else ("Bps",) if "_bytes_" in query else ("reqps", "ops")
        )
    elif "_seconds" in query and "process_cpu" not in query:
        yield "s"
    elif re.search(r"_memory_bytes", query):
        yield "bytes"
    elif "/" in query or re.search(r"_ratio|process_cpu", query):
        yield "percentunit"
    else:
        yield from ("short", "none", "bool_yes_no")


def test_each_panel_says_what_it_shows_in_which_unit() -> None:
    found = panels()
    assert len({panel["title"] for panel in found}) == len(found)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in found:
        unit = panel["fieldConfig"]["defaults"]["unit"]
        assert unit in UNITS
        assert panel["description"].endswith(".")
        assert [target for target in panel["targets"] if not target["legendFormat"]] == []
        assert [query for query in queries(panel) if unit not in fitting(query)] == []


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + across, place["y"] + down)
            for across in range(place["w"])
            for down in range(place["h"])
        }
        assert place["x"] + place["w"] <= WIDTH
        assert cells.isdisjoint(taken), panel["title"]
        taken |= cells


def test_each_metric_is_shown_and_exists() -> None:
    """The table in deploy/reference.md has all of them."""
    page = (ROOT / "deploy" / "reference.md").read_text().partition("## Metrics")[2].partition("\n## ")[0]
    rows = [line for line in page.splitlines() if line.startswith(("| `blnk_gateway_", "| `process_"))]
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    text = " ".join(query for panel in panels() for query in queries(panel))
    named = set(re.findall(r"(?:blnk_gateway|process)_\w+", text))
    assert {re.sub(r"_seconds_bucket$", "_seconds", name) for name in named} == documented


@dataclass(slots=True)
class Scene:
    """A gateway that does all that it can, a Prometheus that scrapes it, and the clients of both."""

    running: Running
    prometheus: Prometheus
    tls: ssl.SSLContext

    async def ask(self, method: str, target: str, **more: Any) -> int:
        return await self.running.ask_over(self.tls, method, target, **more)

    async def use(self) -> None:
        """Send requests that are allowed, stamped, refused and limited; ask for a decision; revoke a key."""
        key = (await self.running.mint("ledgers:*", terms=KeyTerms(rate=Rate(5)))).key
        await self.ask("GET", "/ledgers", key=key)
        await self.ask("POST", "/ledgers", key=key, body=b"{}")
        await self.ask("GET", "/balances", key=key)
        await self.ask("GET", "/ledgers")
        await asyncio.gather(*(self.ask("GET", "/ledgers", key=key) for _ in range(8)))
        decides = self.running.gateway.decide_address
        names = [("X-Original-Method", "GET"), ("X-Original-URI", "/ledgers")]
        async with await self.running.connect(decides) as client:
            await client.ask("GET", "/decide/nginx", key=key, headers=names)
        revoked = await self.running.mint("ledgers:read")
        assert await self.ask("DELETE", f"/api-keys/{revoked.id}?owner=acme", key=MASTER_KEY) == 204

    async def settled(self) -> set[str]:
        """Use the gateway until only the panels of ABSENT are without data; return those that are then."""
        ends = asyncio.get_running_loop().time() + PATIENCE
        while True:
            await self.use()
            missing = await self.without_data()
            if missing == ABSENT.keys() or asyncio.get_running_loop().time() > ends:
                return missing

    async def without_data(self) -> set[str]:
        """Return the titles of the panels of which a query has no value."""
        return {
            panel["title"]
            for panel in panels()
            for query in queries(panel)
            if not await self.prometheus.values(query)
        }


@pytest.fixture
def bounded_redis(redis_server: RedisServer, redis_url: str) -> Iterator[RedisServer]:
    """An empty Redis with a `maxmemory`."""
    assert redis_url == redis_server.url
    redis_server.command("CONFIG", "SET", "maxmemory", "1gb")
    yield redis_server
    redis_server.command("CONFIG", "SET", "maxmemory", "0")


@pytest.mark.prometheus
@pytest.mark.redis
async def test_each_query_has_data_of_a_running_gateway(tmp_path: Path, bounded_redis: RedisServer) -> None:
    """Prometheus accepts each query, and each panel shows something once the gateway is used."""
    authority = Authority(tmp_path)
    shown = authority.issue("gateway", "localhost")
    settings: dict[str, Any] = {
        "tls": TlsConfig(certificate=shown.certificate, key=shown.key),
        "decide": {"listen": Address("127.0.0.1", 0)},
        "trusted_proxies": (ip_network("127.0.0.1/32"),),
        "keys": {"store": bounded_redis.url},
    }
    async with StandInCore(MASTER_KEY) as core:
        running = await start(core, **settings)
        async with scraping(running.gateway.admin_address, tmp_path) as prometheus:
            scene = Scene(running, prometheus, authority.trusting())
            assert await scene.settled() == ABSENT.keys()
        await running.close()
    assert running.leaks() == []
