"""`serve --observe`: Core decides on every request, and the gateway only reports its own decision.

Rules kept here:
- Here Core knows the client's key instead of the gateway's: once ready, `upstream.master_key` is that key.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.admin.scopes import ScopesPage
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.record import KeyRecord
from gateway.policy.routes import Stamp, compile_routes
from gateway.policy.terms import Rate
from gateway.proxy.observe import NOTICE
from gateway.server.build import build
from gateway.server.parts import Options
from gateway.telemetry.scope_use import ScopesUsed, ScopeUse
from tests.core_stand_in import REFUSAL, StandInCore, held, responding
from tests.raw_client import Response, chunked, request
from tests.running import MASTER_KEY, Minted, Running, configured, shipped_config
from tests.serving import serving

LEDGER = b'{"name": "x",  "meta_data":{"BLNK_GENERATED_BY":"forged"}}'
UNKNOWN = "A" * 43 + "="


class SlowStore(MemoryKeyStore):
    """A store that fails, or that does not respond, while it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = False
        self.silent = False

    async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
        if self.silent:
            await asyncio.sleep(3600)
        if self.failing:
            raise StoreUnavailableError
        return await super().get_by_digest(digest, client)


Observe = Callable[..., Awaitable[Running]]


@pytest.fixture
async def observe(upstream: StandInCore) -> AsyncIterator[Observe]:
    started: list[Running] = []

    async def begin(*, store: MemoryKeyStore | None = None, **changes: Any) -> Running:
        log = io.StringIO()
        gateway = build(configured(upstream, changes), log, Options(store=store, observe=True))
        await gateway.start()
        await gateway.ready()
        started.append(Running(gateway, log, upstream))
        return started[-1]

    yield begin
    for running in started:
        await running.close()
    assert [leak for running in started for leak in running.leaks()] == []


async def line(running: Running, path: str) -> dict[str, Any]:
    """Return the log line of the last request for this path."""
    log = await running.logged(f'"path":"{path}"')
    found: list[dict[str, Any]] = [
        json.loads(text) for text in log.splitlines() if f'"path":"{path}"' in text
    ]
    return found[-1]


async def noted(running: Running, path: str) -> tuple[str, str, str, int, bool]:
    """Return what the line reports as the gateway's decision, and what was done."""
    found = await line(running, path)
    return (found["decision"], found["would_code"], found["code"], found["status"], found["stamped"])


async def accepted(running: Running, *scopes: str) -> Minted:
    """A key that both the gateway's store and Core know."""
    key = await running.mint(*scopes)
    running.upstream.master_key = key.key
    return key


