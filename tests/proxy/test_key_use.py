"""Last uses and pending keys through a whole gateway."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from ipaddress import ip_network

import pytest

from gateway.gocompat.times import read_instant
from gateway.keys.errors import UnreadableKeyError
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.record import KeyRecord
from gateway.policy.terms import KeyTerms, Rate, read_network
from tests.conftest import Start
from tests.keys.records import PENDING, instant
from tests.running import MASTER_KEY

KEY = "A" * 43 + "="


async def test_only_a_request_that_is_let_through_is_a_use(start_gateway: Start) -> None:
    store = MemoryKeyStore()
    gateway = await start_gateway(store=store)
    used, refused = await gateway.mint("ledgers:read"), await gateway.mint("ledgers:read")
    before = time.time()
    assert (await gateway.ask("GET", "/ledgers", key=used.key)).status == 200
    assert (await gateway.ask("POST", "/ledgers", key=refused.key)).status == 403
    assert (await gateway.ask("GET", "/ledgers", key=MASTER_KEY)).status == 200
    await gateway.close()
    of_used, of_refused = (record.last_used_at for record in await store.get_many([used.id, refused.id]))
    assert of_used is not None
    assert before <= of_used.unix <= time.time()
    assert of_refused is None


async def test_a_use_is_seen_in_the_list(start_gateway: Start) -> None:
    store = MemoryKeyStore()
    gateway = await start_gateway(store=store)
    minted = await gateway.mint("ledgers:read", "api-keys:read")
    await store.record_uses({minted.id: read_instant("2026-01-02T03:04:05.5Z").unix})
    response = await gateway.ask("GET", "/api-keys", key=minted.key)
    assert b'"last_used_at":"2026-01-02T03:04:05.5Z"' in response.body


async def test_a_key_of_core_works_from_its_first_request(start_gateway: Start) -> None:
    store = MemoryKeyStore()
    await store.add_all([PENDING])
    gateway = await start_gateway(store=store)
    gateway.forbidden.update({PENDING.bcrypt, PENDING.prefix})
    assert (await gateway.ask("GET", "/ledgers", key="A" * 42 + "B=")).status == 401
    assert (await gateway.ask("GET", "/ledgers", key=KEY)).status == 200
    settled = await store.get(PENDING.id)
    assert settled is not None
    assert not settled.pending


async def test_a_disabled_key_is_refused_and_works_again_once_enabled(start_gateway: Start) -> None:
    """A disabled key is refused within a second, and works again within a second of being enabled."""
    store = MemoryKeyStore()
    gateway = await start_gateway(store=store)
    minted = await gateway.mint("ledgers:read")

    async def becomes(status: int) -> bytes:
        async with asyncio.timeout(1), await gateway.connect() as client:
            while True:
                response = await client.ask("GET", "/ledgers", key=minted.key)
                if response.status == status:
                    return response.body

    await becomes(200)
    await store.revise(
        minted.id, lambda record: record.as_disabled(instant("2026-02-01T00:00:00Z"), "cli:ann")
    )
    assert b"AUTH_EXPIRED_API_KEY" in await becomes(401)
    await store.revise(
        minted.id, lambda record: record.as_enabled(instant("2026-02-01T00:00:00Z"), "cli:ann")
    )
    await becomes(200)


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        (KeyTerms(allow_from=(read_network("192.0.2.0/24"),)), b"GATEWAY_ADDRESS_DENIED"),
        (KeyTerms(certificate="ab" * 32), b"GATEWAY_CERTIFICATE_MISMATCH"),
    ],
)
async def test_a_key_is_refused_from_an_origin_that_its_terms_do_not_name(
    start_gateway: Start, terms: KeyTerms, code: bytes
) -> None:
    """The refusal comes before anything is said of the target, and is the same for every target."""
    store = MemoryKeyStore()
    gateway = await start_gateway(store=store)
    minted = await gateway.mint("ledgers:read")
    await store.revise(minted.id, lambda record: replace(record, terms=terms))
    for path in ("/ledgers", "/nothing", "//"):
        response = await gateway.ask("GET", path, key=minted.key)
        assert response.status == 403
        assert code in response.body


async def test_a_refusal_by_origin_takes_nothing_of_the_rate(start_gateway: Start) -> None:
    """Whoever has a bound key and not its origin cannot stop the client that has both."""
    store = MemoryKeyStore()
    gateway = await start_gateway(store=store, trusted_proxies=(ip_network("127.0.0.1/32"),))
    minted = await gateway.mint("ledgers:read")
    terms = KeyTerms(rate=Rate(1, 3600), allow_from=(read_network("192.0.2.0/24"),))
    await store.revise(minted.id, lambda record: replace(record, terms=terms))

    async def status(client: str) -> int:
        headers = [("X-Forwarded-For", client)]
        return (await gateway.ask("GET", "/ledgers", key=minted.key, headers=headers)).status

    assert [await status("198.51.100.1") for _ in range(3)] == [403, 403, 403]
    assert [await status("192.0.2.1") for _ in range(2)] == [200, 429]


async def test_a_key_is_accepted_from_an_origin_that_its_terms_name(start_gateway: Start) -> None:
    store = MemoryKeyStore()
    gateway = await start_gateway(store=store)
    minted = await gateway.mint("ledgers:read")
    terms = KeyTerms(allow_from=(read_network("127.0.0.0/8"),))
    await store.revise(minted.id, lambda record: replace(record, terms=terms))
    assert (await gateway.ask("GET", "/ledgers", key=minted.key)).status == 200


async def test_a_key_that_was_changed_over_http_is_judged_by_what_it_has_now(start_gateway: Start) -> None:
    """Its next request is, whether it may do less or more; the change is logged with the key's id alone."""
    gateway = await start_gateway()
    minted = await gateway.mint("ledgers:read", "balances:read")
    target = f"/api-keys/{minted.id}?owner=acme"

    async def statuses() -> list[int]:
        return [(await gateway.ask("GET", path, key=minted.key)).status for path in ("/ledgers", "/balances")]

    async def change(body: bytes) -> int:
        return (await gateway.ask("PATCH", target, key=MASTER_KEY, body=body)).status

    assert await statuses() == [200, 200]
    assert await change(b'{"scopes":["ledgers:read"]}') == 200
    assert await statuses() == [200, 403]
    assert await change(b'{"scopes":["balances:read"],"allow_from":["192.0.2.0/24"]}') == 200
    assert await statuses() == [403, 403]
    assert await change(b'{"allow_from":null}') == 200
    assert await statuses() == [403, 200]
    await gateway.logged('"event":"key updated"')
    own = await gateway.ask("PATCH", target, key=minted.key, body=b'{"scopes":["*:*"]}')
    assert (own.status, own.code) == (403, "AUTH_INSUFFICIENT_PERMISSIONS")


