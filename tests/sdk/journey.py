"""The calls that an application makes with an SDK, and their outcomes through the gateway.

Rules kept here:
- Both SDKs make the same calls, in this order, each in a process of its own.
- In front of a stand-in, the requests that reach the upstream are judged. In front of a live Core, the
  application must see the same as at Core with a key of Core's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.core.live import Core, fronted
from tests.core_stand_in import Request
from tests.raw_client import request
from tests.running import ROOT, Running

PATIENCE = 60.0
STAMP = "BLNK_GENERATED_BY"
EVERYTHING = "*:*"
# The request of each call, with the ids in the stand-in's responses; None if the gateway itself responds.
CALLS = {
    "health": "GET /health",
    "ledger": "POST /ledgers",
    "ledger_read": "GET /ledgers/ledger_stored",
    "ledger_rename": "PUT /ledgers/ledger_stored",
    "balance": "POST /balances",
    "other_balance": "POST /balances",
    "balance_read": "GET /balances/balance_stored",
    "transaction": "POST /transactions",
    "transaction_read": "GET /transactions/transaction_stored",
    "bulk": "POST /transactions/bulk",
    "hold": "POST /transactions",
    "commit": "PUT /transactions/inflight/transaction_stored",
    "refund": "POST /refund-transaction/transaction_stored",
    "bare_refund": "POST /refund-transaction/transaction_stored",
    "identity": "POST /identities",
    "identity_change": "PUT /identities/identity_stored",
    "monitor": "POST /balance-monitors",
    "metadata": "POST /ledger_stored/metadata",
    "search": "POST /search/ledgers",
    "upload": "POST /reconciliation/upload",
    "key": None,
    "keys": None,
    "key_revoke": None,
    "hooks": None,
}
STATUS = {"key": 201, "key_revoke": 204, "hooks": 403}  # every other call gets 200 from the stand-in
STAMPED = {
    "ledger",
    "balance",
    "other_balance",
    "transaction",
    "hold",
    "refund",
    "bare_refund",
    "identity",
    "monitor",
}
NOT_COMPARED = {
    "metadata",  # a documented difference: Core refuses every scoped key, the gateway wants metadata:write
    "refund",  # Core sometimes gives one refund to its worker twice, and says that it was made before
    "bare_refund",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """The result that the SDK returned for one call."""

    name: str
    status: int
    code: str | None
    data: Any

    @property
    def kind(self) -> tuple[str, int, str | None, list[str] | str]:
        """The parts of the result that are the same in every run."""
        shape = sorted(self.data) if isinstance(self.data, dict) else type(self.data).__name__
        return self.name, self.status, self.code, shape


def statement(directory: Path) -> Path:
    """Write a file to reconcile, with a line that no upload before had; return its path."""
    file = directory / "statement.csv"
    file.write_text(
        "id,amount,date,reference,description,currency\n"
        f"{uuid.uuid4()},100,2026-01-01T00:00:00Z,sdk,first,USD\n"
    )
    return file


async def run(command: Sequence[str | Path], url: str, key: str, file: Path) -> list[Seen]:
    """Make every call against `url`; return the results, without the SDK's log."""
    # The SDK must not use a proxy that is configured on this machine.
    environ = os.environ | {"NO_PROXY": "*", "no_proxy": "*"}
    process = await asyncio.create_subprocess_exec(
        *command,
        url,
        key,
        file,
        cwd=ROOT,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return [Seen(**seen) for seen in json.loads(output.splitlines()[-1])]


async def through_stand_in(command: Sequence[str | Path], gateway: Running, directory: Path) -> None:
    """Check that every call succeeds and reaches the upstream as meant, stamped if it creates a record."""
    minted = await gateway.mint(EVERYTHING)
    file = statement(directory)
    seen = await run(command, f"http://{gateway.gateway.address}", minted.key, file)
    assert [(call.name, call.status) for call in seen] == [(name, STATUS.get(name, 200)) for name in CALLS]
    assert seen[-1].code == "AUTH_MASTER_KEY_REQUIRED"
    sent = {name: line for name, line in CALLS.items() if line is not None}
    arrived = gateway.upstream.take()
    assert [f"{got.method} {got.target}" for got in arrived] == list(sent.values())
    by_name = dict(zip(sent, arrived, strict=True))
    makers = {name: maker(got) for name, got in by_name.items() if name in STAMPED}
    assert makers == dict.fromkeys(STAMPED, minted.id)
    items = json.loads(by_name["bulk"].body)["transactions"]
    assert [item["meta_data"] for item in items] == [{STAMP: minted.id}] * 3
    assert file.read_bytes() in bytes(by_name["upload"].body)


def maker(got: Request) -> Any:
    """Return the key id that the stamp in the request's body names, or None."""
    return json.loads(got.body)["meta_data"].get(STAMP)


async def through_gateway_as_at_core(command: Sequence[str | Path], core: Core, directory: Path) -> None:
    """Check that an application sees the same through the gateway as at Core with a key of Core's own."""
    at_core = await run(command, core.url, await minted_by(core), statement(directory))
    async with fronted(core) as live:
        minted = await live.mint(EVERYTHING)
        seen = await run(command, f"http://{live.gateway.address}", minted.key, statement(directory))
        assert [call.kind for call in seen if call.name not in NOT_COMPARED] == [
            call.kind for call in at_core if call.name not in NOT_COMPARED
        ]
        by_name = {call.name: call for call in seen}
        assert by_name["metadata"].status == 200
        assert by_name["upload"].data["record_count"] == 1
        assert {by_name[name].status for name in ("refund", "bare_refund")} <= {201, 409}
        created = ("ledger", "balance", "transaction", "hold", "identity")
        makers = {name: by_name[name].data["meta_data"][STAMP] for name in created}
        assert makers == dict.fromkeys(created, minted.id)
        sent_amount = by_name["transaction"].data["precise_amount"]
        assert by_name["transaction_read"].data["precise_amount"] == sent_amount


async def minted_by(core: Core) -> str:
    """Return a key of Core's own that may do everything."""
    wanted = {
        "name": "sdk",
        "owner": "acme",
        "scopes": [EVERYTHING],
        "expires_at": "2099-01-01T00:00:00Z",
    }
    data = request("POST", "/api-keys", key=core.master_key, body=json.dumps(wanted).encode())
    response, _ = await core.ask(data)
    key: str = response.json()["key"]
    return key
