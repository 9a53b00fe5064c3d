"""Every case and scenario of the contract is played with a live Core behind the gateway.

Rules kept here:
- A tap between the two records what the gateway sends, and passes all bytes on in both directions.
- The gateway's own responses are judged as without a live Core. Of a forwarded request, the bytes
  that reached Core are judged, and the client must get exactly Core's response.
- Core must accept or refuse a forwarded request as it did in the recording, which used the client's own key.
  Exceptions are stated in the contract, or in `CHANGED_STATUS` with the reason.
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
    context,
    fill,
    filled,
    judge,
    load,
    pick,
    shows,
    unframed_body,
    wrong_body,
    wrong_headers,
)
from tests.contract.test_contract import Stage
from tests.core.live import Core
from tests.core_stand_in import Exchange, StandInCore
from tests.raw_client import Response
from tests.running import Running, start

CASES = load("cases.jsonl")
SCENARIOS = load("scenarios.jsonl")

# Cases in which the status of Core differs from the recorded one.
CHANGED_STATUS = {
    "money/precise-point-zero": 400,  # 100.0: Core's own stamping makes an integer of it first
    "money/precise-exponent": 400,  # 1e3: the same
}
# First segments whose outcome depends on the set-up of this Core.
OPTIONAL_PARTS = {"backup", "backup-s3", "search", "multi-search"}
REWRITTEN = {"connection", "content-length", "transfer-encoding", "x-request-id"}

pytestmark = [pytest.mark.core, pytest.mark.asyncio(loop_scope="module")]


@dataclass(slots=True)
class Tap:
    """Passes each exchange to Core byte for byte, and keeps Core's responses."""

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
    """The stage of the contract, with a live Core behind its tap."""

    stage: Stage
    tap: Tap

    async def verdict(self, item: Item, known: Values) -> tuple[str | None, Outcome]:
        """Play a case or step; return what is wrong with it, or None, and its outcome."""
        self.tap.responses.clear()
        outcome = await self.stage.play(item, known)
        if "forwards" not in item["gateway"]:
            return judge(item, known, outcome, self.tap.core.master_key), outcome
        if len(outcome.seen) != 1 or len(self.tap.responses) != 1 or outcome.response is None:
            return f"{len(outcome.seen)} requests reached Core; the client got {outcome.response}", outcome
        problem = wrong_request(item, known, outcome, self.tap.core.master_key)
        problem = problem or wrong_copy(outcome.response, self.tap.responses[0], self.tap.core.master_key)
        return problem or wrong_content(item, known, outcome.response), outcome


def wrong_request(item: Item, known: Values, outcome: Outcome, master_key: str) -> str | None:
    """Return what is wrong with the request that reached Core, or None."""
    expected, request, got = item["gateway"]["forwards"], item["request"], outcome.seen[0]
    target = fill(expected["target"], known)
    if (got.method, got.target) != (request["method"], target):
        return f"{got.method} {got.target!r}, not {request['method']} {target!r}"
    problem = wrong_headers(expected, request, got, known, master_key)
    return problem or wrong_body(expected["body"], bytes(got.body), unframed_body(request, known), known)


def wrong_copy(response: Response, from_core: Response, master_key: str) -> str | None:
    """Return how the client's response differs from Core's, or None."""
    if shows(response, master_key):
        return "the master key reached a client"
    if (response.status, response.body) != (from_core.status, from_core.body):
        return f"the client got {response}, the response of Core is {from_core}"
    if end_to_end_headers(response) != end_to_end_headers(from_core):
        headers = end_to_end_headers(response), end_to_end_headers(from_core)
        return f"the client got {headers[0]}, the response of Core has {headers[1]}"
    return None


def end_to_end_headers(response: Response) -> list[tuple[str, str]]:
    """Return the headers that are for the client, without those that each side writes for itself."""
    return [
        (name, value)
        for name, value in response.headers
        if name.lower() not in REWRITTEN and not name.lower().startswith(("ratelimit-", "x-rate-limit-"))
    ]


def wrong_content(item: Item, known: Values, response: Response) -> str | None:
    """Return how Core's response differs from what the contract says, or None."""
    target = item["gateway"]["forwards"]["target"]
    status = CHANGED_STATUS.get(item.get("id", ""), item["native"]["status"])
    fixed = "differs" not in item["gateway"] and target.strip("/").split("/")[0] not in OPTIONAL_PARTS
    if fixed and response.status != status:
        return f"the status of Core is {response.status}, not {status}: {response.body[:200]!r}"
    for path, want in item["gateway"].get("saw", {}).items():
        if pick(response.body, path) != filled(want, known):
            return f"{path} {pick(response.body, path)!r}, not {filled(want, known)!r}"
    return None


async def minted(running: Running, run: str) -> dict[str, dict[str, str]]:
    """Mint every principal of the contract in the gateway's store; return keys, ids and owners by name."""
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
    """Create the records that the cases refer to with the master key, so that they have no stamp."""

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
    """One gateway for all cases, with a tap between it and the live Core."""
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
    """The gateway refuses as the contract says, or the client gets Core's own response."""
    known = context(case["principal"], tapped.stage.minted, tapped.stage.values)
    problem, _ = await tapped.verdict(case, known)
    assert problem is None


@pytest.mark.parametrize("scenario", [pytest.param(scenario, id=scenario["id"]) for scenario in SCENARIOS])
async def test_scenario(tapped: Tapped, scenario: Item) -> None:
    """Every step of the scenario has the outcome that the contract says, also in Core's own responses."""
    shared = tapped.stage.values | {"unique": uuid.uuid4().hex}
    for number, step in enumerate(scenario["steps"]):
        await asyncio.sleep(step.get("wait", 0))
        known = context(step["principal"], tapped.stage.minted, shared)
        problem, outcome = await tapped.verdict(step, known)
        assert (number, problem) == (number, None)
        body = outcome.response.body if outcome.response else b""
        shared |= {name: str(pick(body, path)) for name, path in step.get("save", {}).items()}


async def test_every_changed_status_is_of_a_case() -> None:
    """Every entry names a case of the contract, so that no missing case is hidden."""
    assert CHANGED_STATUS.keys() - {case["id"] for case in CASES} == set()
