"""`POST /explain` on the admin listener: which bodies it takes, its responses, and what it never repeats."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

from gateway.admin.application import MAX_BODY, admin_application, health_application
from gateway.admin.checks import AdminAccess
from gateway.admin.explain import Explaining
from gateway.config import Config
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore
from tests.admin.test_application import Text, admin, error, metrics_of, ready_health
from tests.keys.records import RECORD, revocation
from tests.running import shipped_config

NOW = 1_800_000_000.0
KEY = "A_b-0" * 8 + "xyz="  # the shape of a key
REVOKED = replace(RECORD, id="api_key_revoked", digest="d", revocation=revocation("2026-01-02T00:00:00Z", ""))
ASKED = {"method": "GET", "path": "/ledgers"}
MALFORMED = "GEN_MALFORMED_REQUEST"
MEMBERS = "write method and path, and at most one of scopes (a list) and key_id"
HELD = "the body holds a key, or what looks like one: give scopes, or the key's id"


class DownStore(MemoryKeyStore):
    """A store that is down."""

    async def get(self, key_id: str) -> KeyRecord | None:
        raise StoreUnavailableError


async def application(
    store: KeyStore | None = None, *, token: Text | None = None, master: str = "accept"
) -> web.Application:
    if store is None:
        store = MemoryKeyStore()
        for record in (RECORD, REVOKED):
            await store.add(record)
    config = configured(master)
    health = ready_health()
    return admin_application(
        health,
        metrics_of(health),
        AdminAccess((), token),
        explaining=Explaining(lambda: config, store, lambda: NOW),
    )


def configured(master: str = "accept") -> Config:
    config = shipped_config()
    return replace(config, keys=replace(config.keys, master=master))


def verdicts(page: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return caller and decision of each verdict, and the code of each refusal."""
    return [
        (one["caller"], one["decision"], one.get("answer", {}).get("code", "")) for one in page["verdicts"]
    ]


STORED = {"kind": "key", "id": RECORD.id, "owner": "acme", "state": "live", "scopes": ["ledgers:read"]}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (
            {},
            [
                ({"kind": "key", "scopes": []}, "deny", "AUTH_INSUFFICIENT_PERMISSIONS"),
                ({"kind": "master key"}, "allow", ""),
                ({"kind": "no key"}, "deny", "AUTH_MISSING_API_KEY"),
            ],
        ),
        ({"scopes": ["*:read"]}, [({"kind": "key", "scopes": ["*:read"]}, "allow", "")]),
        ({"scopes": []}, [({"kind": "key", "scopes": []}, "deny", "AUTH_INSUFFICIENT_PERMISSIONS")]),
        ({"key_id": RECORD.id}, [(STORED, "allow", "")]),
        (
            {"key_id": REVOKED.id},
            [({**STORED, "id": REVOKED.id, "state": "revoked"}, "deny", "AUTH_EXPIRED_API_KEY")],
        ),
    ],
)
async def test_it_shows_what_the_caller_gets(
    aiohttp_client: AiohttpClient, asked: dict[str, Any], expected: list[tuple[Any, ...]]
) -> None:
    client = await aiohttp_client(await application())
    response = await client.post("/explain", json=ASKED | asked)
    page = await response.json()
    assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")
    assert (page["route"]["name"], page["policy_sha256"]) == ("GET /ledgers", shipped_config().sha256)
    assert verdicts(page) == expected


