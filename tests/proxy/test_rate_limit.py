"""The limits of keys over HTTP: rate, concurrency, headers, and a store that fails."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import Code
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.leases import LeaseBatch
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.quota import NO_QUOTA, Quota
from gateway.keys.record import KeyRecord
from gateway.keys.redis.store import RedisKeyStore
from gateway.policy.terms import NO_TERMS, KeyTerms, Rate
from gateway.proxy.allowance import TICK_SECONDS
from gateway.proxy.key_limit import limit_of
from tests.conftest import Start
from tests.core_stand_in import StandInCore
from tests.core_stand_in.behaviours import held
from tests.raw_client import Response
from tests.redis_server import RedisServer
from tests.running import MASTER_KEY, Minted, Running, eventually
from tests.wire.asserting import assert_error

READ = "/ledgers/x"
CREATED = b'{"name":"n","owner":"acme","scopes":["ledgers:read"],"expires_at":"2999-01-01T00:00:00Z"}'


async def minted(gateway: Running, **terms: Any) -> Minted:
    """Mint a key that may read ledgers, with these terms."""
    key = await gateway.mint("ledgers:read")

    await gateway.gateway.store.revise(key.id, lambda record: replace(record, terms=KeyTerms(**terms)))
    return key


def limits(response: Response) -> list[str | None]:
    names = ("ratelimit-policy", "ratelimit", "retry-after")
    return [response.value(name) for name in names]


class TestHeaders:
    async def test_tell_the_policy_and_what_remains(self, gateway: Running) -> None:
        """Each response to a key with a rate tells its quota, what remains, and when all is there again."""
        key = await minted(gateway, rate=Rate(60, 60), burst=3)
        responses = [await gateway.ask("GET", READ, key=key.key) for _ in range(4)]
        assert [response.status for response in responses] == [200, 200, 200, 429]
        policy = '"default";q=60;w=60'
        assert [limits(response) for response in responses] == [
            [policy, '"default";r=2;t=1', None],
            [policy, '"default";r=1;t=2', None],
            [policy, '"default";r=0;t=3', None],
            [policy, '"default";r=0;t=3', "1"],
        ]

    async def test_say_when_to_come_back(self, gateway: Running) -> None:
        """With a rate of 6 a minute, a refused client is told to come back after 10 s."""
        key = await minted(gateway, rate=Rate(6, 60))
        responses = [await gateway.ask("GET", READ, key=key.key) for _ in range(2)]
        assert limits(responses[1]) == ['"default";q=6;w=60', '"default";r=0;t=10', "10"]

    @pytest.mark.parametrize(
        ("target", "status"), [("/balances", 403), ("/ledgers/x/y", 404), ("/api-keys", 403)]
    )
    async def test_are_on_refusals_too(self, gateway: Running, target: str, status: int) -> None:
        """What the policy refuses counts, and says what remains."""
        key = await minted(gateway, rate=Rate(5))
        response = await gateway.ask("GET", target, key=key.key)
        assert (response.status, limits(response)[1]) == (status, '"default";r=4;t=1')

    async def test_are_not_on_other_responses(self, gateway: Running) -> None:
        """Keys without a limit, the master key, public routes and 401 get no such header."""
        key = (await gateway.mint("ledgers:read")).key
        asked = [(READ, key), (READ, MASTER_KEY), ("/health", None), (READ, "A" * 43 + "=")]
        found = [await gateway.ask("GET", target, key=key) for target, key in asked]
        assert [limits(response) for response in found] == [[None] * 3] * 4

    @pytest.mark.parametrize(
        ("terms", "default", "line"),
        [
            (KeyTerms(), Rate(100), '"default";q=100;w=1'),
            (KeyTerms(rate=Rate(5, 3600)), Rate(100), '"default";q=5;w=3600'),
            (KeyTerms(concurrency=4), None, '"concurrency";q=4;qu="concurrent-requests"'),
            (
                KeyTerms(concurrency=4),
                Rate(9),
                '"default";q=9;w=1, "concurrency";q=4;qu="concurrent-requests"',
            ),
        ],
    )
    def test_name_each_policy(self, terms: KeyTerms, default: Rate | None, line: str) -> None:
        """The policy of a key is its own rate, or that of all keys, and its concurrency."""
        assert limit_of(terms, default).policy.decode() == f"RateLimit-Policy: {line}\r\n"

    @pytest.mark.parametrize(
        ("terms", "burst"),
        [
            (KeyTerms(rate=Rate(100)), 100),
            (KeyTerms(rate=Rate(600, 60)), 10),
            (KeyTerms(rate=Rate(5, 60)), 1),
            (KeyTerms(rate=Rate(100), burst=20), 20),
            (KeyTerms(burst=20), 7),
        ],
    )
    def test_the_burst_is_one_seconds_worth_unless_it_is_set(self, terms: KeyTerms, burst: int) -> None:
        """A burst belongs to the key's own rate; without one it is a second's worth, at least 1."""
        assert limit_of(terms, Rate(7)).burst == burst


class TestRates:
    async def test_a_key_has_its_own_rate_instead_of_that_of_all_keys(self, start_gateway: Start) -> None:
        """A key with a rate of its own is not held to `limits.rate`, and others are."""
        gateway = await start_gateway(limits={"rate": Rate(1)})
        own, other = await minted(gateway, rate=Rate(3)), await minted(gateway)
        statuses = [
            [(await gateway.ask("GET", READ, key=key.key)).status for _ in range(4)] for key in (own, other)
        ]
        assert statuses == [[200, 200, 200, 429], [200, 429, 429, 429]]

    async def test_keys_that_one_key_created_share_its_rate(self, gateway: Running) -> None:
        """Two keys with the terms of children of one key have one rate together; the creator has its own."""
        terms = KeyTerms(rate=Rate(2, 60), burst=2)
        creator = await minted(gateway, rate=terms.rate, burst=terms.burst)
        children = [await gateway.mint("ledgers:read") for _ in range(2)]
        inherited = terms.of_child(creator.id)
        for child in children:
            await gateway.gateway.store.revise(child.id, lambda record: replace(record, terms=inherited))
        one, other = children
        keys = (one.key, other.key, one.key, other.key, creator.key)
        statuses = [(await gateway.ask("GET", READ, key=key)).status for key in keys]
        assert statuses == [200, 200, 429, 429, 200]

    @pytest.mark.parametrize(
        ("terms", "statuses"),
        [(NO_TERMS, [200, 429, 200, 429]), (KeyTerms(concurrency=9), [200, 429, 429, 429])],
        ids=["no terms", "a concurrency"],
    )
    async def test_keys_that_one_key_created_share_the_rate_of_all_keys_only_with_a_concurrency(
        self, start_gateway: Start, terms: KeyTerms, statuses: list[int]
    ) -> None:
        """With `limits.rate` each has its own rate, unless their creator has a concurrency."""
        gateway = await start_gateway(limits={"rate": Rate(1, 60)})
        children = [await gateway.mint("ledgers:read") for _ in range(2)]
        inherited = terms.of_child("api_key_creator")
        for child in children:
            await gateway.gateway.store.revise(child.id, lambda record: replace(record, terms=inherited))
        found = [(await gateway.ask("GET", READ, key=key.key)).status for key in children for _ in range(2)]
        assert found == statuses

    async def test_the_master_key_is_held_to_the_rate_of_all_keys(self, start_gateway: Start) -> None:
        """The master key has the rate of all keys, as one key."""
        gateway = await start_gateway(limits={"rate": Rate(1)})
        statuses = [(await gateway.ask("GET", READ, key=MASTER_KEY)).status for _ in range(2)]
        assert statuses == [200, 429]

    async def test_a_changed_rate_counts_at_once_and_is_no_new_burst(self, gateway: Running) -> None:
        """A key whose record gets another rate is held to that one, with the tokens that it had left."""
        key = await minted(gateway, rate=Rate(3, 3600), burst=3)
        before = [(await gateway.ask("GET", READ, key=key.key)).status for _ in range(4)]

        async def first_with(rate: Rate) -> int:
            """Give the key another rate, and return the status of its first request that has it."""
            terms = KeyTerms(rate=rate, burst=2)
            await gateway.gateway.store.revise(key.id, lambda record: replace(record, terms=terms))
            while True:
                response = await gateway.ask("GET", READ, key=key.key)
                if limits(response)[0] == f'"default";q={rate.requests};w={rate.seconds}':
                    return response.status
                await asyncio.sleep(0.02)

        async with asyncio.timeout(5):
            assert (before, await first_with(Rate(2, 3600))) == ([200, 200, 200, 429], 429)
            await first_with(Rate(50))
            while (await gateway.ask("GET", READ, key=key.key)).status != 200:
                await asyncio.sleep(0.05)

    async def test_keys_that_are_idle_are_forgotten(self, gateway: Running) -> None:
        """Of 1,100 keys that were used once, those that have all their tokens again are not remembered."""
        client = await gateway.connect(keep=False)
        for _ in range(1100):
            key = await minted(gateway, rate=Rate(1000))
            assert (await client.ask("GET", READ, key=key.key)).status == 200
        page = gateway.gateway.metrics.exposition("")[0].decode()
        (remembered,) = re.findall(r"^blnk_gateway_limited_keys (\S+)$", page, re.MULTILINE)
        assert float(remembered) < 200


class HeldStore(MemoryKeyStore):
    """Adds no key while it `holds`, until `release` is set; `asked` is set by the first that waits."""

    def __init__(self) -> None:
        super().__init__()
        self.holds = False
        self.asked, self.release = asyncio.Event(), asyncio.Event()

    async def add(self, record: KeyRecord, quota: Quota = NO_QUOTA, *, terms_only: bool = False) -> None:
        if self.holds:
            self.asked.set()
            await self.release.wait()
        await super().add(record, quota, terms_only=terms_only)


class TestConcurrency:
    async def test_one_request_too_many_is_429_until_another_ends(
        self, gateway: Running, upstream: StandInCore
    ) -> None:
        """With a concurrency of 2, a third request in progress is refused, and passes once one has ended."""
        key, release = await minted(gateway, concurrency=2), asyncio.Event()
        upstream.script(held(release), held(release))
        waiting = [asyncio.create_task(gateway.ask("GET", READ, key=key.key)) for _ in range(2)]
        await upstream.arrived(2)
        refused = await gateway.ask("GET", READ, key=key.key)
        release.set()
        served = await asyncio.gather(*waiting)
        again = await gateway.ask("GET", READ, key=key.key)
        assert_error(refused, Code.RATE_LIMITED)
        assert limits(refused)[1:] == ['"concurrency";r=0', "1"]
        assert [response.status for response in (*served, again)] == [200, 200, 200]
        assert limits(again)[1] == '"concurrency";r=1'

    async def test_a_client_that_leaves_does_not_count(self, gateway: Running, upstream: StandInCore) -> None:
        """A request whose client has left does not count for long, or a client could lock its key."""
        key, release = await minted(gateway, concurrency=1), asyncio.Event()
        upstream.script(held(release))
        client = await gateway.connect()
        task = asyncio.create_task(client.ask("GET", READ, key=key.key))
        await upstream.arrived(1)
        task.cancel()
        await client.close()

        async def passes() -> bool:
            return (await gateway.ask("GET", READ, key=key.key)).status == 200

        async with asyncio.timeout(5):
            while not await passes():
                await asyncio.sleep(0.05)
        release.set()

    async def test_a_change_of_keys_counts_until_it_is_stored(self, start_gateway: Start) -> None:
        """A request that creates a key is in progress to its end, and not only until its body is whole."""
        store = HeldStore()
        gateway = await start_gateway(store=store)
        key = await gateway.mint("api-keys:write", "ledgers:read")
        await store.revise(key.id, lambda record: replace(record, terms=KeyTerms(concurrency=1)))
        store.holds = True

        async def create() -> Response:
            return await gateway.ask("POST", "/api-keys", key=key.key, body=CREATED)

        waiting = asyncio.create_task(create())
        await store.asked.wait()
        refused = await create()
        store.release.set()
        assert_error(refused, Code.RATE_LIMITED)
        assert [(await waiting).status, (await create()).status] == [201, 201]

    async def test_its_refusals_count_for_the_rate(self, gateway: Running, upstream: StandInCore) -> None:
        """A request that is one too many in progress takes a token of the rate, too."""
        key, release = await minted(gateway, rate=Rate(2, 3600), burst=2, concurrency=1), asyncio.Event()
        upstream.script(held(release))
        waiting = asyncio.create_task(gateway.ask("GET", READ, key=key.key))
        await upstream.arrived(1)
        refused = [await gateway.ask("GET", READ, key=key.key) for _ in range(2)]
        release.set()
        await waiting
        page = gateway.gateway.metrics.exposition("")[0].decode()
        assert [response.status for response in refused] == [429, 429]
        assert 'blnk_gateway_limit_refusals_total{limit="concurrency"} 1.0' in page
        assert 'blnk_gateway_limit_refusals_total{limit="rate"} 1.0' in page


@pytest.mark.redis
async def test_many_requests_cause_few_calls_to_redis(
    start_gateway: Start, redis_store: RedisKeyStore, redis_server: RedisServer
) -> None:
    """300 requests, most of which are refused, cause at most 20 calls a second."""
    gateway = await start_gateway(store=redis_store)
    key = await minted(gateway, rate=Rate(50))
    client = await gateway.connect(keep=False)
    with redis_server.monitored() as seen:
        began = time.monotonic()
        statuses = Counter([(await client.ask("GET", READ, key=key.key)).status for _ in range(300)])
        seconds = time.monotonic() - began
        calls = sum("limit-replicas" in line and "lua" not in line for line in seen())
    assert statuses.keys() == {200, 429}
    assert 1 <= calls <= 2 + seconds / TICK_SECONDS


class FailingLeases:
    """Fails every call."""

    async def lease(self, replica: str, requests: object) -> LeaseBatch:
        raise StoreUnavailableError(reason="it is down")


class TestStoreFailures:
    @pytest.mark.parametrize(("choice", "status"), [("local", 200), ("deny", 503)])
    async def test_a_key_goes_on_with_its_share_or_is_refused(
        self, start_gateway: Start, choice: str, status: int
    ) -> None:
        """While limits cannot be shared, keys with one pass by `local` and get 503 by `deny`; others pass."""
        store = MemoryKeyStore()
        store.token_leases = FailingLeases()
        gateway = await start_gateway(store=store, limits={"on_store_failure": choice})
        limited, other = await minted(gateway, rate=Rate(100)), await minted(gateway)
        await gateway.ask("GET", READ, key=limited.key)
        await eventually(
            lambda: "limits" in gateway.gateway.health.degraded, "that the limits are not shared"
        )
        assert (await gateway.ask("GET", READ, key=limited.key)).status == status
        assert (await gateway.ask("GET", READ, key=other.key)).status == 200
