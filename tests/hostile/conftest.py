"""One gateway for each module of hostile tests, with the keys that they call with.

Rules kept here:
- A module's gateway is searched for secrets when it is closed, like every other of the suite.
- Expected log lines are compared there too, since lines are written in batches.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest_asyncio

from tests.core_stand_in import Request, StandInCore
from tests.running import MASTER_KEY, Minted, Running, start


class Stage:
    """A running gateway, its upstream, and a key for each name."""

    def __init__(self, running: Running, upstream: StandInCore, keys: dict[str, Minted]) -> None:
        self.running = running
        self.upstream = upstream
        self.keys = keys
        self.routes: dict[str, str] = {}  # request id -> the route that its log line must name

    def __repr__(self) -> str:
        return "Stage()"  # Hypothesis shows it beside every example that fails

    def key(self, name: str) -> str:
        """Return the key of that name; `master` is Core's own."""
        return MASTER_KEY if name == "master" else self.keys[name].key

    def forwarded(self) -> list[Request]:
        """Return the requests that reached Core since the last call."""
        return self.upstream.take()

    def logged_routes(self) -> dict[str, str]:
        """Return the route that the log names for each request id in `routes`."""
        lines = (json.loads(line) for line in self.running.log.getvalue().splitlines())
        named = {line["request_id"]: line["route"] for line in lines if line["event"] == "request"}
        return {request_id: named[request_id] for request_id in self.routes}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with StandInCore(MASTER_KEY) as upstream:
        running = await start(upstream)
        keys = {
            "all": await running.mint("*:*", owner="mallory"),
            "reader": await running.mint("ledgers:read", owner="mallory"),
            "minter": await running.mint("api-keys:*", "ledgers:read", "balances:*", owner="mallory"),
            "victim": await running.mint("*:*", owner="alice"),
        }
        stage = Stage(running, upstream, keys)
        try:
            yield stage
        finally:
            await running.close()
    assert running.leaks() == []
    assert stage.logged_routes() == stage.routes
