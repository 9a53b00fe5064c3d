"""The console over HTTP: its files, its stream, its pages."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from pytest_aiohttp import AiohttpClient

from gateway.admin.application import admin_application
from gateway.admin.checks import AdminAccess
from gateway.admin.console.audit import AuditPage
from gateway.admin.console.files import FILES
from gateway.admin.console.keys import FRESH_SECONDS, MOST_READ, KeysPage
from gateway.admin.console.policy import PolicyPage
from gateway.admin.console.stream import EventStreams
from gateway.audit import AuditEntry, Kind
from gateway.config import Config, parse_config
from gateway.config.presets import shipped
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.record import KeyRecord
from gateway.keys.redis.names import AUDIT, key_name
from gateway.keys.redis.store import RedisKeyStore
from gateway.keys.store import KeyStore, LeftOut, UnreadableKey
from tests.admin.test_application import Text, metrics_of, ready_health
from tests.conftest import Start
from tests.keys.records import GLOBEX, OTHER, RECORD, instant
from tests.raw_client import RawClient, Response, request
from tests.redis_server import RedisServer
from tests.running import Running, eventually, shipped_config

EVENT = re.compile(rb"data: (.*)\n\n")
NOW = instant("2026-06-01T00:00:00Z").unix
TOKEN = Text("a token of the tests")
BATCH = 500


class Snapshots:
    """Numbered snapshots, whose making is counted."""

    def __init__(self) -> None:
        self.made = 0

    def latest(self) -> bytes:
        self.made += 1
        return b'{"number":%d}' % self.made


class Ending:
    """Tells whether the gateway drains."""

    def __init__(self) -> None:
        self.draining = False

    def __call__(self) -> bool:
        return self.draining


class Damaged:
    """A store with so many records that cannot be read, in batches, and some that can be, in the last one.

    Attributes:
        noted: how many of the first ones a scan has named.
    """

    def __init__(self, unreadable: int, readable: list[KeyRecord] | None = None) -> None:
        self._unreadable = unreadable
        self._readable = readable or []
        self.noted = 0

    async def scan(self, left_out: LeftOut | None = None) -> AsyncIterator[list[KeyRecord]]:
        assert left_out is not None
        while self.noted < self._unreadable:
            for _ in range(min(BATCH, self._unreadable - self.noted)):
                left_out(UnreadableKey("", f"{self.noted}"))
                self.noted += 1
            yield [] if self.noted < self._unreadable else self._readable


def console(events: EventStreams, token: Text | None = None) -> web.Application:
    health = ready_health()
    return admin_application(health, metrics_of(health), AdminAccess((), token), events=events)


async def line(response: ClientResponse) -> Any:
    """Return the next snapshot of a stream."""
    text = await response.content.readuntil(b"\n\n")
    return json.loads(text.removeprefix(b"data: "))


async def look(gateway: Running, path: str) -> Response:
    async with await gateway.connect(gateway.gateway.admin_address) as client:
        return await client.call(request("GET", path, host="127.0.0.1"))


async def snapshots(client: RawClient, number: int) -> list[Any]:
    """Return the first snapshots of the stream that `client` has opened."""
    while len(found := EVENT.findall(client.received)) < number:
        assert await client.read_some()
    return [json.loads(one) for one in found[:number]]


def config_of(text: str) -> Config:
    return parse_config(text.encode(), Path("gateway.yaml"), {}, secrets=False)


class TestFiles:
    @pytest.mark.parametrize("path", sorted(FILES))
    async def test_a_browser_gets_them_without_the_token_and_may_load_nothing_else(
        self, aiohttp_client: AiohttpClient, path: str
    ) -> None:
        client = await aiohttp_client(console(EventStreams(Snapshots().latest, Ending()), TOKEN))
        response = await client.get(path)
        types = {"console": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
        assert (response.status, response.content_type, response.headers["Content-Security-Policy"]) == (
            200,
            types[re.split(r"[/.]", path)[-1]],
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
            "require-trusted-types-for 'script'; trusted-types 'none'",
        )

    async def test_their_data_is_behind_the_token(self, aiohttp_client: AiohttpClient) -> None:
        client = await aiohttp_client(console(EventStreams(Snapshots().latest, Ending()), TOKEN))
        assert (await client.get("/console/events")).status == 401
        response = await client.get("/console/events", headers={"Authorization": f"Bearer {TOKEN.reveal()}"})
        assert (response.status, await line(response)) == (200, {"number": 1})

    async def test_they_are_under_the_host_check(self, aiohttp_client: AiohttpClient) -> None:
        client = await aiohttp_client(console(EventStreams(Snapshots().latest, Ending())))
        assert (await client.get("/console", headers={"Host": "rebound.example"})).status == 421


class TestStream:
    async def test_it_sends_one_snapshot_after_another(self, aiohttp_client: AiohttpClient) -> None:
        client = await aiohttp_client(console(EventStreams(Snapshots().latest, Ending(), every=0.01)))
        response = await client.get("/console/events")
        found = [await line(response) for _ in range(3)]
        assert (response.headers["Content-Type"], response.headers["Cache-Control"], found) == (
            "text/event-stream",
            "no-store",
            [{"number": 1}, {"number": 2}, {"number": 3}],
        )

    async def test_so_many_are_open_at_most(self, aiohttp_client: AiohttpClient) -> None:
        events = EventStreams(Snapshots().latest, Ending(), most=1, every=0.01)
        client = await aiohttp_client(console(events))
        first = await client.get("/console/events")
        refused = await client.get("/console/events")
        body = await refused.json()
        assert (refused.status, body["error_detail"]["code"]) == (503, "GATEWAY_ADMIN_STREAMS")
        first.close()
        await eventually(lambda: events.open == 0, "the end of the stream")
        assert (await client.get("/console/events")).status == 200

    async def test_nothing_is_computed_once_nobody_looks(self, aiohttp_client: AiohttpClient) -> None:
        made = Snapshots()
        events = EventStreams(made.latest, Ending(), every=0.01)
        client = await aiohttp_client(console(events))
        assert made.made == 0
        response = await client.get("/console/events")
        await line(response)
        response.close()
        await eventually(lambda: events.open == 0, "the end of the stream")
        before = made.made
        await asyncio.sleep(0.05)
        assert made.made == before

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    async def test_a_page_of_another_site_opens_none(self, aiohttp_client: AiohttpClient, site: str) -> None:
        client = await aiohttp_client(console(EventStreams(Snapshots().latest, Ending())))
        response = await client.get("/console/events", headers={"Sec-Fetch-Site": site})
        assert (response.status, (await response.json())["error_detail"]["code"]) == (
            403,
            "GATEWAY_ADMIN_SITE",
        )

    async def test_a_drain_ends_it_after_one_more_snapshot(self, aiohttp_client: AiohttpClient) -> None:
        ending = Ending()
        client = await aiohttp_client(console(EventStreams(Snapshots().latest, ending, every=0.01)))
        response = await client.get("/console/events")
        await line(response)
        ending.draining = True
        await response.content.read()
        again = await client.get("/console/events")
        assert len(EVENT.findall(await again.content.read())) == 1

    async def test_it_goes_on_longer_than_a_body_may_take_and_ends_with_the_gateway(
        self, start_gateway: Start
    ) -> None:
        gateway = await start_gateway(timeouts={"body": 0.5})
        key = await gateway.mint("ledgers:read")
        await gateway.ask("GET", "/ledgers", key=key.key)
        await gateway.ask("POST", "/ledgers", key=key.key, body=b"{}")
        client = await gateway.connect(gateway.gateway.admin_address)
        await client.send(request("GET", "/console/events", host="127.0.0.1"))
        first, *_, third = await snapshots(client, 3)
        shown = {name: first[name] for name in ("refused_keys", "refusals_left_out", "in_flight")}
        routes = [(one["route"], one["allowed"], one["refused"]) for one in first["traffic"]["routes"]]
        assert (
            first["health"]["status"],
            shown,
            routes,
            third["traffic"]["total"]["allowed_per_second"],
        ) == (
            "ready",
            {
                "refused_keys": [{"key_id": key.id, "code": "AUTH_INSUFFICIENT_PERMISSIONS", "count": 1}],
                "refusals_left_out": 0,
                "in_flight": 0,
            },
            [("GET /ledgers", 1, 0), ("POST /ledgers", 0, 1)],
            0.0,
        )
        async with asyncio.timeout(0.9):
            await gateway.gateway.drain(0.0)


class TestKeys:
    async def test_keys_that_end_soon_and_keys_never_used_are_listed(self, store: KeyStore) -> None:
        await store.add(replace(RECORD, owner="<b>\x07", expires_at=instant("2026-06-20T00:00:00Z")))
        used = replace(RECORD, id="api_key_used", digest="1" * 64, last_used_at=RECORD.created_at)
        ended = replace(RECORD, id="api_key_ended", digest="2" * 64, expires_at=RECORD.created_at)
        await store.add(used)
        await store.record_uses({used.id: NOW})
        await store.add(ended)
        listed = {
            "key_id": RECORD.id,
            "owner": "<b>\\x07",
            "name": "n",
            "created_at": "2026-01-01T00:00:00Z",
            "expires_at": "2026-06-20T00:00:00Z",
        }
        assert await KeysPage(store, lambda: NOW).page({}) == {
            "at": "2026-06-01T00:00:00.000Z",
            "complete": True,
            "unreadable": 0,
            "ending": [listed],
            "ending_count": 1,
            "unused": [listed],
            "unused_count": 1,
        }

    @pytest.mark.redis
    async def test_records_that_cannot_be_read_are_counted(
        self, redis_url: str, redis_server: RedisServer
    ) -> None:
        """The store takes note of them, too."""
        noted: list[UnreadableKey] = []
        store = RedisKeyStore(redis_url, left_out=noted.append)
        try:
            await store.add_all([RECORD, OTHER, GLOBEX])
            for lost in (OTHER, GLOBEX):
                redis_server.command("SET", key_name(lost.digest), "{")
            page = await KeysPage(store, lambda: NOW).page({})
        finally:
            await store.close()
        assert (page["complete"], page["unreadable"], page["unused_count"], len(noted)) == (True, 2, 1, 2)

    async def test_so_many_records_count_at_most(self) -> None:
        store = MemoryKeyStore()
        for number in range(MOST_READ + 1):
            await store.add(replace(RECORD, id=f"api_key_{number}", digest=f"{number:064}"))
        page = await KeysPage(store, lambda: NOW).page({})
        unused: Any = page["unused"]
        assert (page["complete"], page["unused_count"], len(unused)) == (False, MOST_READ, 50)

    @pytest.mark.parametrize(
        ("there", "readable", "shown"),
        [
            (MOST_READ, 0, (True, MOST_READ, 0)),
            (MOST_READ + 1, 0, (False, MOST_READ, 0)),
            (MOST_READ - 1, 1, (True, MOST_READ - 1, 1)),
            (MOST_READ, 1, (False, MOST_READ, 0)),
        ],
    )
    async def test_records_that_cannot_be_read_are_among_those_that_count(
        self, there: int, readable: int, shown: tuple[bool, int, int]
    ) -> None:
        """The list is complete unless there is a further record of either kind."""
        store = Damaged(there, [RECORD] * readable)
        page = await KeysPage(store, lambda: NOW).page({})
        assert (page["complete"], page["unreadable"], page["unused_count"]) == shown

    async def test_nothing_is_read_after_the_batch_with_one_more(self) -> None:
        store = Damaged(3 * MOST_READ)
        await KeysPage(store, lambda: NOW).page({})
        assert store.noted == MOST_READ + BATCH

    async def test_the_store_is_read_again_only_after_a_while(self) -> None:
        store, times = MemoryKeyStore(), iter([NOW, NOW + FRESH_SECONDS - 1, NOW + FRESH_SECONDS])
        page = KeysPage(store, lambda: next(times))
        counts = []
        for _ in range(3):
            counts.append((await page.page({}))["unused_count"])
            if len(counts) == 1:
                await store.add(RECORD)
        assert counts == [0, 0, 1]


class TestAudit:
    async def test_the_last_entries_are_shown_the_newest_first(self, store: KeyStore) -> None:
        entries = [AuditEntry(kind=Kind.POLICY_LIVE, policy_sha256=f"{number}") for number in range(40)]
        await store.append_entries(entries)
        shown: Any = (await AuditPage(store).page({}))["entries"]
        assert [one.policy_sha256 for one in shown] == [str(number) for number in range(39, 9, -1)]

    @pytest.mark.redis
    async def test_entries_of_another_writer_fail_no_page(
        self, redis_store: RedisKeyStore, redis_server: RedisServer
    ) -> None:
        """One that cannot be read is left out, and one whose id is no time has no time."""
        texts = [b'{"kind":"policy_live","replica":"\xff"}', b'{"kind":"policy_live","x":' + b"[" * 100_000]
        for number, text in enumerate(texts, 1):
            redis_server.command("XADD", AUDIT, f"{number}-0", "entry", text)
        redis_server.command("XADD", AUDIT, "18446744073709551615-1", "entry", '{"kind":"policy_live"}')
        page = await AuditPage(redis_store).page({})
        assert page["entries"] == [AuditEntry(kind=Kind.POLICY_LIVE)]

    async def test_an_entry_without_a_time_gets_that_of_its_writing(self, store: KeyStore) -> None:
        await store.add(RECORD)
        (entry,) = await store.latest_entries(5)
        assert (entry.kind, entry.key_id, entry.at[:2]) == (Kind.KEY_CREATED, RECORD.id, "20")


class TestPolicy:
    async def test_the_first_policy_has_none_before_it(self) -> None:
        config = shipped_config()
        assert await PolicyPage(lambda: config, lambda: None).page({}) == {
            "sha256": config.sha256,
            "routes": len(config.routes.routes),
            "before": None,
        }

    async def test_the_differences_from_the_one_before_are_shown(self) -> None:
        text = shipped().replace("GET /ledgers: ", "GET /ledgers: public # ")
        before, live = config_of(shipped()), config_of(text.replace("master: accept", "master: deny"))
        assert await PolicyPage(lambda: live, lambda: before).page({}) == {
            "sha256": live.sha256,
            "routes": len(live.routes.routes),
            "before": before.sha256,
            "changes": [
                {
                    "request": "GET /ledgers",
                    "kind": "open to anyone",
                    "widens": True,
                    "opened": ("anyone",),
                    "closed": (),
                }
            ],
            "changes_left_out": 0,
            "settings": ({"path": "keys.master", "old": "accept", "new": "deny", "widens": False},),
        }

    async def test_a_running_gateway_shows_its_own(self, gateway: Running) -> None:
        response = await look(gateway, "/console/policy")
        assert (response.status, response.json()["sha256"]) == (200, gateway.gateway.config.sha256)
