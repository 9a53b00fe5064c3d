"""Make the usual calls of an application that uses blnk-python.

Run as `python -m tests.sdk.python_calls URL KEY FILE`.

Rules kept here:
- The SDK is used as its README shows; only the base URL and the key are changed.
- The last line of output is a JSON list of the calls in order, each with its name and what it returned.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable
from typing import Any

from blnk_sdk import Blnk, BlnkClientOptions, blnk_init  # type: ignore[import-untyped]  # it ships no types


class Journey:
    """The calls made so far, each with what the SDK returned."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def call(self, name: str, made: Callable[[], Any]) -> dict[str, Any]:
        """Make a call and keep its result; return the data if it is an object."""
        response = made()
        code = response.error.code if response.error else None
        self.seen.append({"name": name, "status": response.status, "code": code, "data": response.data})
        return response.data if isinstance(response.data, dict) else {}


def run(blnk: Blnk, file: str) -> list[dict[str, Any]]:
    """Make every call in order."""
    run = uuid.uuid4().hex
    journey = Journey()
    call = journey.call

    call("health", blnk.system.health)
    ledger = call("ledger", lambda: blnk.ledgers.create({"name": "sdk", "meta_data": {"a": 1}}))["ledger_id"]
    call("ledger_read", lambda: blnk.ledgers.get(ledger))
    call("ledger_rename", lambda: blnk.ledgers.update(ledger, {"name": f"renamed {run}"}))
    wanted = {"ledger_id": ledger, "currency": "USD"}
    source = call("balance", lambda: blnk.ledger_balances.create(wanted))["balance_id"]
    target = call("other_balance", lambda: blnk.ledger_balances.create(wanted))["balance_id"]
    call("balance_read", lambda: blnk.ledger_balances.get(source))

    def transfer(name: str, **more: Any) -> dict[str, Any]:
        return {
            "precise_amount": 9007199254740993,
            "precision": 100,
            "reference": f"{name}-{run}",
            "description": "sdk",
            "currency": "USD",
            "source": source,
            "destination": target,
            "allow_overdraft": True,
            "skip_queue": True,
        } | more

    transactions = blnk.transactions
    paid = call("transaction", lambda: transactions.create(transfer("paid")))["transaction_id"]
    call("transaction_read", lambda: transactions.get(paid))
    items = [transfer(f"bulk-{number}") for number in range(3)]
    call("bulk", lambda: transactions.create_bulk({"transactions": items, "skip_queue": True}))
    held = call("hold", lambda: transactions.create(transfer("hold", inflight=True)))["transaction_id"]
    call("commit", lambda: transactions.update_status(held, {"status": "commit", "skip_queue": True}))
    call("refund", lambda: transactions.refund(paid, {"skip_queue": True}))
    call("bare_refund", lambda: transactions.refund(held))

    person = {"identity_type": "individual", "first_name": "Ada", "last_name": "Lovelace"}
    identity = call("identity", lambda: blnk.identity.create(person))["identity_id"]
    call("identity_change", lambda: blnk.identity.update(identity, person | {"first_name": "A."}))
    condition = {"field": "balance", "operator": ">", "value": 1000, "precision": 100}
    call("monitor", lambda: blnk.balance_monitor.create({"balance_id": source, "condition": condition}))
    call("metadata", lambda: blnk.metadata.update(ledger, {"meta_data": {"branch": "north"}}))
    call("search", lambda: blnk.search.search({"q": "*"}, "ledgers"))
    call("upload", lambda: blnk.reconciliation.upload(file, "sdk"))

    wanted_key = {
        "name": "k",
        "owner": "acme",
        "scopes": ["ledgers:read"],
        "expires_at": "2099-01-01T00:00:00Z",
    }
    key = call("key", lambda: blnk.api_keys.create(wanted_key))["api_key_id"]
    call("keys", lambda: blnk.api_keys.list({"owner": "acme"}))
    call("key_revoke", lambda: blnk.api_keys.delete(key, {"owner": "acme"}))
    call("hooks", blnk.hooks.list)
    return journey.seen


def main() -> None:
    """Make the calls and print the results."""
    url, key, file = sys.argv[1:]
    with blnk_init(key, BlnkClientOptions(base_url=url)) as blnk:
        seen = run(blnk, file)
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main()
