"""The commands that Redis gets for keys in use, and the data that it has of them."""

from __future__ import annotations

import asyncio
import base64
import re
from collections import Counter
from pathlib import Path

import pytest

from gateway.keys.minting import digest
from gateway.keys.redis.store import RedisKeyStore
from tests.conftest import Start
from tests.redis_server import RedisServer, start_redis
from tests.running import MASTER_KEY, Running

pytestmark = pytest.mark.redis

REQUESTS = 10_000
CLIENTS = 16
MOST_RUNS = 5
# The commands of one read of the changes, sent at most four times a second while nothing changes.
FOLLOWING = {"XREAD", "XRANGE", "XREVRANGE", "ROLE"}


async def test_ten_thousand_requests_with_a_cached_key_send_redis_no_command_each(
    start_gateway: Start, redis_url: str, redis_server: RedisServer
) -> None:
    """Only the change feed is read, and the key is looked up every ten seconds."""
    store = RedisKeyStore(redis_url)
    gateway = await start_gateway(store=store)
    minted = await gateway.mint("ledgers:read")
    await gateway.ask("GET", "/ledgers", key=minted.key)

    async def ask() -> set[int]:
        async with await gateway.connect(keep=False) as client:
            return {(await client.ask("GET", "/ledgers", key=minted.key)).status for _ in range(share)}

    async def run() -> tuple[Counter[str], float]:
        with redis_server.monitored() as seen:
            began = loop.time()
            statuses = await asyncio.gather(*(ask() for _ in range(CLIENTS)))
            took = loop.time() - began
            assert set.union(*statuses) == {200}
            return Counter(line.split('"')[1].upper() for line in seen()), took

    def others(sent: Counter[str]) -> int:
        return sum(count for name, count in sent.items() if name not in FOLLOWING)

    def is_quiet(sent: Counter[str], took: float) -> bool:
        # A look-up every 10 s, batches of last uses, and the check of the settings of Redis.
        return others(sent) <= 10 + took

    share = REQUESTS // CLIENTS
    loop = asyncio.get_running_loop()
    runs: list[tuple[Counter[str], float]] = []
    # If this loop stops for half a second, the link is not proven, and Redis has to be asked.
    while len(runs) < MOST_RUNS and not (runs and is_quiet(*runs[-1])):
        runs.append(await run())
    assert is_quiet(*runs[-1]), runs
    assert max(others(sent) for sent, _ in runs) < REQUESTS / 100
    assert all(sent.total() - others(sent) <= len(FOLLOWING) * (4 * took + 2) for sent, took in runs), runs


async def test_a_dump_of_redis_contains_no_key(start_gateway: Start, tmp_path: Path) -> None:
    """A dump has SHA-256 of 256 random bits, which cannot be searched, and a key in no spelling."""
    server = start_redis(tmp_path, "--appendonly", "yes", "--rdbcompression", "no")
    try:
        gateway = await start_gateway(store=RedisKeyStore(server.url))
        keys = [await minted_over_http(gateway, number) for number in range(20)]
        assert server.command("SAVE") == b"+OK\r\n"
        dump = b"".join(file.read_bytes() for file in sorted(tmp_path.rglob("*")) if file.is_file())
        assert all(digest(key).encode() in dump for key in keys)
        for key in keys:
            bits = base64.urlsafe_b64decode(key)
            spellings = (
                key.encode(),
                key.rstrip("=").encode(),
                bits,
                bits.hex().encode(),
                base64.b64encode(bits),
            )
            assert [spelling for spelling in spellings if spelling in dump] == []
        assert re.findall(rb"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}=", dump) == []
        # The digests in the dump are accepted by no route.
        assert (await gateway.ask("GET", "/ledgers", key=digest(keys[0]))).status == 401
        assert (await gateway.ask("GET", "/ledgers", key=keys[0])).status == 200
    finally:
        server.kill()


async def minted_over_http(gateway: Running, number: int) -> str:
    body = (
        b'{"name":"%d","owner":"acme","scopes":["ledgers:read"],"expires_at":"2999-01-01T00:00:00Z"}' % number
    )
    # Only this response may contain a key, so the search for secrets at the end must not see it.
    async with await gateway.connect(keep=False) as client:
        made = await client.ask("POST", "/api-keys", key=MASTER_KEY, body=body)
    return str(made.json()["key"])
