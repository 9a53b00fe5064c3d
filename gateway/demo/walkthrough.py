"""The walk through the gateway: each step one request over HTTP, and whether it came out as it should.

Rules kept here:
- Every request goes through the gateway's listener; nothing is asked of its parts.
- A step never raises: what came out otherwise is a step that does not hold, and the walk goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import aiohttp
import msgspec

from gateway.config import Secret
from gateway.stamping.reserved_names import STAMP_NAME

AMOUNT = 12345678901234567890  # above 2**53: a float64 would make it 12345678901234567168
OWNER = "acme"
EXPIRES_AT = "2999-01-01T00:00:00Z"
_READS = ("ledgers:read", "transactions:read")
_WRITES = ("ledgers:*", "balances:*", "transactions:*", "identities:*")
_READER_ID = "READ_KEY_ID"
_FORGED = "api_key_of_somebody_else"


@dataclass(frozen=True, slots=True)
class Key:
    """A key to send, and the shell variable that a person would keep it in; without one it shows itself."""

    name: str
    secret: Secret


@dataclass(frozen=True, slots=True)
class Variable:
    """A shell variable that later requests use, and what it holds; without a value there is none."""

    name: str
    value: Secret


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """One request to the gateway; `shown` is its target with shell variables in it, if it has any."""

    method: str
    target: str
    key: Key | None = None
    body: str = ""
    shown: str = ""


@dataclass(frozen=True, slots=True)
class DemoResponse:
    """What came back; status 0 if nothing did, and then the text says why."""

    status: int
    text: str

    def literal(self, *path: str) -> str:
        """The member at this path exactly as it was written; empty if it is not there."""
        value = msgspec.Raw(self.text.encode())
        try:
            for name in path:
                value = msgspec.json.decode(value, type=dict[str, msgspec.Raw])[name]
        except (msgspec.DecodeError, KeyError):
            return ""
        return bytes(value).decode()

    def member(self, *path: str) -> str:
        """The text at this path; empty if there is none."""
        try:
            return msgspec.json.decode(self.literal(*path), type=str)
        except msgspec.DecodeError:
            return ""


@dataclass(frozen=True, slots=True)
class DemoStep:
    """What was done, what came back, and the part of it that tells; `holds` if that is as it should be.

    `variables` are those that it gives to the steps after it.
    """

    title: str
    request: DemoRequest
    reply: DemoResponse
    telling: str
    holds: bool
    variables: tuple[Variable, ...] = ()


class Walkthrough:
    """Walks through the gateway once; afterwards `live_key` is a key that still works."""

    def __init__(self, session: aiohttp.ClientSession, base: str, master: Secret) -> None:
        self._session = session
        self._base = base
        self._master = Key("MASTER_KEY", master)
        self._reader = self._writer = Key("", Secret(""))
        self._reader_id = self._writer_id = ""

    @property
    def live_key(self) -> Secret:
        """The key of the one who writes."""
        return self._writer.secret

    async def steps(self) -> AsyncIterator[DemoStep]:
        """Each step as soon as its answer is there."""
        for step in (
            self._mint_reader,
            self._mint_writer,
            self._without_key,
            self._wrong_key,
            self._read,
            self._write_as_reader,
        ):
            yield await step()
        async for told in self._stamped():
            yield told
        async for told in self._forged():
            yield told
        yield await self._revoke()
        yield await self._revoked_key()

    async def _mint_reader(self) -> DemoStep:
        step = await self._mint("The master key mints a key that may only read", "reporting", _READS)
        self._reader = Key("READ_KEY", Secret(step.reply.member("key")))
        self._reader_id = step.reply.member("api_key_id")
        key_id = Variable(_READER_ID, Secret(self._reader_id))
        return replace(step, variables=(Variable("READ_KEY", self._reader.secret), key_id))

    async def _mint_writer(self) -> DemoStep:
        step = await self._mint("... and one that may write", "payments", _WRITES)
        self._writer = Key("KEY", Secret(step.reply.member("key")))
        self._writer_id = step.reply.member("api_key_id")
        return replace(step, variables=(Variable("KEY", self._writer.secret),))

    async def _mint(self, title: str, name: str, scopes: tuple[str, ...]) -> DemoStep:
        wanted = {"name": name, "owner": OWNER, "scopes": scopes, "expires_at": EXPIRES_AT}
        request = DemoRequest("POST", "/api-keys", self._master, _json(wanted))
        reply = await self._ask(request)
        granted = reply.literal("scopes") == _json(scopes) and reply.member("key") != ""
        return DemoStep(
            title, request, reply, _parts(reply, "api_key_id", "key"), reply.status == 201 and granted
        )

    async def _without_key(self) -> DemoStep:
        return await self._refused(
            "A request without a key", DemoRequest("GET", "/ledgers"), 401, "AUTH_MISSING_API_KEY"
        )

    async def _wrong_key(self) -> DemoStep:
        wrong = Key("", Secret("this-is-not-a-key"))
        return await self._refused(
            "A wrong key", DemoRequest("GET", "/ledgers", wrong), 401, "AUTH_INVALID_API_KEY"
        )

    async def _read(self) -> DemoStep:
        request = DemoRequest("GET", "/ledgers", self._reader)
        reply = await self._ask(request)
        title = "The key that may only read, reading"
        return DemoStep(title, request, reply, reply.text, reply.status == 200)

    async def _write_as_reader(self) -> DemoStep:
        request = DemoRequest("POST", "/ledgers", self._reader, '{"name":"Customers"}')
        return await self._refused("The same key, writing", request, 403, "AUTH_INSUFFICIENT_PERMISSIONS")

    async def _stamped(self) -> AsyncIterator[DemoStep]:
        """A transaction, and what the ledger stored of it."""
        request = self._transaction("order-1", '{"order":"1"}')
        created = await self._ask(request)
        title = "A transaction with more digits than a float holds"
        yield DemoStep(title, request, created, _parts(created, "transaction_id"), created.status == 201)
        yield await self._stored("What the ledger stored: who wrote it, and every digit", created)

    async def _forged(self) -> AsyncIterator[DemoStep]:
        """A transaction that names another key as its writer, and what the ledger stored of it."""
        request = self._transaction("order-2", _json({STAMP_NAME: _FORGED}))
        created = await self._ask(request)
        title = "A transaction that claims to be another key's"
        yield DemoStep(title, request, created, _parts(created, "transaction_id"), created.status == 201)
        yield await self._stored("What the ledger stored: the forged stamp did not survive", created)

    def _transaction(self, reference: str, meta_data: str) -> DemoRequest:
        body = (
            f'{{"precise_amount":{AMOUNT},"precision":100,"currency":"USD","reference":"{reference}",'
            '"description":"an order","source":"@world","destination":"@alice","allow_overdraft":true,'
            f'"skip_queue":true,"meta_data":{meta_data}}}'
        )
        return DemoRequest("POST", "/transactions", self._writer, body)

    async def _stored(self, title: str, created: DemoResponse) -> DemoStep:
        request = DemoRequest("GET", f"/transactions/{created.member('transaction_id')}", self._reader)
        reply = await self._ask(request)
        stamped = self._writer_id != "" and reply.member("meta_data", STAMP_NAME) == self._writer_id
        exact = reply.literal("precise_amount") == str(AMOUNT)
        telling = _parts(reply, "precise_amount", "meta_data")
        return DemoStep(title, request, reply, telling, reply.status == 200 and stamped and exact)

    async def _revoke(self) -> DemoStep:
        target = "/api-keys/{}?owner=" + OWNER
        request = DemoRequest(
            "DELETE", target.format(self._reader_id), self._master, shown=target.format(f"${_READER_ID}")
        )
        reply = await self._ask(request)
        return DemoStep(
            "The master key revokes the first key", request, reply, reply.text, reply.status == 204
        )

    async def _revoked_key(self) -> DemoStep:
        request = DemoRequest("GET", "/ledgers", self._reader)
        return await self._refused("The revoked key", request, 401, "AUTH_EXPIRED_API_KEY")

    async def _refused(self, title: str, request: DemoRequest, status: int, code: str) -> DemoStep:
        reply = await self._ask(request)
        came_out = (reply.status, reply.member("error_detail", "code")) == (status, code)
        return DemoStep(title, request, reply, reply.literal("error_detail") or reply.text, came_out)

    async def _ask(self, request: DemoRequest) -> DemoResponse:
        headers = {"Content-Type": "application/json"} if request.body else {}
        if request.key is not None:
            headers["X-Blnk-Key"] = request.key.secret.reveal()
        try:
            async with self._session.request(
                request.method, self._base + request.target, data=request.body or None, headers=headers
            ) as answer:
                return DemoResponse(answer.status, await answer.text(errors="replace"))
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            return DemoResponse(0, f"no answer: {failure or type(failure).__name__}")


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _parts(reply: DemoResponse, *names: str) -> str:
    """The named members as they were written; the whole answer if it lacks one."""
    parts = [f'"{name}":{reply.literal(name)}' for name in names if reply.literal(name)]
    return "{" + ",".join(parts) + "}" if len(parts) == len(names) else reply.text
