"""Changes of rows that were seen: each becomes one entry, whatever fails meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from gateway.audit.entry import AuditEntry
from gateway.keys.core.records import CoreRow
from gateway.keys.core.row_cache import RowCache
from gateway.keys.core.row_changes import RowChanges
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.redis.names import AUDIT
from gateway.keys.redis.store import RedisKeyStore
from gateway.policy.terms import NO_TERMS

ROW = CoreRow("api_key_1", "h", "n", "acme", ("ledgers:read",), 9e9, 1.0, revoked=False)


class Stream:
    """A stream that keeps what it gets, and may lose its response."""

    def __init__(self) -> None:
        self.lost = 0
        self.calls: list[int] = []
        self.entries: dict[str, AuditEntry] = {}

    async def append_once(self, entries: Mapping[str, AuditEntry], seconds: float) -> None:
        self.calls.append(len(entries))
        self.entries |= {name: entry for name, entry in entries.items() if name not in self.entries}
        if self.lost:
            self.lost -= 1
            raise StoreUnavailableError(reason="the response was lost")


async def test_many_changes_are_written_in_batches() -> None:
    """A statement that updates every row costs one round trip for 500 of them."""
    stream = Stream()
    changes = RowChanges(stream)
    for number in range(1200):
        row = replace(ROW, id=f"api_key_{number}")
        changes.note(row, replace(row, name="m"))
    await changes.write()
    await changes.write()
    assert (stream.calls, len(stream.entries)) == ([500, 500, 200], 1200)


async def test_a_lost_response_loses_no_entry() -> None:
    stream = Stream()
    stream.lost = 1
    changes = RowChanges(stream)
    changes.note(ROW, replace(ROW, name="m"))
    await changes.write()
    await changes.write()
    assert stream.calls == [1, 1]
    assert [entry.after for entry in stream.entries.values()] == [{"name": "m"}]


@pytest.mark.redis
async def test_of_several_replicas_one_writes_the_entry(redis_url: str) -> None:
    """It writes the mark of a change with the entry: a replica that Redis refuses has taken nothing."""
    stores = RedisKeyStore(redis_url), RedisKeyStore(redis_url)
    replicas = [RowChanges(store) for store in stores]
    for changes in replicas:
        changes.note(ROW, replace(ROW, name="m"))
    await stores[0].link.changes.set(AUDIT, b"no stream")
    await replicas[0].write()
    await stores[0].link.changes.delete(AUDIT)
    for changes in replicas:
        await changes.write()
    assert len(await stores[0].link.changes.xrange(AUDIT)) == 1
    assert [dict(store.audited) for store in stores] == [{"key_updated": 1}, {}]
    for store in stores:
        await store.close()


def test_a_row_that_a_request_read_anew_is_a_change_too() -> None:
    """It replaces the one in use, so the reading of rows in use would compare it with itself."""
    seen: list[tuple[CoreRow, CoreRow]] = []

    async def read(_: list[str]) -> dict[str, tuple[CoreRow, float]]:
        return {}

    cache = RowCache(lambda: 0.0, read, lambda _: None, lambda *rows: seen.append(rows))
    cache.keep("d", ROW, 1.0, 9e9, NO_TERMS)
    changed = replace(ROW, name="m")
    cache.keep("d", changed, 2.0, 9e9, NO_TERMS)
    assert seen == [(ROW, changed)]