class TestPassing:
    async def test_key_and_body_go_on_as_they_came(self, observe: Observe, upstream: StandInCore) -> None:
        """Core gets the client's own key and every byte of its body, and nothing of the gateway's key."""
        gateway = await observe()
        key = await accepted(gateway, "ledgers:write")
        response = await gateway.ask("POST", "/ledgers?a=b%20c", key=key.key, body=LEDGER)
        (sent,) = upstream.requests
        assert (response.status, sent.target, bytes(sent.body)) == (200, "/ledgers?a=b%20c", LEDGER)
        assert sent.values("x-blnk-key") == [key.key]
        assert MASTER_KEY.encode() not in sent.raw
        assert await noted(gateway, "/ledgers") == ("would_stamp", "", "", 200, False)

    async def test_credentials_pass_in_any_spelling_and_number(
        self, observe: Observe, upstream: StandInCore
    ) -> None:
        """Headers with keys pass in any spelling and number, since Core decides on them."""
        gateway = await observe()
        headers = [("x-blnk-key", UNKNOWN), ("X-Blnk-Key", "two"), ("Authorization", "Bearer x"),
                   ("X_Blnk_Key", "three"), ("X-API-Key", "four")]  # fmt: skip
        assert (await gateway.ask("GET", "/ledgers", headers=headers)).body == REFUSAL
        (sent,) = upstream.requests
        assert [header for header in sent.headers if header in headers] == headers
        assert await noted(gateway, "/ledgers") == ("would_deny", "AUTH_INVALID_API_KEY", "", 401, False)

    async def test_core_has_as_long_as_its_route_says(self, observe: Observe, upstream: StandInCore) -> None:
        """A route's own `first_byte` holds here, too."""
        shipped = shipped_config().routes.routes
        routes = [
            replace(route, first_byte=0.2) if route.name == "GET /ledgers" else route for route in shipped
        ]
        gateway = await observe(routes=compile_routes(routes))
        key = await accepted(gateway, "ledgers:read")
        release = asyncio.Event()
        upstream.script(held(release))
        response = await gateway.ask("GET", "/ledgers", key=key.key)
        assert (response.status, response.code) == (504, "GATEWAY_UPSTREAM_TIMEOUT")
        release.set()

    async def test_a_refusal_of_core_is_no_refusal_of_the_gateway(
        self, observe: Observe, upstream: StandInCore
    ) -> None:
        """A 401 of Core is about the client's key here, and passes."""
        gateway = await observe()
        response = await gateway.ask("GET", "/ledgers", key=UNKNOWN)
        assert (response.status, response.body) == (401, REFUSAL)
        assert "core refused the master key" not in gateway.log.getvalue()

    @pytest.mark.parametrize("length", [10, 200_000])
    async def test_a_chunked_body_passes(self, observe: Observe, upstream: StandInCore, length: int) -> None:
        """A chunked body that was buffered to try its stamp reaches Core unchanged."""
        gateway = await observe()
        key = await accepted(gateway, "ledgers:write")
        body = b'{"name":"%b"}' % (b"x" * length)
        head = request("POST", "/ledgers", key=key.key, headers=[("Transfer-Encoding", "chunked")])
        client = await gateway.connect()
        assert (await client.call(head + chunked(body[:5], body[5:]))).status == 200
        assert bytes(upstream.requests[0].body) == body
        assert (await noted(gateway, "/ledgers"))[0] == "would_stamp"

    @pytest.mark.parametrize("framing", ["length", "chunks", "late"])
    async def test_a_body_that_is_too_large_to_stamp_passes(
        self, observe: Observe, upstream: StandInCore, framing: str
    ) -> None:
        """A body that is too large to stamp passes, however it is framed."""
        gateway = await observe(limits={"body": 100_000})
        key = await accepted(gateway, "ledgers:write")
        body = bytes(range(256)) * 2000
        client = await gateway.connect()
        if framing == "chunks":
            head = request("POST", "/ledgers", key=key.key, headers=[("Transfer-Encoding", "chunked")])
            await client.send(head + chunked(body[:1000], body[1000:]))
        else:
            whole = request("POST", "/ledgers", key=key.key, body=body)
            cut = len(whole) - 50_000 if framing == "late" else len(whole)
            await client.send(whole[:cut])
            await asyncio.sleep(0.05)
            await client.send(whole[cut:])
        assert (await client.response()).status == 200
        assert bytes(upstream.requests[0].body) == body
        assert await noted(gateway, "/ledgers") == ("would_deny", "GEN_PAYLOAD_TOO_LARGE", "", 200, False)

    async def test_what_http_forbids_is_refused(self, observe: Observe, upstream: StandInCore) -> None:
        """A request with two lengths is refused here too, since it cannot be passed on."""
        gateway = await observe()
        client = await gateway.connect()
        response = await client.call(
            b"POST /ledgers HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"
        )
        assert (response.status, upstream.requests) == (400, [])

    async def test_a_lost_core_is_reported(self, observe: Observe, upstream: StandInCore) -> None:
        """A Core that is gone is 502, and the line reports the gateway's decision too."""
        gateway = await observe()
        async with upstream.refusing():
            assert (await gateway.ask("GET", "/ledgers", key=UNKNOWN)).status == 502
        found = await noted(gateway, "/ledgers")
        assert found == ("would_deny", "AUTH_INVALID_API_KEY", "GATEWAY_UPSTREAM_UNREACHABLE", 502, False)

    async def test_nothing_passes_before_core_was_seen(self, upstream: StandInCore) -> None:
        """Nothing passes before Core has shown that it asks for keys."""
        upstream.probe_behaviour = responding("503 Service Unavailable")
        gateway = build(configured(upstream, {}), io.StringIO(), Options(observe=True))
        await gateway.start()
        running = Running(gateway, io.StringIO(), upstream)
        assert (await running.ask("GET", "/ledgers", key=UNKNOWN)).status == 502
        assert upstream.requests == []
        await running.close()


