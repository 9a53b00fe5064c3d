"""Every case and scenario of the contract, with a live Core behind the gateway.

Rules kept here:
- A tap between the two records what the gateway sends, passes those bytes to Core and Core's back.
- What the gateway answers or serves is judged as everywhere; of what it forwards, the bytes that crossed are,
  and the client must hold exactly what Core answered to them.
- Core accepts or refuses what is forwarded as it did when the contract was recorded with the client's own
  key, but where the contract says that this differs, or `ELSEWHERE` why.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from gateway.config import Secret
from tests.contract.judge import (
    HERE,
    Item,
    Outcome,
    Values,
    carried,
    context,
    crossed,
    fill,
    filled,
    judge,
    load,
    pick,
    sent_body,
    shows,
)
from tests.contract.test_contract import Stage
from tests.core.live import Core
from tests.core_stand_in import Exchange, StandInCore
from tests.raw_client import Response
from tests.running import Running, start

CASES = load("cases.jsonl")
SCENARIOS = load("scenarios.jsonl")

# Cases whose status in Core is another than when recorded.
ELSEWHERE = {
    "money/precise-point-zero": 400,  # 100.0: Core's own stamping makes an integer of it first
    "money/precise-exponent": 400,  # 1e3: likewise
}
# First segments whose outcome depends on what this Core is set up with.
EQUIPMENT = {"backup", "backup-s3", "search", "multi-search"}
REWRITTEN = {"connection", "content-length", "transfer-encoding", "x-request-id"}

pytestmark = [pytest.mark.core, pytest.mark.asyncio(loop_scope="module")]


@dataclass(slots=True)
class Tap:
    """Passes each exchange to Core byte for byte, and keeps Core's answers."""

    core: Core
    responses: deque[Response] = field(default_factory=deque)

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.body()
        request = exchange.request
        response, received = await self.core.ask(bytes(request.raw), head=request.method == "HEAD")
        if not request.is_probe:
            self.responses.append(response)
        await exchange.write(received)
        if response.value("connection") == "close":
            exchange.close()


@dataclass(slots=True)
class Tapped:
    """The stage of the contract with a live Core behind its tap."""

    stage: Stage
    tap: Tap

    async def verdict(self, item: Item, known: Values) -> tuple[str | None, Outcome]:
        """What is wrong with how this case or step came out, and how it did."""
        self.tap.responses.clear()
        outcome = await self.stage.play(item, known)
        if "forwards" not in item["gateway"]:
            return judge(item, known, outcome, self.tap.core.master_key), outcome
        if len(outcome.seen) != 1 or len(self.tap.responses) != 1 or outcome.response is None:
            return f"{len(outcome.seen)} requests reached Core; the client got {outcome.response}", outcome
        problem = sent(item, known, outcome, self.tap.core.master_key)
        problem = problem or returned(outcome.response, self.tap.responses[0], self.tap.core.master_key)
        return problem or told(item, known, outcome.response), outcome


def sent(item: Item, known: Values, outcome: Outcome, master_key: str) -> str | None:
    """What is wrong with the request that reached Core."""
    expected, request, got = item["gateway"]["forwards"], item["request"], outcome.seen[0]
    target = fill(expected["target"], known)
    if (got.method, got.target) != (request["method"], target):
        return f"{got.method} {got.target!r}, not {request['method']} {target!r}"
    problem = crossed(expected, request, got, known, master_key)
    return problem or carried(expected["body"], bytes(got.body), sent_body(request, known), known)


def returned(response: Response, from_core: Response, master_key: str) -> str | None:
    """What the client holds that is not what Core answered."""
    if shows(response, master_key):
        return "the master key reached a client"
    if (response.status, response.body) != (from_core.status, from_core.body):
        return f"the client got {response}, Core answered {from_core}"
    if ends_to_end(response) != ends_to_end(from_core):
        return f"the client got {ends_to_end(response)}, Core answered {ends_to_end(from_core)}"
    return None


def ends_to_end(response: Response) -> list[tuple[str, str]]:
    """The headers that are for the client, less those that each side writes for itself."""
    return [
        (name, value)
        for name, value in response.headers
        if name.lower() not in REWRITTEN and not name.lower().startswith(("ratelimit-", "x-rate-limit-"))
    ]


