"""Readiness, the private listeners, and the end of a gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.config import Address
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyChangeBatch
from gateway.server.exit_codes import Exit
from gateway.wire.connect_errors import CLOSED
from tests.conftest import Start
from tests.core_stand_in import Exchange, StandInCore, abort, held, like_core, never, responding
from tests.keys.records import instant
from tests.raw_client import BrokenResponse, RawClient, Response, request
from tests.running import MASTER_KEY, Running
from tests.serving import serving
from tests.wire.asserting import READ

HEALTH = Address("127.0.0.1", 0)
UNREACHABLE = {"upstream": CLOSED}
STORE_DOWN = {"store": "Key store unavailable"}


class FailingStore(MemoryKeyStore):
    """A key store that fails while `failing` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = False

    async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
        self._fail()
        return await super().get_by_digest(digest, client)

    async def is_empty(self) -> bool:
        self._fail()
        return await super().is_empty()

    async def ping(self) -> None:
        self._fail()
        await super().ping()

    async def last_position(self) -> str:
        self._fail()
        return await super().last_position()

    async def changes(self, after: str, wait: float) -> KeyChangeBatch:
        self._fail()
        news = await super().changes(after, wait)
        self._fail()
        return news

    def _fail(self) -> None:
        if self.failing:
            raise StoreUnavailableError


async def look(gateway: Running, path: str = "/health/ready", address: Address | None = None) -> Response:
    """Send one request to a private listener."""
    async with await gateway.connect(address or gateway.gateway.admin_address) as client:
        headers = [("Connection", "close")]
        return await client.call(request("GET", path, headers=headers).replace(b"gateway.test", b"127.0.0.1"))


async def shows(gateway: Running, code: int, /, **expected: Any) -> None:
    """Wait until readiness shows this."""
    async with asyncio.timeout(5):
        while True:
            response = await look(gateway)
            if (response.status, {name: response.json()[name] for name in expected}) == (code, expected):
                return
            await asyncio.sleep(0.02)


def gauges(gateway: Running) -> tuple[float, float]:
    """Return whether Core and the key store are up, by the metrics."""
    page = gateway.gateway.metrics.exposition("")[0].decode()
    lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    return float(lines["blnk_gateway_upstream_up"]), float(lines["blnk_gateway_key_store_up"])