class TestVerdicts:
    @pytest.mark.parametrize(
        ("method", "target", "decision", "code", "route"),
        [
            ("GET", "/health", "allow", "", "GET /health"),
            ("GET", "/ledgers/x", "allow", "", "GET /ledgers/{id}"),
            ("GET", "/balances/x", "would_deny", "AUTH_INSUFFICIENT_PERMISSIONS", "GET /balances/{id}"),
            ("GET", "/hooks", "would_deny", "AUTH_INSUFFICIENT_PERMISSIONS", "GET /hooks"),
            ("GET", "/nothing", "would_deny", "AUTH_UNKNOWN_RESOURCE", ""),
            ("GET", "/ledgers//x", "would_deny", "GEN_BAD_REQUEST", ""),
            ("GET", "/api-keys", "would_serve", "", "GET /api-keys"),
            ("POST", "/ledgers", "would_deny", "AUTH_INSUFFICIENT_PERMISSIONS", "POST /ledgers"),
        ],
    )
    async def test_each_is_noted_and_passes(
        self,
        observe: Observe,
        upstream: StandInCore,
        method: str,
        target: str,
        decision: str,
        code: str,
        route: str,
    ) -> None:
        """Each refusal is reported and the request passes: Core gets the bytes of the target as they came."""
        gateway = await observe()
        key = await accepted(gateway, "ledgers:read", "api-keys:read")
        response = await gateway.ask(method, target, key=key.key)
        assert (response.status, [sent.target for sent in upstream.requests]) == (200, [target])
        found = await line(gateway, target)
        assert (found["decision"], found["would_code"], found["route"]) == (decision, code, route)
        assert found["answered_by"] == "core"

    @pytest.mark.parametrize(
        ("body", "decision", "code"),
        [
            (b'{"name":"x"}', "would_stamp", ""),
            (b"", "allow", ""),
            (b"[]", "would_deny", "GEN_MALFORMED_REQUEST"),
            (b'{"META_DATA":{}}', "would_deny", "GEN_MALFORMED_REQUEST"),
            (b'{"a":"%b"}' % (b"x" * 100_000), "would_stamp", ""),
        ],
    )
    async def test_the_stamp_is_tried_on_the_body(
        self, observe: Observe, upstream: StandInCore, body: bytes, decision: str, code: str
    ) -> None:
        """The stamp is tried on the body, so that its refusal is reported."""
        gateway = await observe()
        key = await accepted(gateway, "ledgers:write")
        assert (await gateway.ask("POST", "/ledgers", key=key.key, body=body)).status == 200
        assert bytes(upstream.requests[0].body) == body
        assert (await noted(gateway, "/ledgers"))[:2] == (decision, code)

    async def test_the_master_key_of_a_client_passes_and_is_not_stamped(
        self, observe: Observe, upstream: StandInCore
    ) -> None:
        gateway = await observe()
        assert (await gateway.ask("POST", "/ledgers", key=MASTER_KEY, body=LEDGER)).status == 200
        assert bytes(upstream.requests[0].body) == LEDGER
        assert await noted(gateway, "/ledgers") == ("allow", "", "", 200, False)

    async def test_a_rate_limit_is_noted(self, observe: Observe, upstream: StandInCore) -> None:
        gateway = await observe(limits={"rate": Rate(1)})
        key = await accepted(gateway, "ledgers:read")
        for _ in range(2):
            assert (await gateway.ask("GET", "/ledgers", key=key.key)).status == 200
        await gateway.logged("GEN_RATE_LIMITED")
        assert len(upstream.requests) == 2

    async def test_a_spent_budget_is_noted(self, observe: Observe, upstream: StandInCore) -> None:
        """Without bytes left to try the stamp, the request passes, and that is reported."""
        gateway = await observe(limits={"buffered": 10})
        key = await accepted(gateway, "ledgers:write")
        assert (await gateway.ask("POST", "/ledgers", key=key.key, body=LEDGER)).status == 200
        assert bytes(upstream.requests[0].body) == LEDGER
        assert (await noted(gateway, "/ledgers"))[:2] == ("would_deny", "GATEWAY_UNAVAILABLE")

    @pytest.mark.parametrize("how", ["failing", "silent"])
    async def test_a_store_that_does_not_answer_costs_a_moment(
        self, observe: Observe, upstream: StandInCore, how: str
    ) -> None:
        """A store that does not respond delays the request a moment; the gateway reports a 503."""
        store = SlowStore()
        gateway = await observe(store=store)
        setattr(store, how, True)
        started = asyncio.get_running_loop().time()
        assert (await gateway.ask("GET", "/ledgers", key=UNKNOWN)).status == 401
        assert asyncio.get_running_loop().time() - started < 2
        assert (await noted(gateway, "/ledgers"))[:2] == ("would_deny", "GATEWAY_KEY_STORE_UNAVAILABLE")

    async def test_it_is_counted_and_shown(self, observe: Observe) -> None:
        """Decisions are counted by route in the metrics, and readiness says that nothing is enforced."""
        gateway = await observe()
        key = await accepted(gateway, "ledgers:write")
        await gateway.ask("POST", "/ledgers", key=key.key, body=LEDGER)
        await gateway.ask("GET", "/ledgers", key=key.key)
        await line(gateway, "/ledgers")
        page = gateway.gateway.metrics.exposition("")[0].decode()
        denied = 'would_deny_total{code="AUTH_INSUFFICIENT_PERMISSIONS",route="GET /ledgers"} 1.0'
        assert f"blnk_gateway_{denied}" in page
        assert 'blnk_gateway_would_rewrite_total{how="stamp",route="POST /ledgers"} 1.0' in page
        assert 'blnk_gateway_stamped_total{route="POST /ledgers"} 0.0' in page
        assert gateway.gateway.health.notices() == [NOTICE]


