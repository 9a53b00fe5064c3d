"""A gateway on a real Redis in which the record of one key cannot be read, and its log."""

from __future__ import annotations

import io
import json

import pytest

from gateway.keys.redis.names import key_name
from gateway.keys.store import UnreadableKey
from gateway.server.reminder import REPEAT_SECONDS
from gateway.server.unreadable_keys import EVENT, MOST, UnreadableKeys
from gateway.telemetry import Log
from tests.conftest import Start
from tests.keys.records import RECORD
from tests.redis_server import RedisServer
from tests.running import MASTER_KEY


def warnings(log: str) -> list[tuple[str, str]]:
    """Return key id and reason of each key that was logged."""
    lines = [line for line in map(json.loads, log.splitlines()) if line["event"] == EVENT]
    return [(line["key_id"], line["reason"]) for line in lines]


@pytest.mark.redis
async def test_a_list_over_http_has_the_keys_that_can_be_read_and_the_log_names_the_other_one(
    start_gateway: Start, redis_url: str, redis_server: RedisServer
) -> None:
    """The store still counts as up."""
    gateway = await start_gateway(keys={"store": redis_url})
    kept, lost = [await gateway.mint("ledgers:read") for _ in range(2)]
    record = await gateway.gateway.store.get(lost.id)
    assert record is not None
    name = key_name(record.digest).decode()
    redis_server.command("SET", name, json.dumps({"id": lost.id}))
    for _ in range(2):
        listed = await gateway.ask("GET", "/api-keys?owner=acme", key=MASTER_KEY)
        assert (listed.status, [key["api_key_id"] for key in json.loads(listed.body)]) == (200, [kept.id])
    log = await gateway.logged(EVENT)
    assert warnings(log) == [(lost.id, f"{name} in Redis holds no record that can be read")]
    assert "blnk_gateway_key_store_up 1.0" in gateway.gateway.metrics.exposition("")[0].decode()


def test_a_key_is_logged_once_a_minute() -> None:
    log, now = io.StringIO(), 100.0
    lines = Log(log)
    keys = UnreadableKeys(lines.events, lambda: now)
    for key in (UnreadableKey(RECORD.id, "a"), UnreadableKey("", "b"), UnreadableKey(RECORD.id, "a")):
        keys.add(key)
    now += REPEAT_SECONDS
    keys.add(UnreadableKey("", "b"))
    lines.flush()
    assert warnings(log.getvalue()) == [(RECORD.id, "a"), ("", "b"), ("", "b")]


def test_no_more_than_so_many_keys_are_logged_a_minute() -> None:
    """A list that leaves out one key more, again and again, does not fill the log."""
    log, now = io.StringIO(), 100.0
    lines = Log(log)
    keys = UnreadableKeys(lines.events, lambda: now)
    reasons = [f"{number}" for number in range(MOST + 1)]
    for _ in range(3):
        for reason in reasons:
            keys.add(UnreadableKey("", reason))
    now += REPEAT_SECONDS
    keys.add(UnreadableKey("", reasons[-1]))
    lines.flush()
    assert [reason for _, reason in warnings(log.getvalue())] == reasons
