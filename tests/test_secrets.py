"""No secret is in a log line, a response, a metric, a health report or a repr.

Rules kept here:
- Every gateway of the suite is searched for secrets when it stops (`Running.leaks`); here are more requests.
- A secret is the master key or a minted key, and every piece of eight characters of one.
"""

from __future__ import annotations

import asyncio

import pytest

from gateway.policy.key_checksum import has_checksum
from tests.conftest import Start
from tests.core_stand_in import StandInCore, abort, never, responding
from tests.raw_client import request
from tests.running import MASTER_KEY, Running, shipped_config

PIECE = 8
REFUSED_KEY = (
    b'{"error":"no","error_detail":{"code":"AUTH_INVALID_API_KEY","message":"%b"}}' % MASTER_KEY.encode()
)


def pieces(secret: str) -> set[str]:
    """Return every run of `PIECE` characters of a secret."""
    return {secret[at : at + PIECE] for at in range(len(secret) - PIECE + 1)}


def found(secret: str, text: str) -> set[str]:
    return {piece for piece in pieces(secret) if piece in text}


async def provoke(gateway: Running, upstream: StandInCore, key: str) -> None:
    """Send the key to every place that could repeat it."""
    places = [
        request("GET", "/ledgers?limit=1", key=key),
        request("GET", "/ledgers?limit=1", key=key + "x"),
        request("GET", "/ledgers?limit=1", key=f"Bearer {key}"),
        request("GET", "/ledgers?limit=1", key=key, headers=[("X-Blnk-Key", key)]),
        request("GET", f"/ledgers?key={key}"),
        request("GET", "/ledgers", headers=[("Authorization", f"Bearer {key}"), ("X-API-Key", key)]),
        request("GET", "/ledgers", headers=[("X_Blnk_Key", key), ("Cookie", f"key={key}")]),
        request("GET", "/health", key=key),
        request("GET", "/ledgers/../x", key=key),
        request("GET", "/nothing", key=key),
        request("POST", "/ledgers", key=key, body=f'{{"name":"{key}",}}'.encode()),
        request("POST", "/ledgers", key=key, body=f'{{"meta_data":"{key}"}}'.encode()),
        request("POST", "/api-keys", key=key, body=f'{{"name":"{key}","owner":1}}'.encode()),
        request("POST", "/api-keys", key=key, body=f'{{"owner":"{key}"'.encode()),
        request("DELETE", f"/api-keys/x?owner={key}", key=key),
        f"GET /ledgers HTTP/1.1\r\nHost: x\r\nX-Blnk-Key: {key}\x00\r\n\r\n".encode(),
        f"GET /ledgers HTTP/1.1\r\nHost: x\r\nX-Blnk-Key {key}\r\n\r\n".encode(),
        f"GET /ledgers HTTP/1.1\r\nX-Blnk-Key: {key}\r\n folded\r\n\r\n".encode(),
        f"{key} /ledgers HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        f"GET /ledgers {key}\r\n\r\n".encode(),
    ]
    for data in places:
        async with await gateway.connect() as client:
            await client.call(data)
    upstream.script(abort, never, responding("401 Unauthorized", REFUSED_KEY))
    await asyncio.gather(*(gateway.ask("POST", "/ledgers/filter", key=key, body=b"{}") for _ in range(3)))


@pytest.mark.parametrize("level", ["info", "debug"])
@pytest.mark.parametrize("format_", ["json", "console"])
async def test_no_key_comes_out_of_any_request(
    start_gateway: Start, upstream: StandInCore, level: str, format_: str
) -> None:
    """No piece of a key is logged, returned or reported, wherever the key was sent."""
    gateway = await start_gateway(timeouts={"first_byte": 0.2}, log={"level": level, "format": format_})
    key = (await gateway.mint("ledgers:*", "api-keys:*")).key
    await provoke(gateway, upstream, key)
    private = await gateway.connect(gateway.gateway.admin_address)
    for path in ("/metrics", "/health/ready", "/health/alive", "/nothing"):
        await private.ask("GET", path, headers=[("X-Blnk-Key", key)])
    await gateway.gateway.drain()
    for secret in (key, MASTER_KEY):
        assert found(secret, gateway.log.getvalue()) == set()
        assert [found(secret, text) for text in gateway.received() if found(secret, text)] == []


async def test_the_master_key_of_a_client_is_not_logged(gateway: Running) -> None:
    """The log names the principal `master`, and not the key."""
    await gateway.ask("GET", "/ledgers?limit=1", key=MASTER_KEY)
    await gateway.ask("GET", "/ledgers/a/b", key=MASTER_KEY)
    await gateway.gateway.drain()
    assert "master" in gateway.log.getvalue()
    assert found(MASTER_KEY, gateway.log.getvalue()) == set()


async def test_a_minted_key_is_shown_once_and_never_logged(gateway: Running) -> None:
    """Only the response of POST /api-keys contains the key; no log line and no list repeats it."""
    body = b'{"name":"k","owner":"acme","scopes":["ledgers:read"],"expires_at":"2099-01-01T00:00:00Z"}'
    key = (await gateway.ask("POST", "/api-keys", key=MASTER_KEY, body=body)).json()["key"]
    listed = await gateway.ask("GET", "/api-keys?owner=acme", key=MASTER_KEY)
    assert [(item["key"], item["owner_id"]) for item in listed.json()] == [("", "acme")]
    await gateway.ask("GET", "/ledgers?limit=1", key=key)
    await gateway.gateway.drain()
    assert found(key, gateway.log.getvalue()) == set()
    assert found(key, listed.body.decode()) == set()


async def test_a_key_with_a_prefix_is_shown_once_and_never_logged(start_gateway: Start) -> None:
    """It works as any other key, and keys of Core's form work beside it."""
    gateway = await start_gateway(keys={"prefix": "blnk_live_"})
    body = b'{"name":"k","owner":"acme","scopes":["ledgers:read"],"expires_at":"2099-01-01T00:00:00Z"}'
    key = (await gateway.ask("POST", "/api-keys", key=MASTER_KEY, body=body)).json()["key"]
    assert has_checksum(key)
    assert key.startswith("blnk_live_")
    for sent in (key, (await gateway.mint("ledgers:read")).key):
        assert (await gateway.ask("GET", "/ledgers?limit=1", key=sent)).status == 200
    await gateway.ask("GET", f"/ledgers/x?a={key}", headers=[(key, "x")], key=key)
    listed = await gateway.ask("GET", "/api-keys?owner=acme", key=MASTER_KEY)
    await gateway.gateway.drain()
    assert found(key, gateway.log.getvalue()) == set()
    assert found(key, listed.body.decode()) == set()


async def test_no_repr_shows_the_master_key(gateway: Running) -> None:
    """A traceback with locals, or a careless log call, does not print the key."""
    parts = [shipped_config(), gateway.gateway, gateway.gateway.config, gateway.gateway.handler]
    parts += [value for part in parts[1:] for value in vars_of(part)]
    assert [part for part in parts if MASTER_KEY in f"{part!r}{part!s}"] == []


def vars_of(thing: object) -> list[object]:
    return list(getattr(thing, "__dict__", {}).values())