def told(item: Item, known: Values, response: Response) -> str | None:
    """What of Core's answer is otherwise than the contract says."""
    target = item["gateway"]["forwards"]["target"]
    status = ELSEWHERE.get(item.get("id", ""), item["native"]["status"])
    fixed = "differs" not in item["gateway"] and target.strip("/").split("/")[0] not in EQUIPMENT
    if fixed and response.status != status:
        return f"Core answered {response.status}, not {status}: {response.body[:200]!r}"
    for path, want in item["gateway"].get("saw", {}).items():
        if pick(response.body, path) != filled(want, known):
            return f"{path} {pick(response.body, path)!r}, not {filled(want, known)!r}"
    return None


async def minted(running: Running, run: str) -> dict[str, dict[str, str]]:
    """Every principal of the contract, in the gateway's store."""
    known = {"master": {"key": running.upstream.master_key, "key_id": "", "owner": ""}}
    for name, spec in json.loads((HERE / "principals.json").read_text()).items():
        if spec["state"] in ("none", "master"):
            continue
        made = await running.mint(
            *spec["scopes"],
            owner=f"{spec['owner']}-{run}",
            expired=spec["state"] == "expired",
            revoked=spec["state"] == "revoked",
        )
        known[name] = {"key": made.key, "key_id": made.id, "owner": made.owner}
    return known


async def fixtures(running: Running, run: str) -> dict[str, str]:
    """Records that the cases refer to, made in Core with the master key: unstamped."""

    async def made(target: str, member: str, **document: Any) -> str:
        body = json.dumps(document).encode()
        response = await running.ask("POST", target, key=running.upstream.master_key, body=body)
        assert response.status == 201, (target, response)
        return str(response.json()[member])

    async def transaction(name: str, **more: Any) -> str:
        return await made(
            "/transactions",
            "transaction_id",
            amount=10,
            precision=100,
            reference=f"{name}-{run}",
            currency="USD",
            source=f"@src-{run}",
            destination=f"@dst-{run}",
            description="fixture",
            allow_overdraft=True,
            skip_queue=True,
            **more,
        )

    ledger = await made("/ledgers", "ledger_id", name=f"fixture {run}")
    identity = await made(
        "/identities", "identity_id", identity_type="individual", first_name="Ada", last_name="Fixture"
    )
    owned = {"ledger_id": ledger, "identity_id": identity, "currency": "USD"}
    return {
        "run": run,
        "ledger_id": ledger,
        "identity_id": identity,
        "balance_a": await made("/balances", "balance_id", **owned),
        "balance_b": await made("/balances", "balance_id", **owned),
        "txn_id": await transaction("fix-txn"),
        "refund_txn_id": await transaction("fix-refund"),
        "inflight_id": await transaction("fix-inflight", inflight=True),
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tapped(core: Core) -> AsyncIterator[Tapped]:
    """One gateway for all cases, before a tap into the live Core."""
    run = uuid.uuid4().hex[:10]
    async with StandInCore(core.master_key) as upstream:
        tap = Tap(core)
        upstream.behaviour = upstream.probe_behaviour = tap
        running = await start(upstream, upstream={"master_key": Secret(core.master_key)})
        running.secrets.add(core.master_key)
        try:
            known = await minted(running, run)
            values = await fixtures(running, run)
            upstream.take()
            yield Tapped(Stage(running, known, values), tap)
        finally:
            await running.close()
    assert running.leaks() == []


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in CASES])
async def test_case(tapped: Tapped, case: Item) -> None:
    """The gateway says no as the contract says, or Core's own answer comes back."""
    known = context(case["principal"], tapped.stage.minted, tapped.stage.values)
    problem, _ = await tapped.verdict(case, known)
    assert problem is None


@pytest.mark.parametrize("scenario", [pytest.param(scenario, id=scenario["id"]) for scenario in SCENARIOS])
async def test_scenario(tapped: Tapped, scenario: Item) -> None:
    """Every step of the story comes out as the contract says, in Core's own answers too."""
    shared = tapped.stage.values | {"unique": uuid.uuid4().hex}
    for number, step in enumerate(scenario["steps"]):
        await asyncio.sleep(step.get("wait", 0))
        known = context(step["principal"], tapped.stage.minted, shared)
        problem, outcome = await tapped.verdict(step, known)
        assert (number, problem) == (number, None)
        body = outcome.response.body if outcome.response else b""
        shared |= {name: str(pick(body, path)) for name, path in step.get("save", {}).items()}


async def test_elsewhere_names_cases() -> None:
    """An entry for a case that is not in the contract would hide a missing one."""
    assert ELSEWHERE.keys() - {case["id"] for case in CASES} == set()
