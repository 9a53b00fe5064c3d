"""Every code of the catalogue is caused over HTTP, and all its responses have one shape."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any

import pytest

from gateway.config import Address
from gateway.errors import Code
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.record import KeyRecord
from gateway.policy.terms import KeyTerms, Rate, read_network
from tests.conftest import Start
from tests.core_stand_in import StandInCore, abort, held, never, responding
from tests.raw_client import Response, request
from tests.running import MASTER_KEY, Running

READ = "/ledgers?limit=1"
REFUSED_KEY = b'{"error":"no","error_detail":{"code":"AUTH_INVALID_API_KEY","message":"no"}}'
NEW_KEY = b'{"name":"k","owner":"%b","scopes":["%b"],"expires_at":"2099-01-01T00:00:00Z"}'


class UnreachableKeyStore(MemoryKeyStore):
    """A key store whose look-ups fail."""

    async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
        raise StoreUnavailableError


@dataclass(slots=True)
class Scene:
    """The parts that a provocation uses."""

    start: Start
    upstream: StandInCore

    async def ask(self, method: str, target: str, *scopes: str, **more: Any) -> Response:
        """Send a request with a new key of these scopes to a gateway as it ships."""
        gateway: Running = await self.start()
        minted = await gateway.mint(*scopes)
        return await gateway.ask(method, target, key=minted.key, **more)


Provocation = Callable[[Scene], Awaitable[Response]]


async def no_key(scene: Scene) -> Response:
    return await (await scene.start()).ask("GET", READ)


async def unknown_key(scene: Scene) -> Response:
    return await (await scene.start()).ask("GET", READ, key="A" * 43 + "=")


async def revoked_key(scene: Scene) -> Response:
    gateway = await scene.start()
    return await gateway.ask("GET", READ, key=(await gateway.mint("*:*", revoked=True)).key)


async def dot_segments(scene: Scene) -> Response:
    return await scene.ask("GET", "/ledgers/../api-keys", "*:*")


async def no_request(scene: Scene) -> Response:
    client = await (await scene.start()).connect()
    return await client.call(b"GET /ledgers HTTP/1.1\r\nno colon\r\n\r\n")


async def slow_head(scene: Scene) -> Response:
    client = await (await scene.start(timeouts={"head": 0.2})).connect()
    return await client.call(b"GET /ledgers HTTP/1.1\r\nHost: x\r\n")


async def large_head(scene: Scene) -> Response:
    client = await (await scene.start()).connect()
    return await client.call(request("GET", READ, headers=[("X-Large", "a" * 100_000)]))


async def lacking_scope(scene: Scene) -> Response:
    return await scene.ask("POST", "/ledgers", "ledgers:read", body=b"{}")


async def unknown_resource(scene: Scene) -> Response:
    return await scene.ask("GET", "/nothing", "*:*")


async def unlisted_path(scene: Scene) -> Response:
    return await scene.ask("GET", "/ledgers/a/b", "ledgers:read")


async def hooks(scene: Scene) -> Response:
    return await scene.ask("GET", "/hooks", "hooks:*")


async def foreign_owner(scene: Scene) -> Response:
    return await scene.ask("POST", "/api-keys", "*:*", body=NEW_KEY % (b"globex", b"ledgers:read"))


async def broader_scopes(scene: Scene) -> Response:
    return await scene.ask("POST", "/api-keys", "api-keys:*", body=NEW_KEY % (b"acme", b"ledgers:read"))


async def with_terms(scene: Scene, terms: KeyTerms) -> Response:
    """Send a request with a new key that has these terms."""
    store = MemoryKeyStore()
    gateway = await scene.start(store=store)
    minted = await gateway.mint("ledgers:read")
    await store.revise(minted.id, lambda record: replace(record, terms=terms))
    return await gateway.ask("GET", READ, key=minted.key)


async def from_elsewhere(scene: Scene) -> Response:
    return await with_terms(scene, KeyTerms(allow_from=(read_network("192.0.2.0/24"),)))


async def without_its_certificate(scene: Scene) -> Response:
    return await with_terms(scene, KeyTerms(certificate="ab" * 32))


async def trailing_bytes(scene: Scene) -> Response:
    return await scene.ask("POST", "/ledgers", "ledgers:write", body=b"{} {}")


async def large_bulk(scene: Scene) -> Response:
    body = b'{"transactions":[' + b"{}," * 10_000 + b"{}]}"
    return await scene.ask("POST", "/transactions/bulk", "transactions:write", body=body)


async def large_body(scene: Scene) -> Response:
    return await scene.ask("POST", "/ledgers", "ledgers:write", body=b" " * (6 << 20))


async def no_owner(scene: Scene) -> Response:
    return await (await scene.start()).ask("GET", "/api-keys", key=MASTER_KEY)


async def unknown_key_id(scene: Scene) -> Response:
    return await (await scene.start()).ask("DELETE", "/api-keys/api_key_x?owner=acme", key=MASTER_KEY)


async def many_requests(scene: Scene) -> Response:
    gateway = await scene.start(limits={"rate": Rate(1)})
    key = (await gateway.mint("ledgers:read")).key
    responses = [await gateway.ask("GET", READ, key=key) for _ in range(5)]
    assert responses[0].status == 200
    return responses[-1]


async def store_down(scene: Scene) -> Response:
    gateway = await scene.start(store=UnreachableKeyStore())
    return await gateway.ask("GET", READ, key="A" * 43 + "=")


async def core_gone(scene: Scene) -> Response:
    scene.upstream.behaviour = abort
    return await scene.ask("GET", READ, "ledgers:read")


async def core_silent(scene: Scene) -> Response:
    scene.upstream.behaviour = never
    gateway = await scene.start(timeouts={"first_byte": 0.2})
    return await gateway.ask("GET", READ, key=MASTER_KEY)


async def core_refuses(scene: Scene) -> Response:
    scene.upstream.behaviour = responding("401 Unauthorized", REFUSED_KEY)
    return await scene.ask("GET", READ, "ledgers:read")


async def full_queue(scene: Scene) -> Response:
    gateway = await scene.start(upstream={"connections": 1, "queue": 0})
    release = asyncio.Event()
    scene.upstream.script(held(release))
    holder = await gateway.connect()
    await holder.send(request("GET", READ, key=MASTER_KEY))
    await scene.upstream.arrived()
    response = await gateway.ask("GET", READ, key=MASTER_KEY)
    release.set()
    assert (await holder.response()).status == 200
    return response


async def too_many_keys(scene: Scene) -> Response:
    gateway = await scene.start(keys={"per_owner": 1})
    await gateway.mint("ledgers:read")
    body = NEW_KEY % (b"acme", b"ledgers:read")
    return await gateway.ask("POST", "/api-keys", key=MASTER_KEY, body=body)


async def end_in_the_past(scene: Scene) -> Response:
    gateway = await scene.start()
    target = f"/api-keys/{(await gateway.mint('ledgers:read')).id}?owner=acme"
    body = b'{"expires_at":"2000-01-01T00:00:00Z"}'
    return await gateway.ask("PATCH", target, key=MASTER_KEY, body=body)


async def decision(scene: Scene, method: str, target: str, local: str = "127.0.0.1") -> Response:
    """Ask for a decision on a request with the master key, from this address."""
    decides = {"listen": Address("127.0.0.1", 0)}
    running = await scene.start(decide=decides, trusted_proxies=(ip_network("127.0.0.1"),))
    named = [("X-Forwarded-Method", method), ("X-Forwarded-Uri", target)] if target else []
    client = await running.connect(running.gateway.decide_address, local=local)
    return await client.ask("GET", "/decide/forwarded", key=MASTER_KEY, headers=named)


async def asked_by_anybody(scene: Scene) -> Response:
    return await decision(scene, "GET", READ, local="127.0.0.9")


async def asked_about_nothing(scene: Scene) -> Response:
    return await decision(scene, "GET", "")


async def asked_about_keys(scene: Scene) -> Response:
    return await decision(scene, "GET", "/api-keys")


PROVOCATIONS: dict[Code, Provocation] = {
    Code.MISSING_KEY: no_key,
    Code.INVALID_KEY: unknown_key,
    Code.EXPIRED_KEY: revoked_key,
    Code.AMBIGUOUS_TARGET: dot_segments,
    Code.MALFORMED_REQUEST: no_request,
    Code.REQUEST_TIMEOUT: slow_head,
    Code.HEAD_TOO_LARGE: large_head,
    Code.INSUFFICIENT: lacking_scope,
    Code.UNKNOWN_RESOURCE: unknown_resource,
    Code.NOT_FOUND: unlisted_path,
    Code.MASTER_REQUIRED: hooks,
    Code.CROSS_OWNER: foreign_owner,
    Code.SCOPE_ESCALATION: broader_scopes,
    Code.ADDRESS_DENIED: from_elsewhere,
    Code.CERTIFICATE_MISMATCH: without_its_certificate,
    Code.UNTRUSTED_PEER: asked_by_anybody,
    Code.UNCLEAR_REQUEST: asked_about_nothing,
    Code.NOT_DECIDED: asked_about_keys,
    Code.KEY_QUOTA: too_many_keys,
    Code.KEY_UPDATE: end_in_the_past,
    Code.MALFORMED_BODY: trailing_bytes,
    Code.BULK_LIMIT: large_bulk,
    Code.BODY_TOO_LARGE: large_body,
    Code.OWNER_REQUIRED: no_owner,
    Code.KEY_NOT_FOUND: unknown_key_id,
    Code.RATE_LIMITED: many_requests,
    Code.KEY_STORE_UNAVAILABLE: store_down,
    Code.UPSTREAM_UNREACHABLE: core_gone,
    Code.UPSTREAM_TIMEOUT: core_silent,
    Code.UPSTREAM_REFUSED: core_refuses,
    Code.UNAVAILABLE: full_queue,
}
MESSAGES = {
    Code.INSUFFICIENT: "Insufficient permissions for ledgers:write",
    Code.UNCLEAR_REQUEST: "The request to decide on is not named clearly: /decide/forwarded needs the header "
    "X-Forwarded-Method exactly once",
    Code.KEY_QUOTA: "Too many API keys: live keys of this owner: 1, at most 1 (keys.per_owner); "
    "revoke one first",
    Code.KEY_UPDATE: "the new expiry is in the past: revoke the key instead",
}


def test_every_code_is_provoked() -> None:
    """Every code of the catalogue has a provocation."""
    assert set(Code) == PROVOCATIONS.keys()


@pytest.mark.parametrize("code", list(Code), ids=lambda code: code.name)
async def test_over_http(start_gateway: Start, upstream: StandInCore, code: Code) -> None:
    """Status, body and headers of the response are the catalogue's, byte for byte."""
    response = await PROVOCATIONS[code](Scene(start_gateway, upstream))
    message = MESSAGES.get(code, code.message)
    assert (response.status, response.body.decode()) == (
        code.status,
        f'{{"error":"{message}","error_detail":{{"code":"{code.code}","message":"{message}"}}}}',
    )
    assert response.value("content-type") == "application/json; charset=utf-8"
    assert response.value("content-length") == str(len(response.body))
    assert response.value("cache-control") == "no-store"
    assert response.value("proxy-status") == f"blnk-gateway; error={code.proxy_status}"
    assert response.value("x-request-id")
    assert response.value("www-authenticate") == ("X-Blnk-Key" if code.status == 401 else None)
    assert response.value("retry-after") == ("1" if code.status in (429, 503) else None)
    assert response.values("server") == []
