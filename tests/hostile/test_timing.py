"""Bad keys: the time and text of a response tell no unknown key from a malformed or nearly right one.

Rules kept here:
- Time itself is not measured, since noise on a shared machine hides it: the lines that run are compared.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import gateway
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.minting import digest, mint_key
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyChangeBatch
from gateway.server.version import build_kind
from tests.conftest import Start
from tests.raw_client import Response
from tests.running import MASTER_KEY

# The code that decides on a request. Only text in the shape of a key can be a pending one: no secret.
TRACED = tuple(Path(gateway.__file__).parent / path for path in ("keys/cache.py", "policy", "proxy"))
NO_KEYS = {
    "unknown": "A" * 43 + "=",
    "too short": "x",
    "too long": "A" * 4000,
    "not base64url": "!" * 44,
    "an id": "api_key_0b8a7c1e-8f5d-4b6a-9d3e-2f1a0c9b8d7e",
    "bytes that are no text": "\xff\xfe" * 22,
    "blanks inside": "A B C",
    "a Redis key": "blnk:*",
    "the master key but for its last letter": MASTER_KEY[:-1] + "X",
    "the master key but for its first letter": "X" + MASTER_KEY[1:],
    "half of the master key": MASTER_KEY[:18],
    "the master key and more": MASTER_KEY + "x",
    "the master key in capitals": MASTER_KEY.upper(),
    "the master key twice": f"{MASTER_KEY}, {MASTER_KEY}",
}


class CountingStore(MemoryKeyStore):
    """A store that keeps the digests it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
        self.asked.append(digest)
        return await super().get_by_digest(digest, client)


class QuietStore(MemoryKeyStore):
    """A store without changes, so that only requests run while lines are traced."""

    async def changes(self, after: str, wait: float) -> KeyChangeBatch:
        await asyncio.get_running_loop().create_future()
        raise AssertionError


@contextmanager
def lines_run() -> Iterator[set[tuple[str, int]]]:
    """Return the lines of the gateway's decision that run during a request."""
    seen: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        path = Path(frame.f_code.co_filename)
        if not any(path.is_relative_to(traced) for traced in TRACED):
            return None
        if event == "line":
            seen.add((str(path), frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(before)


def visible(response: Response) -> tuple[int, bytes, list[str]]:
    return response.status, response.body, [name for name, _ in response.headers]


@pytest.mark.parametrize("key", NO_KEYS.values(), ids=NO_KEYS.keys())
async def test_every_bad_key_costs_one_look_up(start_gateway: Start, key: str) -> None:
    """Every bad key costs one look-up of its digest each time, and gets the same response."""
    store = CountingStore()
    gateway = await start_gateway(store=store)
    responses = [await gateway.ask("GET", "/ledgers", key=key) for _ in range(2)]
    unknown = await gateway.ask("GET", "/ledgers", key=NO_KEYS["unknown"])
    assert store.asked == [digest(key.encode("latin-1"))] * 2 + [digest(NO_KEYS["unknown"])]
    assert [visible(response) for response in responses] == [visible(unknown)] * 2
    assert (unknown.status, unknown.code) == (401, "AUTH_INVALID_API_KEY")


async def test_a_damaged_key_is_refused_as_an_unknown_one_and_costs_no_look_up(start_gateway: Start) -> None:
    """It is known by a checksum that anyone can compute, so that its shorter time reveals nothing."""
    store = CountingStore()
    gateway = await start_gateway(store=store, keys={"prefix": "blnk_live_"})
    unknown, damaged = mint_key(os.urandom, "blnk_live_"), "blnk_live_" + "A" * 49
    responses = [await gateway.ask("GET", "/ledgers", key=key) for key in (unknown, damaged)]
    assert store.asked == [digest(unknown)]
    assert visible(responses[0]) == visible(responses[1])
    assert responses[1].code == "AUTH_INVALID_API_KEY"


@pytest.mark.skipif(
    build_kind() == "compiled",
    reason="compiled code has no lines to compare; the interpreted build runs the same source",
)
async def test_every_bad_key_takes_the_same_lines(start_gateway: Start) -> None:
    """Every bad key runs the same lines from the header to the refusal; the good control runs others."""
    gateway = await start_gateway(store=QuietStore())
    good = (await gateway.mint("ledgers:read")).key
    taken: dict[str, set[tuple[str, int]]] = {}
    for name, key in {**NO_KEYS, "good": good}.items():
        async with await gateway.connect() as client:
            with lines_run() as taken[name]:
                await client.ask("GET", "/ledgers", key=key)
    assert len(taken["unknown"]) > 20
    assert {name: taken[name] ^ taken["unknown"] for name in NO_KEYS if taken[name] != taken["unknown"]} == {}
    assert taken["good"] != taken["unknown"]
