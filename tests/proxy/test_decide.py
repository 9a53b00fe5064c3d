"""Decisions for an ingress: the listener `decide.listen`, asked by raw requests in each convention."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from gateway.config import Address
from gateway.config.report_only_dates import end_of_day
from gateway.errors import Code, error_body
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.record import KeyRecord
from gateway.policy.routes import Access, Route, Stamp, compile_routes
from gateway.policy.terms import KeyTerms, Rate
from gateway.server.build import build
from gateway.server.parts import Options
from gateway.wire.client_connection import ClientConnection
from gateway.wire.client_deadlines import ClientLimits
from gateway.wire.clients import Clients
from gateway.wire.exchange import Exchange
from tests.conftest import Start
from tests.core_stand_in import StandInCore, held
from tests.raw_client import PATIENCE, BrokenResponse, RawClient, Response, request
from tests.running import MASTER_KEY, Minted, Running, configured, eventually, shipped_config
from tests.test_error_shape import UnreachableKeyStore

INGRESS = "127.0.0.1"
CLIENT = "127.0.0.9"
LISTENING = {"listen": Address(INGRESS, 0)}
TRUSTED = (ip_network(f"{INGRESS}/32"),)
NGINX, FORWARDED, ENVOY = "/decide/nginx", "/decide/forwarded", "/decide/envoy"
CONVENTIONS = (NGINX, FORWARDED, ENVOY)
NAMES = {NGINX: ("X-Original-Method", "X-Original-URI"), FORWARDED: ("X-Forwarded-Method", "X-Forwarded-Uri")}
NOBODYS = "A" * 43 + "="
READ = "/ledgers?limit=1"

Named = list[tuple[str, str]]


def named(convention: str, method: str, target: str) -> Named:
    """Return the headers that name a request in a convention of headers."""
    return list(zip(NAMES[convention], (method, target), strict=True))


def question(
    convention: str, method: str, target: str, key: str | None, headers: Iterable[tuple[str, str]] = ()
) -> bytes:
    """Return the request with which an ingress asks."""
    if convention == ENVOY:
        return request(method, ENVOY + target, key=key, headers=headers)
    return request("GET", convention, key=key, headers=[*named(convention, method, target), *headers])


@dataclass(slots=True)
class Deciding:
    """A running gateway, and the connections of an ingress to it."""

    running: Running

    async def connect(self, local: str = INGRESS) -> RawClient:
        return await self.running.connect(ingress_address(self), local=local)

    async def send(self, data: bytes, local: str = INGRESS) -> Response:
        async with await self.connect(local) as client:
            return await client.call(data, head=data.startswith(b"HEAD"))

    async def ask(
        self,
        method: str,
        target: str,
        key: str | None = None,
        *,
        convention: str = FORWARDED,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Response:
        return await self.send(question(convention, method, target, key, headers))

    async def entries(self, count: int) -> list[dict[str, Any]]:
        """Return the lines of requests once there are so many."""
        await eventually(lambda: self.running.log.getvalue().count('"event":"request"') >= count, "lines", 5)
        lines = map(json.loads, self.running.log.getvalue().splitlines())
        return [line for line in lines if line["event"] == "request"]


@pytest.fixture
def decide(start_gateway: Start) -> Any:
    """Return a function that starts a gateway that decides; its arguments are those of `start_gateway`."""

    async def begin(*, unstamped: str = "deny", connections: int = 1024, **changes: Any) -> Deciding:
        decides = LISTENING | {"unstamped": unstamped, "connections": connections}
        return Deciding(await start_gateway(decide=decides, trusted_proxies=TRUSTED, **changes))

    return begin


@pytest.fixture
async def deciding(decide: Any) -> Deciding:
    started: Deciding = await decide()
    return started


def code(response: Response) -> str | None:
    return response.code if response.body else None


class TestVerdict:
    async def test_is_that_of_the_pipeline_that_forwards(self, deciding: Deciding) -> None:
        """For each route and each kind of caller the decision is what the gateway itself says, but where only
        the gateway can do what the route demands."""
        running = deciding.running
        keys = {
            "all": (await running.mint("*:*")).key,
            "reads": (await running.mint("ledgers:read", "balances:read", "api-keys:read")).key,
            "expired": (await running.mint("*:*", expired=True)).key,
            "master": MASTER_KEY,
            "unknown": NOBODYS,
            "none": None,
        }
        asked = {(route.method, route.pattern) for route in shipped_config().routes.routes}
        asked |= {("PATCH", "/ledgers"), ("GET", "/nothing"), ("GET", "/api-keys/x"), ("GET", "//ledgers")}
        different = []
        async with await deciding.connect() as ingress, await running.connect() as client:
            for method, path in sorted(asked):
                for who, key in keys.items():
                    decided = await ingress.call(question(FORWARDED, method, path, key))
                    served = await client.ask(method, path, key=key, body=b"{}" if method == "POST" else None)
                    own = served.value("proxy-status") is not None
                    verdict = (served.status, code(served)) if own else (200, None)
                    if (decided.status, code(decided)) != verdict:
                        different.append((f"{method} {path}", who, decided.status, code(decided)))
        assert {(status, code) for *_, status, code in different} == {(403, Code.NOT_DECIDED.code)}
        routes = {route.name: route for route in shipped_config().routes.routes}
        needing = {
            (name, who)
            for name, route in routes.items()
            for who in ("all", "reads", "master")
            if route.served or route.access is Access.MASTER or route.stamp is not Stamp.NONE
            if who == "master"
            or (route.access is Access.SCOPES and (who == "all" or route.scopes == ("api-keys:read",)))
        }
        assert {(name, who) for name, who, *_ in different} == needing

    async def test_nothing_reaches_core(self, deciding: Deciding, upstream: StandInCore) -> None:
        key = (await deciding.running.mint("ledgers:read")).key
        assert [(await deciding.ask("GET", READ, key, convention=way)).status for way in CONVENTIONS] == [
            200
        ] * 3
        assert upstream.take() == []

    async def test_an_allowed_request_names_key_and_owner(self, deciding: Deciding) -> None:
        """They are percent-encoded, because an owner is any text, and the body is empty."""
        minted = await deciding.running.mint("ledgers:read", owner="a b/ö\r\nX-Blnk-Key: x")
        response = await deciding.ask("GET", READ, minted.key)
        assert (response.status, response.body) == (200, b"")
        assert response.value("x-blnk-key-id") == minted.id
        assert response.value("x-blnk-owner") == "a%20b%2F%C3%B6%0D%0AX-Blnk-Key:%20x"
        assert response.value("x-blnk-key") is None

    @pytest.mark.parametrize(
        ("target", "key", "key_id"), [("/health", None, ""), ("/ledgers", MASTER_KEY, "master")]
    )
    async def test_names_that_are_empty_are_sent(
        self, deciding: Deciding, target: str, key: str | None, key_id: str
    ) -> None:
        """An ingress then replaces what its client sent under these names."""
        response = await deciding.ask("GET", target, key)
        assert response.status == 200
        assert (response.values("x-blnk-key-id"), response.values("x-blnk-owner")) == ([key_id], [""])

    async def test_unstamped_opens_only_what_lacks_the_stamp(self, decide: Any) -> None:
        """`unstamped: allow` opens routes that stamp; `/api-keys` and `master` routes stay closed."""
        deciding: Deciding = await decide(unstamped="allow")
        key = (await deciding.running.mint("*:*")).key
        asked = [
            await deciding.ask("POST", "/transactions", key),
            await deciding.ask("GET", "/api-keys", key),
            await deciding.ask("POST", "/balances-snapshots", MASTER_KEY),
        ]
        assert [(each.status, code(each)) for each in asked] == [
            (200, None),
            (403, Code.NOT_DECIDED.code),
            (403, Code.NOT_DECIDED.code),
        ]

    async def test_what_report_only_lets_pass_is_allowed_and_logged(self, decide: Any) -> None:
        tomorrow = end_of_day((datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%d"))
        route = Route("GET", "/ledgers", Access.SCOPES, ("ledgers:read",), report_until=tomorrow)
        deciding: Deciding = await decide(routes=compile_routes([route]))
        key = (await deciding.running.mint("balances:read")).key
        assert (await deciding.ask("GET", "/ledgers", key)).status == 200
        (entry,) = await deciding.entries(1)
        assert (entry["decision"], entry["would_code"]) == ("would_deny", Code.INSUFFICIENT.code)

    async def test_counts_against_the_rate_of_the_key(self, decide: Any) -> None:
        """Decisions and requests are limited together."""
        deciding: Deciding = await decide(limits={"rate": Rate(1)})
        key = (await deciding.running.mint("ledgers:read")).key
        assert (await deciding.running.ask("GET", READ, key=key)).status == 200
        refused = await deciding.ask("GET", READ, key)
        assert (refused.status, code(refused)) == (429, Code.RATE_LIMITED.code)
        assert refused.value("retry-after") == "1"
        assert refused.value("ratelimit") == '"default";r=0;t=1'

    async def test_does_not_hold_the_concurrency_of_the_key(self, deciding: Deciding) -> None:
        """A decision is no request in progress: its ingress does not say when that ends."""
        key = await with_terms(deciding.running, KeyTerms(concurrency=1))
        assert [(await deciding.ask("GET", READ, key)).status for _ in range(3)] == [200, 200, 200]

    @pytest.mark.parametrize(
        ("forwarded", "status"),
        [(CLIENT, 200), (f"{CLIENT}, {INGRESS}", 200), ("10.0.0.1", 403), (None, 403)],
    )
    async def test_a_key_is_used_from_the_address_of_the_client(
        self, deciding: Deciding, forwarded: str | None, status: int
    ) -> None:
        """`allow_from` is compared with what the ingress says in X-Forwarded-For, not with the ingress."""
        key = await with_terms(deciding.running, KeyTerms(allow_from=(ip_network(f"{CLIENT}/32"),)))
        headers = [] if forwarded is None else [("X-Forwarded-For", forwarded)]
        response = await deciding.ask("GET", READ, key, headers=headers)
        expected = None if status == 200 else Code.ADDRESS_DENIED.code
        assert (response.status, code(response)) == (status, expected)

    async def test_a_key_that_is_bound_to_a_certificate_is_refused(self, deciding: Deciding) -> None:
        """The gateway has not seen the certificate of the client."""
        key = await with_terms(deciding.running, KeyTerms(certificate="0" * 64))
        response = await deciding.ask("GET", READ, key)
        assert (response.status, code(response)) == (403, Code.CERTIFICATE_MISMATCH.code)

    async def test_a_use_of_the_key_is_noted(self, deciding: Deciding) -> None:
        minted = await deciding.running.mint("ledgers:read")
        assert (await deciding.ask("GET", READ, minted.key)).status == 200
        await deciding.running.gateway.close()
        (record,) = await deciding.running.gateway.store.owned(minted.owner)
        assert record.last_used_at is not None


async def with_terms(running: Running, terms: KeyTerms) -> str:
    """Return a key with these terms, which reads ledgers."""
    minted: Minted = await running.mint("ledgers:read")
    await running.gateway.store.revise(minted.id, lambda record: replace(record, terms=terms))
    return minted.key


class TestConvention:
    """An ingress gets the truest status that it takes for a refusal; the true one is in X-Blnk-Status."""

    @pytest.mark.parametrize(
        ("convention", "statuses"),
        [
            (NGINX, [403, 401, 403, 403, 403]),
            (FORWARDED, [400, 401, 403, 404, 503]),
            (ENVOY, [400, 401, 403, 404, 403]),
        ],
    )
    async def test_its_statuses(self, decide: Any, convention: str, statuses: list[int]) -> None:
        deciding: Deciding = await decide(store=UnreachableKeyStore())
        asked = [
            ("GET", "//ledgers", MASTER_KEY, Code.AMBIGUOUS_TARGET),
            ("GET", "/ledgers", None, Code.MISSING_KEY),
            ("GET", "/api-keys", MASTER_KEY, Code.NOT_DECIDED),
            ("GET", "/nothing", MASTER_KEY, Code.NOT_FOUND),
            ("GET", "/ledgers", NOBODYS, Code.KEY_STORE_UNAVAILABLE),
        ]
        for (method, target, key, refused), status in zip(asked, statuses, strict=True):
            response = await deciding.ask(method, target, key, convention=convention)
            body = error_body(refused.code, refused.message)
            assert (response.status, response.body) == (status, body)
            assert response.value("x-blnk-status") == str(refused.status)
            # nginx drops the body, and takes it from this header.
            assert response.value("x-blnk-error") == (body.decode() if convention == NGINX else None)
            assert response.value("proxy-status") == f"blnk-gateway; error={refused.proxy_status}"

    async def test_a_refused_head_has_no_body(self, deciding: Deciding) -> None:
        async with await deciding.connect() as ingress:
            for _ in range(2):
                response = await ingress.call(question(ENVOY, "HEAD", READ, None), head=True)
                assert (response.status, response.body) == (401, b"")

    async def test_a_head_that_nginx_asks_about_has_a_body(self, deciding: Deciding) -> None:
        """It asks with GET, whatever the method of its client."""
        response = await deciding.ask("HEAD", READ, convention=NGINX)
        assert (response.status, code(response)) == (401, Code.MISSING_KEY.code)

    async def test_the_query_of_the_question_is_no_part_of_it(self, deciding: Deciding) -> None:
        """Caddy repeats the query of its client there."""
        key = (await deciding.running.mint("ledgers:read")).key
        asked = request("GET", f"{FORWARDED}?a=/b", key=key, headers=named(FORWARDED, "GET", READ))
        assert (await deciding.send(asked)).status == 200


GOOD = {way: named(way, "GET", READ) for way in NAMES}
OTHER = {way: named(way, "GET", "/balances") for way in NAMES}
UNCLEAR: list[tuple[str, Named]] = [
    (NGINX, []),
    (NGINX, GOOD[NGINX][:1]),
    (NGINX, GOOD[NGINX][1:]),
    (NGINX, GOOD[FORWARDED]),
    (NGINX, [*GOOD[NGINX], ("X-Original-URI", READ)]),
    (NGINX, [*GOOD[NGINX], ("x-original-uri", "/balances")]),
    (NGINX, [*GOOD[NGINX], ("X-Original-Method", "GET")]),
    (NGINX, [*GOOD[NGINX], *OTHER[FORWARDED]]),
    (NGINX, [*GOOD[NGINX], OTHER[FORWARDED][1]]),
    (FORWARDED, [*GOOD[FORWARDED], *OTHER[NGINX]]),
    (FORWARDED, [*GOOD[FORWARDED], OTHER[NGINX][0]]),
    (FORWARDED, [*GOOD[FORWARDED], OTHER[FORWARDED][1]]),
    (FORWARDED, GOOD[NGINX]),
    (f"{ENVOY}{READ}", OTHER[NGINX]),
    (f"{ENVOY}{READ}", OTHER[FORWARDED][1:]),
    (ENVOY, []),
    (f"{ENVOY}*", []),
    (f"{ENVOY}?x=/ledgers", []),
    ("/decide", GOOD[NGINX]),
    ("/decide/", GOOD[FORWARDED]),
    ("/decide/nginx/", GOOD[NGINX]),
    ("/decide/nginx/ledgers", GOOD[NGINX]),
    ("/decide/NGINX", GOOD[NGINX]),
    ("//decide/nginx", GOOD[NGINX]),
    ("/decide/x/../nginx", GOOD[NGINX]),
    ("/ledgers", []),
    ("http://gateway.test/decide/nginx", GOOD[NGINX]),
]


class TestQuestion:
    @pytest.mark.parametrize(("target", "headers"), UNCLEAR)
    async def test_that_is_not_clear_is_refused(
        self, deciding: Deciding, target: str, headers: Named
    ) -> None:
        """A request that is named by two conventions, twice, in half or not at all is never guessed."""
        response = await deciding.send(request("GET", target, key=MASTER_KEY, headers=headers))
        assert (response.status, response.value("x-blnk-status")) in ((400, "400"), (403, "400"))
        assert code(response) == Code.UNCLEAR_REQUEST.code

    @pytest.mark.parametrize("convention", CONVENTIONS)
    @pytest.mark.parametrize(
        "target",
        ["//ledgers", "/ledgers/../hooks", "/ledgers%2Fx", "/ledgers/%2e%2e/x", "/led\\gers", "/x/%5cy"],
    )
    async def test_about_an_ambiguous_target_is_refused(
        self, deciding: Deciding, convention: str, target: str
    ) -> None:
        response = await deciding.ask("GET", target, MASTER_KEY, convention=convention)
        assert (response.value("x-blnk-status"), code(response)) == ("400", Code.AMBIGUOUS_TARGET.code)

    @pytest.mark.parametrize("convention", [NGINX, FORWARDED])
    @pytest.mark.parametrize("target", ["http://core/ledgers", "ledgers", "*", "core:80"])
    async def test_about_a_target_in_another_form_is_refused(
        self, deciding: Deciding, convention: str, target: str
    ) -> None:
        response = await deciding.ask("GET", target, MASTER_KEY, convention=convention)
        assert (response.value("x-blnk-status"), code(response)) == ("400", Code.AMBIGUOUS_TARGET.code)

    @pytest.mark.parametrize("convention", CONVENTIONS)
    async def test_with_two_keys_is_refused(self, deciding: Deciding, convention: str) -> None:
        key = (await deciding.running.mint("ledgers:read")).key
        response = await deciding.ask("GET", READ, key, convention=convention, headers=[("X-Blnk-Key", key)])
        assert (response.status, code(response)) == (401, Code.INVALID_KEY.code)

    @pytest.mark.parametrize("target", [NGINX, FORWARDED, f"{ENVOY}{READ}", "/"])
    async def test_of_anybody_but_a_trusted_proxy_is_refused(self, deciding: Deciding, target: str) -> None:
        """Whatever it asks, and whatever key it has."""
        headers = GOOD.get(target, [])
        asked = request("GET", target, key=MASTER_KEY, headers=[*headers, ("X-Forwarded-For", INGRESS)])
        response = await deciding.send(asked, local=CLIENT)
        assert (response.status, code(response)) == (403, Code.UNTRUSTED_PEER.code)
        (entry,) = await deciding.entries(1)
        assert (entry["client"], entry["key_id"]) == (CLIENT, "")

    async def test_with_a_body_is_decided_without_it(self, deciding: Deciding) -> None:
        """The body is not waited for, and the connection ends, because the next request cannot be found."""
        key = (await deciding.running.mint("ledgers:read")).key
        for framing in (("Content-Length", "1000000"), ("Transfer-Encoding", "chunked")):
            response = await deciding.ask("GET", READ, key, convention=NGINX, headers=[framing])
            assert (response.status, response.value("connection")) == (200, "close")

    async def test_that_is_malformed_is_refused_as_nginx_understands_it(self, deciding: Deciding) -> None:
        response = await deciding.send(b"GET /decide/nginx HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n")
        assert (response.status, response.value("x-blnk-status")) == (403, "400")


class TestListener:
    async def test_is_off_by_default(self, gateway: Running) -> None:
        """The listener of clients knows no decisions either."""
        assert gateway.gateway.decide_address is None
        asked = request("GET", NGINX, key=MASTER_KEY, headers=GOOD[NGINX])
        async with await gateway.connect() as client:
            assert (await client.call(asked)).code == Code.NOT_FOUND.code

    async def test_has_a_bound_of_its_own(self, decide: Any) -> None:
        """One connection too many is refused as nginx understands it, and clients are not affected."""
        deciding: Deciding = await decide(connections=2)
        ingress = [await deciding.connect() for _ in range(2)]
        for connection in ingress:
            assert (await connection.call(question(NGINX, "GET", READ, None))).status == 401
        async with await deciding.connect() as third:
            refused = await third.response()
        assert (refused.status, refused.value("x-blnk-status")) == (403, "503")
        assert (await deciding.running.ask("GET", "/health")).status == 200

    async def test_half_sent_questions_hold_a_part_of_the_memory(self, deciding: Deciding) -> None:
        """Of more than 8 MiB the sender is refused some, as nginx understands it."""
        senders = [await deciding.connect() for _ in range(200)]
        lines = b"".join(b"X-%d: %b\r\n" % (number, b"x" * 8000) for number in range(7))
        for sender in senders:
            await sender.send(b"GET /decide/nginx HTTP/1.1\r\n" + lines)
        async with asyncio.timeout(PATIENCE):
            done, waiting = await asyncio.wait(
                {asyncio.ensure_future(sender.response()) for sender in senders},
                return_when=asyncio.FIRST_COMPLETED,
            )
        for each in waiting:
            each.cancel()
        assert {each.result().value("x-blnk-status") for each in done} == {"503"}

    async def test_slow_questions_are_cut(self, decide: Any) -> None:
        deciding: Deciding = await decide(timeouts={"head": 0.2, "idle": 0.2})
        async with await deciding.connect() as slow:
            await slow.send(b"GET /decide/nginx HTTP/1.1\r\n")
            refused = await slow.response()
        assert (refused.status, refused.value("x-blnk-status")) == (403, "408")
        async with await deciding.connect() as idle:
            assert await idle.ended()

    async def test_a_decision_is_logged_and_counted_apart(self, deciding: Deciding) -> None:
        """Its line has the request that was asked about; the metrics of requests do not count it."""
        minted = await deciding.running.mint("ledgers:read")
        agent = [("User-Agent", "curl"), ("X-Forwarded-For", CLIENT), ("X-Request-Id", "of-the-ingress")]
        await deciding.ask("GET", "/ledgers/l1?secret=1", minted.key, convention=NGINX, headers=agent)
        await deciding.ask("GET", "/nothing", minted.key, convention=NGINX)
        allowed, refused = await deciding.entries(2)
        assert {name: allowed[name] for name in ("request_id", "client", "user_agent", "method", "path")} == {
            "request_id": "of-the-ingress",
            "client": CLIENT,
            "user_agent": "curl",
            "method": "GET",
            "path": "/ledgers/l1",
        }
        members = ("route", "key_id", "owner", "decision", "code", "status", "answered_by", "upstream_ms")
        assert [allowed[name] for name in members] == [
            "GET /ledgers/{id}", minted.id, "acme", "allow", "", 200, "decide", 0.0,
        ]  # fmt: skip
        # The true status, although nginx got 403.
        assert [refused[name] for name in ("status", "code", "answered_by")] == [
            403, Code.UNKNOWN_RESOURCE.code, "decide",
        ]  # fmt: skip
        page = deciding.running.gateway.metrics.exposition("")[0].decode()
        assert (
            'blnk_gateway_decisions_total{code="",method="GET",route="GET /ledgers/{id}",status="200"} 1.0'
            in page
        )
        assert "blnk_gateway_decision_duration_seconds_count 2.0" in page
        assert "blnk_gateway_requests_total{" not in page

    async def test_what_a_client_makes_up_adds_no_series(self, deciding: Deciding) -> None:
        for number in range(20):
            await deciding.ask(f"MADE{number}", f"/up/{number}", MASTER_KEY, convention=NGINX)
        page = deciding.running.gateway.metrics.exposition("")[0].decode()
        assert page.count("blnk_gateway_decisions_total{") == 1

    async def test_decides_until_the_clients_are_served(self, decide: Any, upstream: StandInCore) -> None:
        """In a drain it closes last: an ingress asks as long as it has requests for this gateway."""
        deciding: Deciding = await decide()
        running, key = deciding.running, (await deciding.running.mint("ledgers:read")).key
        release = asyncio.Event()
        upstream.behaviour = held(release)
        client = await running.connect()
        await client.send(request("GET", READ, key=key))
        await upstream.arrived()
        kept = await deciding.connect()
        assert (await kept.call(question(NGINX, "GET", READ, key))).status == 200
        draining = asyncio.create_task(running.gateway.drain(0))
        await eventually(lambda: not connects_now(running.gateway.address), "the end of listen")
        assert (await deciding.ask("GET", READ, key)).status == 200
        release.set()
        assert (await client.response()).status == 200
        async with asyncio.timeout(10):
            assert await draining == 0
        with pytest.raises((OSError, BrokenResponse)):
            await deciding.ask("GET", READ, key)

    async def test_a_decision_that_is_under_way_is_made_in_a_drain(self, decide: Any) -> None:
        """It is refused as an unknown key, or because the look-up took too long: never cut."""
        store = HeldKeyStore()
        deciding: Deciding = await decide(store=store)
        async with await deciding.connect() as ingress, await deciding.connect() as other:
            await ingress.send(question(NGINX, "GET", READ, NOBODYS))
            await store.asked.wait()
            draining = asyncio.create_task(deciding.running.gateway.drain(0))
            while (await other.call(question(ENVOY, "GET", "/health", None))).value("connection") is None:
                await asyncio.sleep(0.01)
            store.release.set()
            response = await ingress.response()
            assert response.value("x-blnk-status") in ("401", "503")
            assert await draining == 0

    async def test_observe_does_not_change_its_decisions(self, upstream: StandInCore) -> None:
        """`serve --observe` enforces nothing for its own clients; an ingress forwards with the master key."""
        changes: dict[str, Any] = {"decide": LISTENING, "trusted_proxies": TRUSTED}
        config = configured(upstream, changes)
        gateway = build(config, io.StringIO(), Options(observe=True))
        await gateway.start()
        running = Running(gateway, io.StringIO(), upstream)
        assert (await Deciding(running).ask("GET", READ)).code == Code.MISSING_KEY.code
        await running.close()


class HeldKeyStore(MemoryKeyStore):
    """A key store that responds to look-ups once it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.release = asyncio.Event()

    async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
        self.asked.set()
        await self.release.wait()
        return await super().get_by_digest(digest, client)


async def test_the_certificate_of_an_ingress_is_not_that_of_its_client() -> None:
    """The exchange of the request that is asked about has none."""
    seen = []

    async def handle(asking: Exchange) -> None:
        made[0].certificate = "ab"
        other = asking.about("PUT", READ)
        seen.append((other.method, other.target, other.peer, other.certificate))
        asking.send(b"HTTP/1.1 204 No Content\r\n\r\n", b"", 204)

    def connect() -> ClientConnection:
        made.append(clients.connect())
        return made[0]

    loop = asyncio.get_running_loop()
    made: list[ClientConnection] = []
    clients = Clients(handle, lambda *_: b"", ClientLimits(2, head=5, body=5, idle=5, write=5), loop)
    async with await loop.create_server(connect, INGRESS, 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with await RawClient.connect(Address(INGRESS, port)) as client:
            assert (await client.ask("GET", ENVOY)).status == 204
    assert seen == [("PUT", READ, INGRESS, "")]


def ingress_address(deciding: Deciding) -> Address:
    address = deciding.running.gateway.decide_address
    assert address is not None
    return address


def connects_now(address: Address) -> bool:
    try:
        socket.create_connection((address.host, address.port), timeout=1).close()
    except OSError:
        return False
    return True