async def test_a_master_key_that_is_not_accepted_is_shown_as_an_invalid_one(
    aiohttp_client: AiohttpClient,
) -> None:
    client = await aiohttp_client(await application(master="deny"))
    page = await (await client.post("/explain", json=ASKED)).json()
    assert verdicts(page)[1] == ({"kind": "master key"}, "deny", "AUTH_INVALID_API_KEY")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", MEMBERS),
        (b"\xff", MEMBERS),
        (b'{"method":"\xff","path":"/"}', MEMBERS),
        (b"[]", MEMBERS),
        (b"[" * MAX_BODY, MEMBERS),
        (b'{"method":"GET"}', MEMBERS),
        (b'{"method":"GET","path":"/","key":"x"}', MEMBERS),
        (b'{"method":"GET","path":"/","scopes":"ledgers:read"}', MEMBERS),
        (b'{"method":"GET","path":"/","scopes":[],"key_id":"x"}', MEMBERS),
        (b'{"method":"GET","path":"/"}x', MEMBERS),
        (
            b'{"method":"GET","path":"/","scopes":["ledger:read"]}',
            "a scope is a resource of Core or *, and read, write, delete or *, as ledgers:read",
        ),
        (b'{"method":"get","path":"/"}', "write the method in capitals: GET"),
        (
            b'{"method":"GETT","path":"/"}',
            "the method is one of DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, TRACE, in capitals",
        ),
        (
            b'{"method":"GET","path":"x"}',
            "begin the path with '/', and percent-encode everything in it but visible ASCII",
        ),
    ],
)
async def test_any_other_body_is_refused(aiohttp_client: AiohttpClient, body: bytes, message: str) -> None:
    client = await aiohttp_client(await application())
    response = await client.post("/explain", data=body)
    assert (response.status, await response.json()) == (400, error(MALFORMED, message))


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(ASKED | {"key_id": KEY}),
        json.dumps(ASKED | {"scopes": [KEY]}),
        json.dumps(ASKED | {"path": f"/ledgers?x={KEY}"}),
        json.dumps(ASKED | {"path": f"/ledgers/{KEY[:-1]}%3D"}),
        json.dumps(ASKED | {"key": KEY}),
        json.dumps(ASKED | {KEY: 1}),
        json.dumps(ASKED | {"method": KEY}),
        f'{{"method": "GET", "path": "/", "key_id": "{KEY[:-1]}\\u003d"}}',
        KEY,
    ],
)
async def test_a_body_with_a_key_in_it_is_refused_and_not_repeated(
    aiohttp_client: AiohttpClient, body: str
) -> None:
    client = await aiohttp_client(await application())
    response = await client.post("/explain", data=body)
    assert (response.status, await response.json()) == (400, error(MALFORMED, HELD))


@pytest.mark.parametrize("part", ["path", "scopes"])
async def test_a_body_that_hides_a_key_behind_escapes_is_refused_and_not_repeated(
    aiohttp_client: AiohttpClient, part: str
) -> None:
    hidden = f"{KEY[:-1]}\\u003d"
    body = (
        '{"method":"GET","path":"/","scopes":["%s"]}' if part == "scopes" else '{"method":"GET","path":"/%s"}'
    )
    client = await aiohttp_client(await application())
    response = await client.post("/explain", data=body % hidden)
    assert (response.status, KEY[:-1] in await response.text()) == (400, False)


async def test_a_key_that_nobody_knows_is_not_found(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(await application())
    response = await client.post("/explain", json=ASKED | {"key_id": "nobody"})
    assert (response.status, await response.json()) == (404, error("APIKEY_NOT_FOUND", "API key not found"))


async def test_a_store_that_is_down_is_unavailable(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(await application(DownStore()))
    response = await client.post("/explain", json=ASKED | {"key_id": RECORD.id})
    unavailable = error("GATEWAY_KEY_STORE_UNAVAILABLE", "Key store unavailable")
    assert (response.status, await response.json()) == (503, unavailable)
    assert (await client.post("/explain", json=ASKED)).status == 200


async def test_a_body_is_read_up_to_a_bound(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(await application())
    whole = json.dumps(ASKED).ljust(MAX_BODY)
    longer = await client.post("/explain", data=f"{whole} ")
    assert (await client.post("/explain", data=whole)).status == 200
    too_large = error("GEN_PAYLOAD_TOO_LARGE", "Request body too large")
    assert (longer.status, await longer.json()) == (413, too_large)


async def test_it_stands_behind_the_checks_of_the_listener(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(await application(token=Text("s3cret")))
    bearer = {"Authorization": "Bearer s3cret"}
    responses = [
        await client.post("/explain", json=ASKED, headers=headers)
        for headers in ({}, bearer, {**bearer, "Host": "evil.example"})
    ]
    assert [response.status for response in responses] == [401, 200, 421]


async def test_it_is_a_post(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(await application())
    response = await client.get("/explain")
    assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_neither_probes_nor_a_listener_without_a_policy_have_it(aiohttp_client: AiohttpClient) -> None:
    health = ready_health()
    for other in (health_application(health, metrics_of(health)), admin()):
        client = await aiohttp_client(other)
        assert (await client.post("/explain", json=ASKED)).status == 404
