"""The stand-in ledger returns what it stored, refuses as Core does, and never fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from gateway.demo.ledger import StandInLedger
from gateway.errors import Code, error_body

MASTER = "the-master-key-of-a-ledger"
AMOUNT = 12345678901234567890

Ledger = TestClient[Any, Any]


@pytest.fixture
async def ledger(aiohttp_client: Callable[..., Awaitable[Ledger]]) -> Ledger:
    """Return a client of a stand-in ledger with counted ids, which sends the master key."""
    numbers = count(1)
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    stand_in = StandInLedger(MASTER, lambda: moment, lambda: str(next(numbers)))
    return await aiohttp_client(stand_in.application(), headers={"X-Blnk-Key": MASTER})


async def ask(ledger: Ledger, method: str, path: str, body: str = "") -> tuple[int, str]:
    response = await ledger.request(method, path, data=body or None)
    return response.status, await response.text()


@pytest.mark.parametrize(("key", "code"), [("", Code.MISSING_KEY), ("wrong", Code.INVALID_KEY)])
async def test_the_ledger_wants_the_master_key(ledger: Ledger, key: str, code: Code) -> None:
    """Refusals have Core's bodies, byte for byte."""
    response = await ledger.get("/ledgers", headers={"X-Blnk-Key": key})
    assert (response.status, await response.read()) == (401, error_body(code.code, code.message))


@pytest.mark.parametrize(
    ("kind", "id_member", "prefix"),
    [
        ("ledgers", "ledger_id", "ldg"),
        ("balances", "balance_id", "bln"),
        ("identities", "identity_id", "idt"),
    ],
)
async def test_the_ledger_returns_what_it_stored(
    ledger: Ledger, kind: str, id_member: str, prefix: str
) -> None:
    """Every value keeps its literal, in the record and in the list, which begins with the newest."""
    amounts = '"balance":0,"credit_balance":0,"debit_balance":0,' if kind == "balances" else ""
    sent = '{"meta_data":{"n":1.10,"e":1e400},"name":"a"}'
    stored = f'{sent[:-1]},{amounts}"{id_member}":"{prefix}_1","created_at":"2026-01-02T03:04:05.000000Z"}}'
    assert await ask(ledger, "POST", f"/{kind}", sent) == (201, stored)
    assert await ask(ledger, "GET", f"/{kind}/{prefix}_1") == (200, stored)
    await ask(ledger, "POST", f"/{kind}", "{}")
    status, listed = await ask(ledger, "GET", f"/{kind}")
    assert (status, listed.endswith(f",{stored}]"), f'"{prefix}_2"' in listed) == (200, True, True)


async def test_amounts_move_between_balances(ledger: Ledger) -> None:
    """Amounts are exact, as precise amounts or with a precision, one by one or in bulk."""
    sides = '"currency":"USD","description":"d","source":"@world","destination":"@alice"'
    exact = f'{{"precise_amount":{AMOUNT},"reference":"r1",{sides}}}'
    reckoned = f'{{"amount":1.10,"precision":100,"reference":"r2",{sides}}}'
    assert (await ask(ledger, "POST", "/transactions", exact))[0] == 201
    status, batch = await ask(ledger, "POST", "/transactions/bulk", f'{{"transactions":[{reckoned}]}}')
    assert (status, '"transaction_count":1' in batch) == (201, True)
    status, found = await ask(ledger, "GET", "/transactions/reference/r2")
    assert (status, '"amount":1.10' in found, '"precise_amount":110' in found) == (200, True, True)
    status, balance = await ask(ledger, "GET", "/balances/indicator/@alice/currency/USD")
    assert (status, f'"balance":{AMOUNT + 110},' in balance) == (200, True)
    status, balance = await ask(ledger, "GET", "/balances/indicator/@world/currency/USD")
    assert (status, f'"balance":-{AMOUNT + 110},' in balance) == (200, True)


