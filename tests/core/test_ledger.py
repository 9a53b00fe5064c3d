"""End to end on a live Core: amounts, and who made each record, read back from API and database.

Rules kept here:
- The gateway is connected to Core directly; keys are minted through the gateway.
- Amounts are compared as the text of JSON numbers and as numerics of PostgreSQL, never as floats.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from typing import Any

import asyncpg
import pytest

from tests.core.live import Fronted
from tests.raw_client import PATIENCE, Response
from tests.running import Minted

STAMP = "BLNK_GENERATED_BY"
AMOUNTS = (
    1,
    9007199254740993,  # 2^53 + 1: no float64 holds it
    12345678901234567890,  # beyond int64
    10**21,  # where JavaScript and Go begin to write exponents
    10**30,
)
TABLES = {  # what is created -> its table, the name of its id
    "ledger": ("blnk.ledgers", "ledger_id"),
    "balance": ("blnk.balances", "balance_id"),
    "identity": ("blnk.identity", "identity_id"),
    "transaction": ("blnk.transactions", "transaction_id"),
}

pytestmark = pytest.mark.core


class Books:
    """A ledger with two balances that one key made, and requests of other keys."""

    def __init__(self, live: Fronted, opener: Minted, ledger: str, balances: tuple[str, str]) -> None:
        self.live = live
        self.opener = opener
        self.ledger = ledger
        self.balances = balances
        self.run = uuid.uuid4().hex

    def transaction(self, name: str, **more: Any) -> dict[str, Any]:
        """Return a transfer between the two balances, which Core executes at once."""
        source, destination = self.balances
        return {
            "precise_amount": 100,
            "precision": 1,
            "reference": f"{name}-{self.run}",
            "currency": "USD",
            "source": source,
            "destination": destination,
            "description": "e2e",
            "allow_overdraft": True,
            "skip_queue": True,
        } | more

    async def transfer(self, key: Minted, name: str, **more: Any) -> dict[str, Any]:
        """Make a transfer; fail if Core refuses it."""
        return await self.live.made("POST", "/transactions", key.key, self.transaction(name, **more))

    async def stored(self, target: str) -> Response:
        """Return a record as Core's API shows it; wait for it, because Core stores a queued one later."""
        async with asyncio.timeout(PATIENCE):
            while (found := await self.live.ask("GET", target, self.live.core.master_key)).status == 404:
                await asyncio.sleep(0.05)
        return found

    async def maker(self, kind: str, record: str) -> str | None:
        """Return who made the record, as Core's API shows it."""
        found = await self.stored(f"/{'identities' if kind == 'identity' else f'{kind}s'}/{record}")
        made_by: str | None = (found.json()["meta_data"] or {}).get(STAMP)
        return made_by


@pytest.fixture
async def books(live: Fronted) -> Books:
    opener = await live.mint("ledgers:write", "balances:write")
    ledger = (await live.made("POST", "/ledgers", opener.key, {"name": "e2e"}))["ledger_id"]
    wanted = {"ledger_id": ledger, "currency": "USD"}
    balances = [(await live.made("POST", "/balances", opener.key, wanted))["balance_id"] for _ in range(2)]
    return Books(live, opener, ledger, (balances[0], balances[1]))


async def stored_maker(database: asyncpg.Connection, kind: str, record: str) -> str | None:
    """Return who made the record, as Core's table has it."""
    table, name = TABLES[kind]
    query = f"SELECT meta_data->>'{STAMP}' FROM {table} WHERE {name} = $1"  # noqa: S608
    made_by: str | None = await database.fetchval(query, record)
    return made_by


def literal(response: Response, member: str) -> str:
    """Return the number as Core wrote it."""
    found = re.search(rf'"{member}":([^,}}]*)'.encode(), response.body)
    assert found is not None, response
    return found[1].decode()


async def test_ledger_and_balances_name_the_key_that_opened_them(books: Books) -> None:
    """A ledger and its balances have the id of the key that created them."""
    assert await books.maker("ledger", books.ledger) == books.opener.id
    assert [await books.maker("balance", balance) for balance in books.balances] == [books.opener.id] * 2


