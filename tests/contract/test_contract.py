"""Every case and scenario that was recorded from a live Core is played against the gateway."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.contract.judge import (
    FIXTURES,
    HERE,
    Item,
    Outcome,
    Values,
    context,
    judge,
    load,
    pick,
    request_bytes,
)
from tests.core_stand_in import StandInCore, is_public
from tests.raw_client import BrokenResponse
from tests.running import MASTER_KEY, Running, start

CASES = load("cases.jsonl")
SCENARIOS = load("scenarios.jsonl")
PENDING: dict[str, str] = json.loads((HERE / "pending.json").read_text())

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(slots=True)
class Stage:
    """One gateway for all cases, with the contract's principals minted through its own /api-keys."""

    running: Running
    minted: dict[str, dict[str, str]]
    values: dict[str, str]

    async def play(self, item: Item, values: Values) -> Outcome:
        """Send a case on a connection of its own; return its outcome."""
        late = [got.target for got in self.running.upstream.take() if not is_public(got.target)]
        assert late == [], "requests of an earlier case reached the upstream after its end"
        client = await self.running.connect(keep=False)
        try:
            await client.send(request_bytes(item, values))
            if item["request"].get("half_close"):
                await client.half_close()
            response = await client.response(head=item["request"]["method"] == "HEAD")
        except BrokenResponse as broken:
            if broken.received:
                raise
            response = None
        finally:
            await client.close()
        named = "forwards" in item["gateway"] and is_public(item["gateway"]["forwards"]["target"])
        seen = [got for got in self.running.upstream.take() if named or not is_public(got.target)]
        return Outcome(response, seen)


async def minted(running: Running, run: str) -> dict[str, dict[str, str]]:
    """Mint every principal of the contract with the master key; return their keys, ids and owners by name."""
    known = {"master": {"key": MASTER_KEY, "key_id": "", "owner": ""}}
    async with await running.connect(keep=False) as client:
        for name, spec in json.loads((HERE / "principals.json").read_text()).items():
            if spec["state"] in ("none", "master"):
                continue
            owner = f"{spec['owner']}-{run}"
            expires_at = f"{'2001' if spec['state'] == 'expired' else '2099'}-01-01T00:00:00Z"
            wanted = {"name": name, "owner": owner, "scopes": spec["scopes"], "expires_at": expires_at}
            made = await client.ask("POST", "/api-keys", key=MASTER_KEY, body=json.dumps(wanted).encode())
            assert made.status == 201, (name, made)
            key, key_id = made.json()["key"], made.json()["api_key_id"]
            if spec["state"] == "revoked":
                gone = await client.ask("DELETE", f"/api-keys/{key_id}?owner={owner}", key=MASTER_KEY)
                assert gone.status == 204, gone
            known[name] = {"key": key, "key_id": key_id, "owner": owner}
    return known


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    run = uuid.uuid4().hex[:10]
    async with StandInCore(MASTER_KEY) as upstream:
        running = await start(upstream)
        try:
            known = await minted(running, run)
            running.secrets |= {principal["key"] for principal in known.values()}
            yield Stage(running, known, FIXTURES | {"run": run})
        finally:
            await running.close()
    assert running.leaks() == []


def listed(items: list[Item]) -> list[object]:
    """Return each item as a parameter under its id; a pending item is expected to fail."""
    return [
        pytest.param(
            item,
            id=item["id"],
            marks=[pytest.mark.xfail(reason=PENDING[item["id"]], strict=True)]
            if item["id"] in PENDING
            else [],
        )
        for item in items
    ]


@pytest.mark.parametrize("case", listed(CASES))
async def test_case(stage: Stage, case: Item) -> None:
    """The gateway refuses, serves or forwards as the case says, and nothing else reaches the upstream."""
    known = context(case["principal"], stage.minted, stage.values)
    assert judge(case, known, await stage.play(case, known), MASTER_KEY) is None


@pytest.mark.parametrize("scenario", listed(SCENARIOS))
async def test_scenario(stage: Stage, scenario: Item) -> None:
    """Every step of the scenario has the outcome that the contract says."""
    shared = stage.values | {"unique": uuid.uuid4().hex}
    for number, step in enumerate(scenario["steps"]):
        await asyncio.sleep(step.get("wait", 0))
        known = context(step["principal"], stage.minted, shared)
        outcome = await stage.play(step, known)
        assert (number, judge(step, known, outcome, MASTER_KEY)) == (number, None)
        body = outcome.response.body if outcome.response else b""
        shared |= {name: str(pick(body, path)) for name, path in step.get("save", {}).items()}


async def test_what_is_pending_is_a_case() -> None:
    """Every id in pending.json names a case, so that no missing case is hidden."""
    assert PENDING.keys() - {item["id"] for item in CASES + SCENARIOS} == set()
