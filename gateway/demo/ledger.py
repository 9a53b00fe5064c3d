"""A stand-in for Blnk Core: a small ledger in memory, with a master key.

Rules kept here:
- It returns every value as the literal that was sent, however many digits it has.
- Without the master key it responds 401 with Core's bodies; for a missing record it responds 404 as Core
  does.
- It moves amounts between balances. It does not have Core's limits, overdrafts, queues and inflight
  transactions.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Raw

from gateway.demo.json_records import (
    LedgerError,
    Record,
    holds,
    items_of,
    literal_of,
    object_of,
    precise_amount_of,
    raw,
    text_of,
)
from gateway.errors import Code, error_body

_BODY_BYTES = 8 * 1024**2  # more than the gateway lets through on a stamped route
_PUBLIC = {"/", "/health"}
_EMPTY_BALANCE = {name: Raw(b"0") for name in ("balance", "credit_balance", "debit_balance")}


@dataclass(frozen=True, slots=True)
class _RecordType:
    """One type of record: its path, its words in Core's responses, and all records by id."""

    path: str
    noun: str
    prefix: str
    code: str
    records: dict[str, Record] = field(default_factory=dict)

    @property
    def id_member(self) -> str:
        return f"{self.noun.lower()}_id"

    def missing(self, by: str, value: str) -> LedgerError:
        return LedgerError(404, f"{self.code}_NOT_FOUND", f"{self.noun} with {by} '{value}' not found")

    def get(self, record_id: str) -> Record:
        """Return the record. Raises LedgerError if there is none with this id."""
        try:
            return self.records[record_id]
        except KeyError:
            raise self.missing("ID", record_id) from None