class TestReadiness:
    async def test_ready_says_so_with_the_policy(self, gateway: Running) -> None:
        """A ready gateway is 200, and names its policy and version."""
        response = await look(gateway)
        assert (response.status, response.value("content-type")) == (200, "application/json; charset=utf-8")
        assert response.json() == {
            "status": "ready",
            "reasons": [],
            "degraded": {},
            "warnings": ["the key store is empty: every client but one with the master key will get 401"],
            "policy_sha256": gateway.gateway.config.sha256,
            "last_reload": gateway.gateway.health.last_reload,
            "version": response.json()["version"],
        }

    @pytest.mark.parametrize("path", ["/health/alive", "/health/ready"])
    async def test_a_gateway_that_waits_for_core_is_alive_and_not_ready(
        self, start_gateway: Start, upstream: StandInCore, path: str
    ) -> None:
        """A gateway that waits for Core is alive, since a restart would not help, and not ready."""
        upstream.probe_behaviour = responding("503 Service Unavailable")
        gateway = await start_gateway(ready=False)
        assert (await look(gateway, path)).status == {"/health/alive": 200, "/health/ready": 503}[path]

    async def test_a_lost_core_is_degraded_at_200_and_back(
        self, gateway: Running, upstream: StandInCore
    ) -> None:
        """A lost Core is degraded at 200, since all replicas share it and would all become unready."""
        upstream.behaviour = upstream.probe_behaviour = abort
        assert (await gateway.ask("POST", "/ledgers/filter", key=MASTER_KEY, body=b"{}")).status == 502
        await shows(gateway, 200, status="degraded", degraded=UNREACHABLE)
        down = gauges(gateway)
        await gateway.logged('"event":"degraded","dependency":"upstream","reason":"Core is not reachable: ')
        upstream.behaviour = upstream.probe_behaviour = like_core
        await shows(gateway, 200, status="ready", degraded={})
        assert (down, gauges(gateway)) == ((0, 1), (1, 1))
        await gateway.logged('"event":"restored","dependency":"upstream"')

    async def test_a_lost_store_is_degraded_at_200_and_back(self, start_gateway: Start) -> None:
        """A lost store is degraded at 200, since the master key still works."""
        store = FailingStore()
        gateway = await start_gateway(store=store)
        store.failing = True
        assert (await gateway.ask("GET", READ, key="A" * 43 + "=")).status == 503
        await shows(gateway, 200, status="degraded", degraded=STORE_DOWN)
        assert gauges(gateway) == (1, 0)
        store.failing = False
        assert (await gateway.ask("GET", READ, key="A" * 43 + "=")).status == 401
        await shows(gateway, 200, status="ready", degraded={})

    async def test_a_required_core_costs_readiness_and_gives_it_back_by_itself(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A required Core that is lost is 503, and 200 once it is back, without any request."""
        gateway = await start_gateway(ready_requires=("upstream",))
        async with upstream.refusing():
            assert (await gateway.ask("GET", READ, key=MASTER_KEY)).status == 502
            reason = f"upstream: Core is not reachable: connection refused (127.0.0.1:{upstream.port})"
            await shows(gateway, 503, status="not ready", reasons=[reason])
            assert (await look(gateway, "/health/alive")).status == 200
        await shows(gateway, 200, status="ready", reasons=[])

    async def test_a_required_store_costs_readiness_and_gives_it_back_by_itself(
        self, start_gateway: Start
    ) -> None:
        """A required store that is lost is 503, and 200 once it is back, without any request."""
        store = FailingStore()
        gateway = await start_gateway(store=store, ready_requires=("store",))
        store.failing = True
        await shows(gateway, 503, status="not ready", reasons=["store: Key store unavailable"])
        store.failing = False
        await shows(gateway, 200, status="ready", reasons=[])

    async def test_an_empty_store_is_warned_about(self, gateway: Running) -> None:
        """An empty store is a warning, since every client but the master key will get 401."""
        log = await gateway.logged("the key store is empty")
        (event,) = [line for line in map(json.loads, log.splitlines()) if "is empty" in line["event"]]
        assert event == {
            "timestamp": event["timestamp"],
            "level": "warning",
            "event": "the key store is empty: every client but one with the master key will get 401",
            "store": "memory://",
        }

    async def test_a_store_that_is_down_at_the_start_is_degraded(self, start_gateway: Start) -> None:
        """A gateway whose store is down starts, and says what is wrong."""
        store = FailingStore()
        store.failing = True
        gateway = await start_gateway(store=store)
        await shows(gateway, 200, status="degraded", degraded=STORE_DOWN)


async def test_a_fault_of_the_event_loop_is_in_the_log_without_its_text(gateway: Running) -> None:
    """A fault of the event loop is logged without its text, which may quote a request; stderr may block."""
    gateway.forbidden.add("in-the-text")
    gateway.gateway.loop_fault(ValueError("in-the-text"))
    gateway.gateway.loop_fault(None)
    log = await gateway.logged("fault")
    events = [json.loads(line) for line in log.splitlines() if '"fault"' in line]
    assert [(event["level"], event["kind"]) for event in events] == [
        ("error", "ValueError"),
        ("error", "RuntimeError"),
    ]


class TestKeyChanges:
    async def test_what_is_made_and_revoked_over_http_is_an_event(self, gateway: Running) -> None:
        """A key that is made or revoked is an event with ids, caller and request id; no line has a key."""
        body = {"name": "n", "owner": "acme", "scopes": ["api-keys:write"]}
        body |= {"expires_at": "2099-01-01T00:00:00Z"}
        top = await gateway.ask("POST", "/api-keys", key=MASTER_KEY, body=json.dumps(body).encode())
        key, top_id = top.json()["key"], top.json()["api_key_id"]
        below = await gateway.ask("POST", "/api-keys", key=key, body=json.dumps(body).encode())
        target = f"/api-keys/{top_id}?owner=acme&descendants=true"
        gone = [await gateway.ask("DELETE", target, key=MASTER_KEY) for _ in range(2)]
        log = await gateway.logged(str(gone[1].value("x-request-id")))
        assert [response.status for response in gone] == [204, 204]
        assert [secret for secret in (key, below.json()["key"]) if secret in log] == []
        made = {"level": "info", "event": "key created"}
        revoked = {"level": "info", "event": "key revoked", "key_id": top_id, "by": "master"}
        assert [
            {name: line[name] for name in line if name != "timestamp"}
            for line in map(json.loads, log.splitlines())
            if line["event"].startswith("key ")
        ] == [
            made | {"by": "master", "request_id": top.value("x-request-id"), "key_id": top_id},
            made
            | {"by": top_id, "request_id": below.value("x-request-id"), "key_id": below.json()["api_key_id"]},
            revoked | {"request_id": gone[0].value("x-request-id"), "descendants": 1},
            revoked | {"request_id": gone[1].value("x-request-id"), "descendants": 0},
        ]

    @pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
    async def test_what_changes_no_key_is_none(self, gateway: Running, method: str) -> None:
        """A refusal, a list and an unknown id are no events of keys."""
        target = {"POST": "/api-keys", "GET": "/api-keys?owner=acme", "DELETE": "/api-keys/x?owner=acme"}
        body = b"{}" if method == "POST" else b""
        response = await gateway.ask(method, target[method], key=MASTER_KEY, body=body)
        log = await gateway.logged(str(response.value("x-request-id")))
        assert '"event":"key ' not in log


class TestListeners:
    async def test_the_admin_listener_lists_its_paths(self, gateway: Running) -> None:
        response = await look(gateway, "/")
        assert (response.status, response.json()) == (
            200,
            {
                "paths": [
                    "GET /console",
                    "GET /console/audit",
                    "GET /console/console.css",
                    "GET /console/console.js",
                    "GET /console/console.svg",
                    "GET /console/events",
                    "GET /console/keys",
                    "GET /console/policy",
                    "POST /explain",
                    "GET /health/alive",
                    "GET /health/ready",
                    "GET /metrics",
                    "GET /scopes",
                ]
            },
        )

    async def test_health_serves_health_and_metrics_alone(self, start_gateway: Start) -> None:
        """The health listener serves health and metrics alone, on an address for kubelet and Prometheus."""
        gateway = await start_gateway(health=HEALTH)
        address = gateway.gateway.health_address
        assert address not in (None, gateway.gateway.admin_address, gateway.gateway.address)
        statuses = {
            path: (await look(gateway, path, address)).status
            for path in ("/health/alive", "/health/ready", "/metrics", "/explain", "/ledgers", "/health")
        }
        assert statuses == {
            "/health/alive": 200,
            "/health/ready": 200,
            "/metrics": 200,
            "/explain": 404,
            "/ledgers": 404,
            "/health": 404,
        }

    async def test_without_one_there_is_none(self, gateway: Running) -> None:
        """Without `health` no such listener is opened, and admin serves health as well."""
        assert gateway.gateway.health_address is None
        assert gateway.gateway.admin_address.host == "127.0.0.1"

    async def test_the_clients_listener_shows_neither_health_nor_metrics_of_ours(
        self, gateway: Running, upstream: StandInCore
    ) -> None:
        """The clients' listener serves neither health nor metrics of the gateway."""
        for path in ("/metrics", "/health/ready", "/health/alive"):
            assert (await gateway.ask("GET", path, key=MASTER_KEY)).status == 404
        assert upstream.targets == []


class TestDrain:
    async def test_not_ready_at_once_and_accepting_until_the_delay_is_over(
        self, start_gateway: Start
    ) -> None:
        """A draining gateway is not ready at once, and serves until the delay is over."""
        gateway = await start_gateway(drain={"delay": 1.0, "timeout": 2.0})
        address = gateway.gateway.address
        kept = await gateway.connect()
        assert (await kept.ask("GET", "/health")).value("connection") is None
        draining = asyncio.create_task(gateway.gateway.drain())
        await asyncio.sleep(0)
        await shows(gateway, 503, status="not ready", reasons=["draining"])
        assert (await look(gateway, "/health/alive")).status == 200
        assert (await kept.ask("GET", "/health")).value("connection") == "close"
        assert await kept.ended()
        responses = [
            await gateway.ask("GET", "/health"),
            await gateway.ask("GET", READ, key=MASTER_KEY),
            await gateway.ask("GET", READ),
            await gateway.ask("GET", "/api-keys?owner=acme", key=MASTER_KEY),
        ]
        assert [response.status for response in responses] == [200, 200, 401, 200]
        assert {response.value("connection") for response in responses} == {"close"}
        assert await draining == Exit.OK
        with pytest.raises(ConnectionRefusedError):
            await RawClient.connect(address)

    @pytest.mark.parametrize("timeout", [30.0, 0.0])
    async def test_idle_connections_close_soon_after_the_delay(
        self, start_gateway: Start, timeout: float
    ) -> None:
        """Idle connections are closed about a second after the delay is over, which cuts nothing."""
        gateway = await start_gateway(drain={"delay": 0.0, "timeout": timeout})
        used, unused = await gateway.connect(), await gateway.connect()
        assert (await used.ask("GET", "/health")).status == 200
        started = asyncio.get_running_loop().time()
        assert await gateway.gateway.drain() == Exit.OK
        assert asyncio.get_running_loop().time() - started < 5.0
        assert await used.ended()
        assert await unused.ended()

    async def test_what_is_in_flight_is_finished(self, start_gateway: Start, upstream: StandInCore) -> None:
        """A response that comes within the timeout is sent whole: exit 0."""
        gateway = await start_gateway(drain={"delay": 0.0, "timeout": 5.0})
        release = asyncio.Event()
        upstream.script(held(release))
        client = await gateway.connect()
        await client.send(request("GET", READ, key=MASTER_KEY))
        await upstream.arrived()
        idle = await gateway.connect()
        draining = asyncio.create_task(gateway.gateway.drain())
        assert await idle.ended()
        release.set()
        response = await client.response()
        assert (response.status, response.value("connection")) == (200, "close")
        assert await draining == Exit.OK

    async def test_a_response_on_its_way_is_taken_to_its_end(self, start_gateway: Start) -> None:
        """A response that only waits for its client to read is sent whole as well."""
        gateway = await start_gateway(drain={"delay": 0.0, "timeout": 10.0})
        for number in range(30_000):
            await gateway.gateway.store.add(record(number))
        client = await gateway.connect(keep=False)
        await client.send(request("GET", "/api-keys?owner=acme", key=MASTER_KEY))
        await gateway.logged('"path":"/api-keys"')
        idle = await gateway.connect()
        draining = asyncio.create_task(gateway.gateway.drain())
        assert await idle.ended()
        assert len((await client.response()).json()) == 30_000
        assert await draining == Exit.OK

    async def test_what_does_not_finish_is_cut(self, start_gateway: Start, upstream: StandInCore) -> None:
        """A request that does not finish within the timeout is cut: exit 1."""
        gateway = await start_gateway(drain={"delay": 0.0, "timeout": 0.2})
        upstream.script(never)
        client = await gateway.connect()
        await client.send(request("GET", READ, key=MASTER_KEY))
        await upstream.arrived()
        assert await gateway.gateway.drain() == Exit.FAILED
        with pytest.raises(BrokenResponse):
            await client.response()

    async def test_a_response_that_stalls_is_cut(self, start_gateway: Start, upstream: StandInCore) -> None:
        """A response that stalls is cut, and does not look whole: exit 1."""

        async def stall(exchange: Exchange) -> None:
            await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")
            await exchange.never()

        gateway = await start_gateway(drain={"delay": 0.0, "timeout": 0.2})
        upstream.script(stall)
        client = await gateway.connect()
        await client.send(request("GET", READ, key=MASTER_KEY))
        assert (await client.read_head())[0] == 200
        assert await gateway.gateway.drain() == Exit.FAILED

    async def test_every_request_line_is_written_before_the_end(self, start_gateway: Start) -> None:
        """Every request line is written before the end."""
        gateway = await start_gateway(drain={"delay": 0.0, "timeout": 1.0})
        for _ in range(5):
            await gateway.ask("GET", "/health")
        await gateway.gateway.drain()
        assert gateway.log.getvalue().count('"event":"request"') == 5


class HangingStore(MemoryKeyStore):
    """A key store that takes no last uses of keys until `released`."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()

    async def record_uses(self, times: Mapping[str, float]) -> None:
        await self.released.wait()


class TestCutOff:
    async def test_a_store_that_hangs_keeps_no_line_from_the_log(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A request that is cut and the end of the gateway are logged even while the store hangs."""
        store = HangingStore()
        gateway = await start_gateway(store=store)
        key = (await gateway.mint("ledgers:read")).key
        upstream.behaviour = never
        client = await gateway.connect()
        await client.send(request("GET", READ, key=key))
        await upstream.arrived()
        assert await gateway.gateway.cut_off() == Exit.FAILED
        store.released.set()
        events = [json.loads(line)["event"] for line in gateway.log.getvalue().splitlines()]
        assert events[-2:] == ["request", "stopped"]


class TestProcess:
    async def test_sigterm_drains_and_exits_0(self, upstream: StandInCore) -> None:
        """SIGTERM makes the gateway unready at once; it serves through the delay and finishes: exit 0."""
        settings = {"DRAIN__DELAY": "500ms", "DRAIN__TIMEOUT": "10s"}
        async with serving(upstream.url, settings) as process:
            address, admin = await process.listening()
            await process.event("ready")
            release = asyncio.Event()
            upstream.script(held(release))
            client, idle = [await RawClient.connect(address) for _ in range(2)]
            await client.send(request("GET", READ, key=MASTER_KEY))
            await upstream.arrived()
            process.terminate()
            await process.event("draining")
            async with await RawClient.connect(admin) as looking:
                ready = request("GET", "/health/ready").replace(b"gateway.test", b"127.0.0.1")
                assert (await looking.call(ready)).json()["reasons"] == ["draining"]
            async with await RawClient.connect(address) as late:
                assert (await late.ask("GET", "/health")).value("connection") == "close"
            assert await idle.ended()
            release.set()
            assert (await client.response()).status == 200
            await client.close()
            await idle.close()
            ended = await process.ended()
        assert (ended.code, ended.stderr) == (0, "")
        assert ended.events[-1]["event"] in ("stopped", "request")

    async def test_sigterm_exits_1_where_something_was_cut(self, upstream: StandInCore) -> None:
        """A request that outlives `drain.timeout` makes the exit code 1."""
        upstream.behaviour = never
        settings = {"DRAIN__DELAY": "0s", "DRAIN__TIMEOUT": "200ms"}
        async with serving(upstream.url, settings) as process:
            address, _ = await process.listening()
            await process.event("ready")
            async with await RawClient.connect(address) as client:
                await client.send(request("GET", READ, key=MASTER_KEY))
                await upstream.arrived()
                process.terminate()
                ended = await process.ended()
        assert (ended.code, ended.stderr) == (1, "")


def record(number: int) -> KeyRecord:
    return KeyRecord(
        id=f"api_key_{number}",
        digest=f"{number:064x}",
        name="one of many" + "." * 300,
        owner="acme",
        scopes=("ledgers:read",),
        expires_at=instant("2099-01-01T00:00:00Z"),
        created_at=instant("2026-01-01T00:00:00Z"),
        last_used_at=None,
        revocation=None,
        created_by="master",
    )