async def test_identities_are_replaced_and_deleted_and_metadata_merged(ledger: Ledger) -> None:
    """PUT replaces the members that were sent, and the metadata route merges, as in Core."""
    await ask(ledger, "POST", "/identities", '{"first_name":"Ada","meta_data":{"a":1}}')
    body = '{"identity_id":"idt_9","meta_data":{"b":2.0}}'
    status, changed = await ask(ledger, "PUT", "/identities/idt_1", body)
    kept = [
        part in changed for part in ('"identity_id":"idt_1"', '"first_name":"Ada"', '"meta_data":{"b":2.0}')
    ]
    assert (status, kept) == (200, [True, True, True])
    merged = await ask(ledger, "POST", "/idt_1/metadata", '{"meta_data":{"c":3}}')
    assert merged == (200, '{"meta_data":{"b":2.0,"c":3}}')
    assert (await ask(ledger, "DELETE", "/identities/idt_1"))[0] == 200
    assert (await ask(ledger, "GET", "/identities/idt_1"))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "code", "message"),
    [
        ("GET", "/ledgers/x", "LGR_NOT_FOUND", "Ledger with ID 'x' not found"),
        ("GET", "/balances/x", "BAL_NOT_FOUND", "Balance with ID 'x' not found"),
        ("GET", "/transactions/x", "TXN_NOT_FOUND", "Transaction with ID 'x' not found"),
        ("PUT", "/identities/x", "IDT_NOT_FOUND", "Identity with ID 'x' not found"),
        ("POST", "/x/metadata", "META_ENTITY_NOT_FOUND", "entity not found"),
        (
            "GET",
            "/transactions/reference/x",
            "TXN_NOT_FOUND",
            "Transaction with reference 'x' not found",
        ),
        (
            "GET",
            "/balances/indicator/x/currency/USD",
            "BAL_NOT_FOUND",
            "balance with indicator 'x' not found",
        ),
    ],
)
async def test_what_the_ledger_does_not_hold(
    ledger: Ledger, method: str, path: str, code: str, message: str
) -> None:
    """An unknown record is a 404 with Core's body."""
    assert await ask(ledger, method, path) == (404, error_body(code, message).decode())


@pytest.mark.parametrize(("method", "path"), [("GET", "/hooks"), ("PATCH", "/ledgers"), ("POST", "/health")])
async def test_a_route_that_the_ledger_does_not_have(ledger: Ledger, method: str, path: str) -> None:
    """An unknown route is a 404 with Core's own text."""
    assert await ask(ledger, method, path) == (404, "404 page not found")


@pytest.mark.parametrize(("path", "text"), [("/", '"server running..."'), ("/health", '{"status":"UP"}')])
async def test_public_pages_need_no_key(ledger: Ledger, path: str, text: str) -> None:
    """Core's public pages need no key."""
    response = await ledger.get(path, headers={"X-Blnk-Key": ""})
    assert (response.status, await response.text()) == (200, text)


SIDES = '"currency":"USD","reference":"r","description":"d","source":"@a","destination":"@b"'


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/ledgers", "[]"),
        ("/ledgers", '{"name":'),
        ("/transactions", "{}"),
        ("/transactions", f'{{"precise_amount":"12",{SIDES}}}'),
        ("/transactions", f'{{"precise_amount":1.5,{SIDES}}}'),
        ("/transactions", f'{{"precise_amount":{"9" * 5000},{SIDES}}}'),
        ("/transactions", f'{{"amount":1.005,"precision":100,{SIDES}}}'),
        ("/transactions", f'{{"amount":1e999999999,{SIDES}}}'),
        ("/transactions", f'{{"amount":true,{SIDES}}}'),
        ("/transactions", '{"precise_amount":1,"currency":"","source":"@a","destination":"@b"}'),
        ("/transactions", f'{{"precise_amount":1,{SIDES.replace("description", "note")}}}'),
        ("/transactions/bulk", "{}"),
        ("/transactions/bulk", '{"transactions":[]}'),
        ("/transactions/bulk", '{"transactions":[7]}'),
    ],
)
async def test_a_body_that_the_ledger_cannot_read_is_a_400(ledger: Ledger, path: str, body: str) -> None:
    """An unreadable body gets 400, and nothing of it is stored."""
    assert (await ask(ledger, "POST", path, body))[0] == 400
    assert await ask(ledger, "GET", "/balances") == (200, "[]")
