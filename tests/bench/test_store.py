"""Keys that the benchmark puts into Redis are keys as the gateway stores them."""

from __future__ import annotations

import pytest

from gateway.keys.minting import digest, is_key, is_key_id
from gateway.keys.redis.store import RedisKeyStore
from tests.bench.store import Store, key, record
from tests.redis_server import RedisServer

KEYS = 12_345


@pytest.mark.redis
async def test_the_gateway_finds_the_keys_that_were_stored(redis_url: str, redis_server: RedisServer) -> None:
    """The first and the last are there, of several batches, and none more."""
    Store(redis_server.port).fill(KEYS)
    store = RedisKeyStore(redis_url)
    found = [await store.get_by_digest(digest(key(number))) for number in (0, KEYS - 1, KEYS)]
    await store.close()
    assert found == [record(0), record(KEYS - 1), None]


def test_keys_and_their_ids_have_the_shape_of_minted_ones() -> None:
    """Any other key is refused before it is looked up."""
    assert is_key(key(7))
    assert is_key_id(record(7).id)