async def test_a_key_that_another_key_creates_has_its_terms(start_gateway: Start) -> None:
    store = MemoryKeyStore()
    gateway = await start_gateway(store=store)
    minted = await gateway.mint("api-keys:write", "ledgers:read")
    terms = KeyTerms(allow_from=(read_network("127.0.0.0/8"),))
    await store.revise(minted.id, lambda record: replace(record, terms=terms))
    body = b'{"name":"n","owner":"acme","scopes":["ledgers:read"],"expires_at":"2999-01-01T00:00:00Z"}'
    created = (await gateway.ask("POST", "/api-keys", key=minted.key, body=body)).json()
    assert created["terms"] == {"allow_from": ["127.0.0.0/8"]}
    child = await store.get(created["api_key_id"])
    assert child is not None
    assert child.terms == terms
    assert (await gateway.ask("GET", "/ledgers", key=created["key"])).status == 200


class UnreadableKeyStore(MemoryKeyStore):
    """A key store in which no record can be read."""

    async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
        raise UnreadableKeyError


async def test_a_record_that_cannot_be_read_is_a_failure_of_its_key_and_not_of_the_store(
    start_gateway: Start,
) -> None:
    """Its client gets 503, and the store is not reported as lost, which could make all replicas unready."""
    gateway = await start_gateway(store=UnreadableKeyStore())
    response = await gateway.ask("GET", "/ledgers", key=KEY)
    assert response.status == 503
    page = gateway.gateway.metrics.exposition("")[0]
    assert b"blnk_gateway_key_store_up 1.0" in page
