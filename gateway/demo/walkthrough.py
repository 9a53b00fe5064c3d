"""The walk through the gateway: each step is one request over HTTP, and its response is as expected or not.

Rules kept here:
- Every request goes through the gateway's listener; the parts of the gateway are never called.
- A step never raises: an unexpected response is a step that is not as expected, and the walk goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import msgspec

from gateway.config import Secret
from gateway.demo.client import DemoClient
from gateway.demo.steps import DemoRequest, DemoResponse, DemoStep, Key, Variable
from gateway.stamping.reserved_names import STAMP_NAME

AMOUNT = 12345678901234567890  # above 2**53: a float64 would make it 12345678901234567168
OWNER = "acme"
EXPIRES_AT = "2999-01-01T00:00:00Z"
_READS = ("ledgers:read", "transactions:read")
_WRITES = ("ledgers:*", "balances:*", "transactions:*", "identities:*")
_READER_ID = "READ_KEY_ID"
_FORGED = "api_key_of_somebody_else"


class Walkthrough:
    """Walks through the gateway once; afterwards `live_key` is a key that is still accepted."""

    def __init__(self, session: aiohttp.ClientSession, base: str, master: Secret) -> None:
        self._client = DemoClient(session, base)
        self._master = Key("MASTER_KEY", master)
        self._reader = self._writer = Key("", Secret(""))
        self._reader_id = self._writer_id = ""

    @property
    def live_key(self) -> Secret:
        """Return the key that may write."""
        return self._writer.secret

    async def steps(self) -> AsyncIterator[DemoStep]:
        """Yield each step as soon as its response is there."""
        for step in (
            self._mint_reader,
            self._mint_writer,
            self._send_without_key,
            self._send_wrong_key,
            self._read,
            self._write_as_reader,
        ):
            yield await step()
        for title, stored_title, request in (
            (
                "A transaction with more digits than a float holds",
                "What the ledger stored: who wrote it, and every digit",
                _transaction(self._writer, "order-1", '{"order":"1"}'),
            ),
            (
                "A transaction that claims to be another key's",
                "What the ledger stored: the forged stamp did not survive",
                _transaction(self._writer, "order-2", _json({STAMP_NAME: _FORGED})),
            ),
        ):
            created = await self._create(title, request)
            yield created
            yield await self._read_stored(stored_title, created.response)
        yield await self._revoke()
        yield await self._send_revoked_key()

    async def _mint_reader(self) -> DemoStep:
        step = await self._mint("The master key mints a key that may only read", "reporting", _READS)
        self._reader = Key("READ_KEY", Secret(step.response.member("key")))
        self._reader_id = step.response.member("api_key_id")
        key_id = Variable(_READER_ID, Secret(self._reader_id))
        return replace(step, variables=(Variable("READ_KEY", self._reader.secret), key_id))

    async def _mint_writer(self) -> DemoStep:
        step = await self._mint("... and a key that may write", "payments", _WRITES)
        self._writer = Key("KEY", Secret(step.response.member("key")))
        self._writer_id = step.response.member("api_key_id")
        return replace(step, variables=(Variable("KEY", self._writer.secret),))

    async def _mint(self, title: str, name: str, scopes: tuple[str, ...]) -> DemoStep:
        wanted = {"name": name, "owner": OWNER, "scopes": scopes, "expires_at": EXPIRES_AT}
        request = DemoRequest("POST", "/api-keys", self._master, _json(wanted))
        response = await self._client.send(request)
        granted = response.literal("scopes") == _json(scopes) and response.member("key") != ""
        excerpt = response.excerpt("api_key_id", "key")
        return DemoStep(title, request, response, excerpt, response.status == 201 and granted)

    async def _send_without_key(self) -> DemoStep:
        request = DemoRequest("GET", "/ledgers")
        return await self._refused("A request without a key", request, 401, "AUTH_MISSING_API_KEY")

    async def _send_wrong_key(self) -> DemoStep:
        request = DemoRequest("GET", "/ledgers", Key("", Secret("this-is-not-a-key")))
        return await self._refused("A wrong key", request, 401, "AUTH_INVALID_API_KEY")

    async def _read(self) -> DemoStep:
        request = DemoRequest("GET", "/ledgers", self._reader)
        response = await self._client.send(request)
        title = "The key that may only read, reading"
        return DemoStep(title, request, response, response.text, response.status == 200)

    async def _write_as_reader(self) -> DemoStep:
        request = DemoRequest("POST", "/ledgers", self._reader, '{"name":"Customers"}')
        return await self._refused("The same key, writing", request, 403, "AUTH_INSUFFICIENT_PERMISSIONS")

    async def _create(self, title: str, request: DemoRequest) -> DemoStep:
        response = await self._client.send(request)
        return DemoStep(title, request, response, response.excerpt("transaction_id"), response.status == 201)

    async def _read_stored(self, title: str, created: DemoResponse) -> DemoStep:
        request = DemoRequest("GET", f"/transactions/{created.member('transaction_id')}", self._reader)
        response = await self._client.send(request)
        stamped = self._writer_id != "" and response.member("meta_data", STAMP_NAME) == self._writer_id
        exact = response.literal("precise_amount") == str(AMOUNT)
        excerpt = response.excerpt("precise_amount", "meta_data")
        return DemoStep(title, request, response, excerpt, response.status == 200 and stamped and exact)

    async def _revoke(self) -> DemoStep:
        target = "/api-keys/{}?owner=" + OWNER
        request = DemoRequest(
            "DELETE", target.format(self._reader_id), self._master, shown=target.format(f"${_READER_ID}")
        )
        response = await self._client.send(request)
        title = "The master key revokes the first key"
        return DemoStep(title, request, response, response.text, response.status == 204)

    async def _send_revoked_key(self) -> DemoStep:
        request = DemoRequest("GET", "/ledgers", self._reader)
        return await self._refused("The revoked key", request, 401, "AUTH_EXPIRED_API_KEY")

    async def _refused(self, title: str, request: DemoRequest, status: int, code: str) -> DemoStep:
        response = await self._client.send(request)
        as_expected = (response.status, response.member("error_detail", "code")) == (status, code)
        excerpt = response.literal("error_detail") or response.text
        return DemoStep(title, request, response, excerpt, as_expected)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _transaction(writer: Key, reference: str, meta_data: str) -> DemoRequest:
    body = (
        f'{{"precise_amount":{AMOUNT},"precision":100,"currency":"USD","reference":"{reference}",'
        '"description":"an order","source":"@world","destination":"@alice","allow_overdraft":true,'
        f'"skip_queue":true,"meta_data":{meta_data}}}'
    )
    return DemoRequest("POST", "/transactions", writer, body)