async def test_stored_ledger_and_balances_name_the_key(books: Books, database: asyncpg.Connection) -> None:
    """The rows of a ledger and its balances have the id of the key that created them."""
    assert await stored_maker(database, "ledger", books.ledger) == books.opener.id
    makers = [await stored_maker(database, "balance", balance) for balance in books.balances]
    assert makers == [books.opener.id] * 2


@pytest.mark.parametrize("amount", AMOUNTS)
async def test_every_digit_of_an_amount_comes_back(books: Books, amount: int) -> None:
    """Core's responses to the create and to a read have the amount that was sent, and its maker."""
    teller = await books.live.mint("transactions:*")
    transaction = books.transaction("digits", precise_amount=amount)
    created = await books.live.ask("POST", "/transactions", teller.key, transaction)
    assert created.status == 201, created
    record = created.json()["transaction_id"]
    read = await books.live.ask("GET", f"/transactions/{record}", teller.key)
    assert [literal(response, "precise_amount") for response in (created, read)] == [str(amount)] * 2
    assert [response.json()["meta_data"][STAMP] for response in (created, read)] == [teller.id] * 2


@pytest.mark.parametrize("amount", AMOUNTS)
async def test_every_digit_of_an_amount_is_stored(
    books: Books, database: asyncpg.Connection, amount: int
) -> None:
    """The stored transaction and both balances have the amount that was sent, to the last digit."""
    teller = await books.live.mint("transactions:*")
    made = await books.transfer(teller, "stored", precise_amount=amount)
    row = await database.fetchrow(
        f"SELECT precise_amount::text, meta_data->>'{STAMP}' FROM blnk.transactions"  # noqa: S608
        " WHERE transaction_id = $1",
        made["transaction_id"],
    )
    assert row is not None
    assert tuple(row) == (str(amount), teller.id)
    balances = [
        await database.fetchval("SELECT balance::text FROM blnk.balances WHERE balance_id = $1", balance)
        for balance in books.balances
    ]
    assert balances == [str(-amount), str(amount)]


async def test_bulk_names_its_key_on_every_item(books: Books) -> None:
    """Each of three items in a request has the id of the key that sent them, even if it had a forged one."""
    teller = await books.live.mint("transactions:*")
    amounts = (9007199254740993, 12345678901234567890, 10**30)
    items = [
        books.transaction(f"bulk-{number}", precise_amount=amount, meta_data={"n": str(number)})
        for number, amount in enumerate(amounts)
    ]
    items[1]["meta_data"][STAMP] = "api_key_forged"
    await books.live.made(
        "POST", "/transactions/bulk", teller.key, {"skip_queue": True, "atomic": True, "transactions": items}
    )
    found = [
        await books.live.ask("GET", f"/transactions/reference/{item['reference']}", teller.key)
        for item in items
    ]
    assert [literal(response, "precise_amount") for response in found] == [str(amount) for amount in amounts]
    metadata = [response.json()["meta_data"] for response in found]
    assert [(data["n"], data[STAMP]) for data in metadata] == [(str(n), teller.id) for n in range(3)]


async def test_commit_keeps_the_maker_of_the_hold(books: Books) -> None:
    """A hold that another key commits keeps the stamp of its creator, and every digit."""
    teller, approver = await books.live.mint("transactions:*"), await books.live.mint("transactions:*")
    amount = 12345678901234567890
    held = await books.transfer(teller, "hold", precise_amount=amount, inflight=True)
    target = f"/transactions/inflight/{held['transaction_id']}"
    committed = await books.live.ask("PUT", target, approver.key, {"status": "commit", "skip_queue": True})
    assert committed.status == 200, committed
    assert committed.json()["status"] == "APPLIED"
    assert literal(committed, "precise_amount") == str(amount)
    assert committed.json()["meta_data"][STAMP] == teller.id