class StandInLedger:
    """Stores ledgers, balances, transactions and identities until the process ends.

    `now` returns an aware time in UTC, `unique` a text that no other record's id contains.
    """

    def __init__(self, master_key: str, now: Callable[[], datetime], unique: Callable[[], str]) -> None:
        self._master_key = master_key.encode()
        self._now = now
        self._unique = unique
        self._ledgers = _RecordType("ledgers", "Ledger", "ldg", "LGR")
        self._balances = _RecordType("balances", "Balance", "bln", "BAL")
        self._transactions = _RecordType("transactions", "Transaction", "txn", "TXN")
        self._identities = _RecordType("identities", "Identity", "idt", "IDT")
        self._record_types = (self._ledgers, self._balances, self._transactions, self._identities)

    def application(self) -> web.Application:
        """Return the ledger as a web application, to be run on a private address."""
        application = web.Application(middlewares=[self._guard], client_max_size=_BODY_BYTES)
        add = application.router.add_route
        add("GET", "/", _say_running)
        add("GET", "/health", _say_up)
        add("POST", "/transactions", self._record)
        add("POST", "/transactions/bulk", self._record_bulk)
        add("GET", "/transactions/reference/{reference}", self._by_reference)
        add("GET", "/balances/indicator/{indicator}/currency/{currency}", self._by_indicator)
        add("POST", "/{id}/metadata", self._merge_metadata)
        for record_type in self._record_types:
            self._add_routes(application, record_type)
        return application

    def _add_routes(self, application: web.Application, record_type: _RecordType) -> None:
        async def create(request: web.Request) -> web.Response:
            own = _EMPTY_BALANCE if record_type is self._balances else {}
            return _json(201, self._store(record_type, await _members(request) | own))

        async def every(_: web.Request) -> web.Response:
            return _json(200, list(reversed(record_type.records.values())))

        async def one(request: web.Request) -> web.Response:
            return _json(200, record_type.get(request.match_info["id"]))

        async def replace(request: web.Request) -> web.Response:
            record = record_type.get(request.match_info["id"])
            own = {name: record[name] for name in (record_type.id_member, "created_at")}
            record.update(await _members(request) | own)
            return _json(200, record)

        async def delete(request: web.Request) -> web.Response:
            record_type.get(request.match_info["id"])
            del record_type.records[request.match_info["id"]]
            return _json(200, {"message": f"{record_type.noun} deleted successfully"})

        add = application.router.add_route
        add("GET", f"/{record_type.path}", every)
        add("GET", f"/{record_type.path}/{{id}}", one)
        if record_type is not self._transactions:
            add("POST", f"/{record_type.path}", create)
        if record_type is self._ledgers or record_type is self._identities:
            add("PUT", f"/{record_type.path}/{{id}}", replace)
        if record_type is self._identities:
            add("DELETE", f"/{record_type.path}/{{id}}", delete)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        sent = request.headers.get("X-Blnk-Key", "")
        try:
            if request.path not in _PUBLIC:
                if not sent:
                    raise _refusal(Code.MISSING_KEY)
                if not hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), self._master_key):
                    raise _refusal(Code.INVALID_KEY)
            return await handler(request)
        except LedgerError as refusal:
            return _json(refusal.status, Raw(error_body(refusal.code, str(refusal))))
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
            return web.Response(status=404, text="404 page not found", content_type="text/plain")

    def _store(self, record_type: _RecordType, members: Record) -> Record:
        record_id = f"{record_type.prefix}_{self._unique()}"
        own = {record_type.id_member: record_id, "created_at": self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
        record = {"meta_data": Raw(b"null")} | members | {name: raw(value) for name, value in own.items()}
        record_type.records[record_id] = record
        return record

    async def _record(self, request: web.Request) -> web.Response:
        return _json(201, self._apply(await _members(request)))

    async def _record_bulk(self, request: web.Request) -> web.Response:
        items = items_of((await _members(request)).get("transactions"))
        for item in items:
            self._apply(object_of(item))
        batch = {"batch_id": f"bulk_{self._unique()}", "status": "applied", "transaction_count": len(items)}
        return _json(201, batch)

    def _apply(self, members: Record) -> Record:
        """Move the amount and store the transaction. Raises LedgerError before anything is moved."""
        amount = precise_amount_of(members)
        currency, *_ = [text_of(members, name) for name in ("currency", "reference", "description")]
        source = self._balance(text_of(members, "source"), currency)
        destination = self._balance(text_of(members, "destination"), currency)
        _move(source, "debit_balance", -amount)
        _move(destination, "credit_balance", amount)
        own = {"status": raw("APPLIED")}
        if not literal_of(members, "precise_amount", ""):
            own["precise_amount"] = raw(amount)
        return self._store(self._transactions, members | own)

    def _balance(self, name: str, currency: str) -> Record:
        """Return the balance of this id, or of this indicator (`@name`), which is created if missing."""
        if not name.startswith("@"):
            return self._balances.get(name)
        wanted = {"indicator": name, "currency": currency}
        found = self._find(self._balances, wanted)
        new = _EMPTY_BALANCE | {member: raw(text) for member, text in wanted.items()}
        return found or self._store(self._balances, new)

    @staticmethod
    def _find(record_type: _RecordType, texts: dict[str, str]) -> Record | None:
        """Return the newest record with these texts."""
        newest_first = reversed(record_type.records.values())
        return next((record for record in newest_first if holds(record, texts)), None)

    async def _by_reference(self, request: web.Request) -> web.Response:
        reference = request.match_info["reference"]
        found = self._find(self._transactions, {"reference": reference})
        if found is None:
            raise self._transactions.missing("reference", reference)
        return _json(200, found)

    async def _by_indicator(self, request: web.Request) -> web.Response:
        names = {name: request.match_info[name] for name in ("indicator", "currency")}
        found = self._find(self._balances, names)
        if found is None:
            raise LedgerError(
                404, "BAL_NOT_FOUND", f"balance with indicator '{names['indicator']}' not found"
            )
        return _json(200, found)

    async def _merge_metadata(self, request: web.Request) -> web.Response:
        record_id = request.match_info["id"]
        record = next(
            (
                record_type.records[record_id]
                for record_type in self._record_types
                if record_id in record_type.records
            ),
            None,
        )
        if record is None:
            raise LedgerError(404, "META_ENTITY_NOT_FOUND", "entity not found")
        sent = object_of((await _members(request)).get("meta_data", b""))
        stored = {} if bytes(record["meta_data"]) == b"null" else object_of(record["meta_data"])
        record["meta_data"] = raw(stored | sent)
        return _json(200, {"meta_data": record["meta_data"]})


async def _say_running(_: web.Request) -> web.Response:
    return _json(200, "server running...")


async def _say_up(_: web.Request) -> web.Response:
    return _json(200, {"status": "UP"})


async def _members(request: web.Request) -> Record:
    return object_of(await request.read())


def _move(balance: Record, side: str, amount: int) -> None:
    balance["balance"] = raw(int(bytes(balance["balance"])) + amount)
    balance[side] = raw(int(bytes(balance[side])) + abs(amount))


def _refusal(code: Code) -> LedgerError:
    return LedgerError(code.status, code.code, code.message)


def _json(status: int, value: object) -> web.Response:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    return web.Response(status=status, body=msgspec.json.encode(value), headers=headers)
