"""The requests that are measured, and the responses of the upstream.

Rules kept here:
- Requests and responses have the members and the sizes of Core's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

MASTER_KEY = "the-master-key-of-the-benchmark"
CLIENT_KEY = "the-key-of-a-client-of-the-benchmark-44-long"
"""The key that peers get; the gateway mints its own, of the same length."""
KEY_ID = "api_key_6164573b-6cc8-45a4-ad2e-7b4ba6a60f7d"
"""The id of CLIENT_KEY, for peers that have one."""
TRANSACTION_ID = "txn_6164573b-6cc8-45a4-ad2e-7b4ba6a60f7d"
LARGE = 20_000
"""Bytes of a large body, and about as many of a large response."""

_RECORDED: dict[str, Any] = {
    "transaction_id": TRANSACTION_ID,
    "amount": 750,
    "precise_amount": 75000,
    "precision": 100,
    "currency": "USD",
    "reference": "ref_001adcfgf",
    "source": "@FundingPool",
    "destination": "bln_28edb3e5-c168-4127-a1c4-16274e7a28d3",
    "status": "QUEUED",
    "created_at": "2026-01-26T15:05:37.814937Z",
}
_WANTED: dict[str, Any] = {
    "amount": 750,
    "precision": 100,
    "currency": "USD",
    "reference": "ref_001adcfgf",
    "source": "@FundingPool",
    "destination": "bln_28edb3e5-c168-4127-a1c4-16274e7a28d3",
    "description": "Card payment, order 4711",
    "allow_overdraft": True,
    "meta_data": {"sender_name": "John Doe", "sender_internal_id": "563728", "channel": "mobile"},
}


@dataclass(frozen=True, slots=True)
class Call:
    """A request by the name that tables show, without the server that gets it."""

    name: str
    method: str
    target: str
    body: str = ""


def compact(value: Any) -> str:
    """Return a value as JSON without blanks."""
    return json.dumps(value, separators=(",", ":"))


def transaction_of(length: int) -> str:
    """Return a transaction of about `length` bytes, most of them members of its meta_data."""
    short = compact(_WANTED)
    member = len(compact({"member_000000": "a value of 24 characters"})) - 1
    extra = {f"member_{n:06}": "a value of 24 characters" for n in range((length - len(short)) // member)}
    return compact(_WANTED | {"meta_data": _WANTED["meta_data"] | extra})


def bulk_of(items: int) -> str:
    """Return a bulk request of so many transactions."""
    return compact({"atomic": True, "transactions": [_WANTED] * items})


RESPONSE = compact(_RECORDED)
COPIES = LARGE // (len(RESPONSE) + 1)
LARGE_RESPONSE = compact([_RECORDED] * COPIES)
"""A list of transactions."""
TRANSACTION = compact(_WANTED)
EXACT = "12345678901234567890123"
"""A precise_amount that a double cannot hold."""
EXACT_TRANSACTION = compact(_WANTED | {"precise_amount": int(EXACT)})

GET = Call("GET", "GET", f"/transactions/{TRANSACTION_ID}")
POST = Call("POST", "POST", "/transactions", TRANSACTION)
GET_LARGE = Call("GET, 20 KB response", "GET", "/transactions")
POST_LARGE = Call("POST, 20 KB body", "POST", "/transactions", transaction_of(LARGE))