@pytest.mark.parametrize(
    "body", [None, "", "  ", {}, {"skip_queue": True}, {"meta_data": {STAMP: "api_key_forged"}}]
)
async def test_refund_names_the_key_that_asked_for_it(books: Books, body: Any) -> None:
    """A refund by another key has that key's id, with or without a body; the original keeps its own."""
    teller, refunder = await books.live.mint("transactions:*"), await books.live.mint("transactions:*")
    amount = 9007199254740993
    paid = await books.transfer(teller, "paid", precise_amount=amount)
    asked = await books.live.ask("POST", f"/refund-transaction/{paid['transaction_id']}", refunder.key, body)
    # Core sometimes gives one refund to its worker twice: it is made, and the response is "already refunded".
    assert asked.status == 201 or asked.code == "GEN_CONFLICT", asked
    refund = await books.stored(f"/transactions/reference/{paid['transaction_id']}_refund")
    assert literal(refund, "precise_amount") == str(amount)
    assert refund.json()["parent_transaction"] == paid["transaction_id"]
    assert refund.json()["meta_data"][STAMP] == refunder.id
    assert await books.maker("transaction", paid["transaction_id"]) == teller.id


async def test_identity_names_its_last_writer(books: Books) -> None:
    """An identity names the key that replaced its meta_data, and else its creator."""
    live = books.live
    creator, editor = await live.mint("identities:*"), await live.mint("identities:*")
    person = {"identity_type": "individual", "first_name": "Ada", "last_name": "Lovelace"}
    identity = (await live.made("POST", "/identities", creator.key, person))["identity_id"]
    seen = [await books.maker("identity", identity)]
    for change in ({"first_name": "A."}, {"meta_data": {STAMP: creator.id, "kyc": "done"}}):
        await live.made("PUT", f"/identities/{identity}", editor.key, change)
        seen.append(await books.maker("identity", identity))
    assert seen == [creator.id, creator.id, editor.id]


async def test_metadata_update_cannot_forge_the_maker(books: Books) -> None:
    """A forged stamp in a metadata update is removed; the rest is merged and the creator stays."""
    editor = await books.live.mint("metadata:write")
    change = {"meta_data": {"branch": "north", STAMP: "api_key_forged"}}
    await books.live.made("POST", f"/{books.ledger}/metadata", editor.key, change)
    ledger = await books.live.made("GET", f"/ledgers/{books.ledger}", books.live.core.master_key)
    assert ledger["meta_data"] == {"branch": "north", STAMP: books.opener.id}


async def test_dry_run_writes_nothing(books: Books) -> None:
    """A dry run has Core's response, and leaves no transaction and moves no money."""
    teller = await books.live.mint("transactions:*")
    wanted = books.transaction("dry", precise_amount=10**30, dry_run=True)
    tried = await books.live.ask("POST", "/transactions", teller.key, wanted)
    assert tried.status == 200, tried
    absent = await books.live.ask("GET", f"/transactions/reference/{wanted['reference']}", teller.key)
    assert absent.status == 404, absent
    balance = await books.live.made("GET", f"/balances/{books.balances[1]}", books.live.core.master_key)
    assert balance["balance"] == 0


async def test_master_key_is_never_stamped(books: Books) -> None:
    """A record that the master key creates through the gateway has no stamp."""
    live = books.live
    body = json.dumps({"name": "by the operator", "meta_data": {"a": 1}})
    made = await live.made("POST", "/ledgers", live.core.master_key, body)
    assert made["meta_data"] == {"a": 1}


async def test_refusals_never_reach_core(books: Books) -> None:
    """A key without the scope, and a body that Core would read differently, change nothing in the ledger."""
    reader = await books.live.mint("transactions:read")
    wanted = books.transaction("refused")
    refused = await books.live.ask("POST", "/transactions", reader.key, wanted)
    writer = await books.live.mint("transactions:write")
    trailing = json.dumps(wanted) + " {}"
    malformed = await books.live.ask("POST", "/transactions", writer.key, trailing)
    assert [(response.status, response.code) for response in (refused, malformed)] == [
        (403, "AUTH_INSUFFICIENT_PERMISSIONS"),
        (400, "GEN_MALFORMED_REQUEST"),
    ]
    absent = await books.live.ask("GET", f"/transactions/reference/{wanted['reference']}", reader.key)
    assert absent.status == 404