async def scopes(running: Running, query: str = "") -> Response:
    async with await running.connect(running.gateway.admin_address) as client:
        asked = request("GET", f"/scopes{query}", headers=[("Connection", "close")])
        return await client.call(asked.replace(b"gateway.test", b"127.0.0.1"))


class TestLog:
    async def test_it_says_at_the_start_that_nothing_is_enforced(self, upstream: StandInCore) -> None:
        """The start says that nothing is enforced, and nothing of revoked keys, which Core decides on."""
        async with serving(upstream.url, {"DRAIN__DELAY": "0s"}, options=["--observe"]) as process:
            await process.event("ready")
            process.terminate()
            ended = await process.ended()
        (event,) = [event for event in ended.events if event["event"] == "observing"]
        assert event == {
            "timestamp": event["timestamp"],
            "level": "warning",
            "event": "observing",
            "meaning": "Core decides on every request, nothing is enforced here",
        }
        assert [event for event in ended.events if "revoked" in event["event"]] == []


class TestScopes:
    async def test_each_key_shows_what_it_used_and_what_it_did_not(self, gateway: Running) -> None:
        """Each key shows the scopes that it used, and those that it did not and that may be removed."""
        key = await gateway.mint("ledgers:*", "balances:read", "*:*")
        unused = await gateway.mint("ledgers:read", owner="ops")
        for target in ("/ledgers", "/ledgers/x", "/balances/x", "/hooks"):
            await gateway.ask("GET", target, key=key.key)
        page = (await scopes(gateway)).json()
        assert page == {
            "since": page["since"],
            "complete": True,
            "left_out": 0,
            "keys": [
                {
                    "key_id": key.id,
                    "owner": "acme",
                    "holds": ["ledgers:*", "balances:read", "*:*"],
                    "used": {"ledgers:*": 2, "balances:read": 1},
                    "unused": ["*:*"],
                    "needs": ["balances:read", "ledgers:read"],
                    "lacks": [],
                }
            ],
        }
        one = (await scopes(gateway, f"?key_id={unused.id}")).json()["keys"]
        assert [(key["owner"], key["used"], key["unused"]) for key in one] == [("ops", {}, ["ledgers:read"])]

    async def test_a_key_that_nobody_knows_is_404(self, gateway: Running) -> None:
        response = await scopes(gateway, "?key_id=api_key_x")
        assert (response.status, response.code) == (404, "APIKEY_NOT_FOUND")

    def test_what_only_report_only_let_pass_is_what_a_key_lacks(self) -> None:
        use, routes = ScopeUse(), shipped_config().routes
        use.note("a", "POST /ledgers")
        use.note("a", "GET /gone")
        assert use.of("a", ("ledgers:read",), routes) == ScopesUsed(
            used={}, unused=("ledgers:read",), needs=("ledgers:write",), lacks=("ledgers:write",)
        )

    def test_a_use_counts_for_the_narrowest_scope_that_is_held(self) -> None:
        use, routes = ScopeUse(), shipped_config().routes
        use.note("a", "POST /ledgers")
        held = ("*:*", "*:write", "ledgers:*")
        assert use.of("a", held, routes).used == {"ledgers:*": 1}
        assert use.of("a", held[:2], routes).used == {"*:write": 1}

    def test_its_memory_is_bounded(self) -> None:
        """When the memory is full, known entries still count, and the report says that it is incomplete."""
        use, routes = ScopeUse(max_noted=2), shipped_config().routes
        for key_id in ("a", "b", "c", "a"):
            use.note(key_id, "GET /ledgers")
        assert (use.keys(), use.complete) == (["a", "b"], False)
        assert use.of("a", ("ledgers:read",), routes).used == {"ledgers:read": 2}

    async def test_a_page_holds_a_thousand_keys(self) -> None:
        """A page lists at most a thousand keys that have a record, and says how many keys it left out."""
        use = ScopeUse()
        for number in range(1_002):
            use.note(f"api_key_{number}", "GET /ledgers")
        page = await ScopesPage(use, MemoryKeyStore(), shipped_config, since=0.0).page({})
        assert page == {"since": "1970-01-01T00:00:00.000Z", "complete": False, "left_out": 2, "keys": []}


def test_the_shipped_ledgers_route_stamps() -> None:
    """The shipped ledgers route stamps, which the tests above rely on."""
    routes = shipped_config().routes
    found = routes.match("POST", ("ledgers",))
    assert found is not None
    assert (found.stamp, compile_routes(routes.routes)) == (Stamp.CREATE, routes)
