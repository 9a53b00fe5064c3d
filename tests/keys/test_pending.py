"""Pending keys, which came from Core as prefix and hash: their first use, and floods of bad keys."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.errors import Code, GatewayError
from gateway.keys.authority import StoreAuthority
from gateway.keys.cache import KeyCache
from gateway.keys.core.verifier import Verifier
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.minting import digest
from gateway.keys.pending import PendingKeys
from gateway.keys.record import KeyRecord
from gateway.keys.revocation import revoke_key
from gateway.proxy.errors import code_of
from tests.keys.records import PENDING, RECORD, revocation

KEY = "A" * 43 + "="
ALIKE = "A" * 42 + "B="
OTHERWISE = "B" * 43 + "="


class CountingVerifier:
    """Compares keys with a hash as `Verifier` does, and counts; a test can hold it or make it fail."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing = False
        self.go = asyncio.Event()
        self.go.set()
        self.closed = False

    async def matches(self, key: str, hashed: str, *, client: str) -> bool:
        self.asked.append(key)
        await self.go.wait()
        if self.failing:
            raise StoreUnavailableError
        return hashed == PENDING.bcrypt and key == KEY

    def close(self) -> None:
        self.closed = True


class Store(MemoryKeyStore):
    """A store in memory that records look-ups by prefix."""

    def __init__(self) -> None:
        super().__init__()
        self.prefixes: list[str] = []

    async def get_by_prefix(self, prefix: str, client: str = "") -> list[KeyRecord]:
        self.prefixes.append(prefix)
        return await super().get_by_prefix(prefix, client)


class Scene:
    def __init__(self) -> None:
        self.now = 1000.0
        self.store = Store()
        self.verifier = CountingVerifier()
        self.pending = PendingKeys(self.store, self.verifier, lambda: self.now)

    async def claim(self, key: str) -> bool:
        return await self.pending.bind(key, digest(key))


@pytest.fixture
async def scene() -> Scene:
    scene = Scene()
    await scene.store.add_all([PENDING, RECORD])
    return scene


async def test_the_first_use_of_a_key_stores_it_by_its_digest(scene: Scene) -> None:
    assert await scene.claim(KEY)
    assert await scene.store.get_by_digest(digest(KEY)) == replace(PENDING, digest=digest(KEY), bcrypt="")


async def test_a_real_hash_is_compared(scene: Scene) -> None:
    verifier = Verifier()
    pending = PendingKeys(scene.store, verifier, lambda: 0.0)
    assert not await pending.bind(ALIKE, digest(ALIKE))
    assert await pending.bind(KEY, digest(KEY))
    pending.close()


async def test_requests_with_one_key_share_one_comparison(scene: Scene) -> None:
    scene.verifier.go.clear()
    claims = [asyncio.create_task(scene.claim(KEY)) for _ in range(50)]
    while not scene.verifier.asked:
        await asyncio.sleep(0)
    claims[0].cancel()
    scene.verifier.go.set()
    assert await asyncio.gather(*claims[1:]) == [True] * 49
    assert scene.verifier.asked == [KEY]


async def test_a_key_that_another_replica_bound_is_known(scene: Scene) -> None:
    await scene.store.bind_digest(PENDING.id, digest(KEY))
    assert await scene.claim(KEY)
    assert scene.verifier.asked == []


@pytest.mark.parametrize("key", ["", "short", "A" * 44, "A" * 42 + "\udcff="])
async def test_a_text_without_the_form_of_a_key_causes_no_look_up(scene: Scene, key: str) -> None:
    assert not await scene.pending.bind(key, "0" * 64)
    assert scene.store.prefixes == []


async def test_a_flood_of_bad_keys_computes_no_hash(scene: Scene) -> None:
    for number in range(100):
        assert not await scene.claim(f"{number:043}=")
    assert scene.verifier.asked == []


async def test_a_bad_key_with_a_known_prefix_is_compared_once_every_few_seconds(scene: Scene) -> None:
    for _ in range(10):
        assert not await scene.claim(ALIKE)
    assert scene.verifier.asked == [ALIKE]
    scene.now += 6
    assert not await scene.claim(ALIKE)
    assert scene.verifier.asked == [ALIKE, ALIKE]


async def test_the_memory_of_bad_keys_is_bounded(scene: Scene) -> None:
    pending = PendingKeys(scene.store, scene.verifier, lambda: 0.0, max_refused=1)
    for key in (ALIKE, "A" * 42 + "C=", ALIKE):
        assert not await pending.bind(key, digest(key))
    assert len(scene.verifier.asked) == 3


async def test_a_failed_comparison_is_a_failure_and_the_next_one_can_succeed(scene: Scene) -> None:
    scene.verifier.failing = True
    with pytest.raises(GatewayError) as failure:
        await scene.claim(KEY)
    assert code_of(failure.value) is Code.KEY_STORE_UNAVAILABLE
    scene.verifier.failing = False
    assert await scene.claim(KEY)


async def test_without_bcrypt_a_key_that_may_be_pending_is_a_failure(scene: Scene) -> None:
    pending = PendingKeys(scene.store, None, lambda: 0.0)
    with pytest.raises(GatewayError):
        await pending.bind(KEY, digest(KEY))
    assert not await pending.bind(OTHERWISE, digest(OTHERWISE))
    pending.close()


async def test_a_pending_key_that_was_revoked_is_known_as_revoked(scene: Scene) -> None:
    """The cache, which the proxy uses, returns such a key as revoked."""
    await revoke_key(scene.store, PENDING.id, revocation("2026-02-01T00:00:00Z", "master"))
    authority = StoreAuthority(scene.store, KeyCache(scene.store, lambda: scene.now), scene.pending, "")
    known = await authority.identify(digest(KEY), KEY)
    assert known == replace(PENDING.principal(), revoked=True)
    assert await authority.identify(digest(OTHERWISE), OTHERWISE) is None
    assert await authority.identify(RECORD.digest, "first") == RECORD.principal()
    await authority.close()
    assert scene.verifier.closed
