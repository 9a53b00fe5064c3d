"""Figures with 100,000 keys in a real Redis: import, look-ups, the list of one owner.

Rules kept here:
- Figures that are compared are measured alternately in one run, so that a slow machine slows both.
- The figures are printed: `pytest -m slow tests/keys/test_scale.py -s`.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

import pytest

from gateway.keys.redis.store import RedisKeyStore
from tests.keys.records import RECORD
from tests.redis_server import RedisServer
from tests.running import ROOT

pytestmark = [pytest.mark.redis, pytest.mark.slow]

KEYS = 100_000
OWNED = 10
"""Keys of each owner."""
ASKED = 2_000
IMPORT_SECONDS = 60.0
TIMES_SLOWER = 1.5


def line(number: int) -> str:
    members = {
        "digest": f"{number:064x}",
        "id": f"api_key_00000000-0000-4000-8000-{number:012x}",
        "name": f"key {number}",
        "owner": f"owner {number // OWNED}",
        "scopes": ["ledgers:read", "transactions:write"],
        "expires_at": str(RECORD.expires_at),
        "created_at": str(RECORD.created_at),
    }
    return json.dumps(members)


async def micros(ask: Callable[[int], Awaitable[object]]) -> float:
    """Return the median time of one call, in microseconds."""
    times = []
    for number in range(ASKED):
        began = time.perf_counter()
        await ask(number)
        times.append(time.perf_counter() - began)
    return median(times) * 1e6


def run_import(url: str, file: Path) -> float:
    """Return the seconds that the whole command takes in a process of its own."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "from gateway.__main__ import main; main()", "keys", "import", str(file)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        env={**os.environ, "BLNK_GATEWAY_KEYS__STORE": url},
    )
    return time.perf_counter() - began


async def test_100_000_keys_are_no_slower_than_ten(
    redis_url: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    """The import takes under a minute, and a look-up or a list at most 1.5 times as long as with ten."""
    few, many = tmp_path / "few.jsonl", tmp_path / "many.jsonl"
    few.write_text("\n".join(map(line, range(OWNED))))
    many.write_text("\n".join(map(line, range(KEYS))))
    store = RedisKeyStore(redis_url)

    async def find(number: int) -> object:
        record = await store.get_by_digest(f"{number % held:064x}")
        assert record is not None
        return record

    async def owned(number: int) -> object:
        records = await store.owned(f"owner {number % held // OWNED}")
        assert len(records) == OWNED
        return records

    run_import(redis_url, few)
    held = OWNED
    ten = await micros(find), await micros(owned)
    seconds = run_import(redis_url, many)
    again = run_import(redis_url, many)
    held = KEYS
    all_ = await micros(find), await micros(owned)
    began = time.perf_counter()
    count = sum([len(batch) async for batch in store.scan()])
    listed = time.perf_counter() - began
    used = int(redis_server.command("INFO", "memory").split(b"used_memory:")[1].split(b"\r\n")[0])
    await store.close()
    print(  # noqa: T201 - what the test is run for
        f"\nimport of {KEYS} digests {seconds:.1f} s, again {again:.1f} s; Redis holds {used / 2**20:.0f} MiB"
        f"\nlook-up: {ten[0]:.0f} us among {OWNED} keys, {all_[0]:.0f} us among {KEYS}"
        f"\nlist of one owner with {OWNED} keys: {ten[1]:.0f} us, {all_[1]:.0f} us"
        f"\nlist of all {count}: {listed:.1f} s; "
        f"peak memory of the import {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MiB"
    )
    assert count == KEYS
    assert seconds < IMPORT_SECONDS
    assert all_[0] < ten[0] * TIMES_SLOWER
    assert all_[1] < ten[1] * TIMES_SLOWER
