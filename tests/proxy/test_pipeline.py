"""One request from top to bottom: its caller, what crosses, what is logged, and which limits refuse it.

Rules kept here:
- test_error_shape tests that every code of the catalogue comes over HTTP; test_matrix tests who may take
  which route.
"""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Secret
from gateway.errors import Code
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.quota import NO_QUOTA, Quota
from gateway.keys.record import KeyRecord
from gateway.policy.terms import Rate
from tests.conftest import Start
from tests.core_stand_in import Exchange, StandInCore, abort, held, of_size, raw, responding
from tests.raw_client import BrokenResponse, request
from tests.running import MASTER_KEY, Minted, Running, eventually
from tests.wire.asserting import READ, STAMPED, STREAMED, assert_error

LOOPBACK = {"trusted_proxies": (ip_network("127.0.0.0/8"),)}
OTHERS = {"trusted_proxies": (ip_network("10.0.0.0/8"),)}
BLAMES_KEY = b'{"error":"no","error_detail":{"code":"AUTH_INVALID_API_KEY","message":"no"}}'
NEW_KEY = b'{"name":"k","owner":"acme","scopes":["a:read"],"expires_at":"2099-01-01T00:00:00Z"}'


class FailingStore(MemoryKeyStore):
    """A key store that fails while `failing` is set, and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = False
        self.asked = 0

    async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
        self.asked += 1
        self._fail()
        return await super().get_by_digest(digest, client)

    async def add(self, record: KeyRecord, quota: Quota = NO_QUOTA, *, terms_only: bool = False) -> None:
        self._fail()
        await super().add(record, quota)

    async def last_position(self) -> str:
        # With the proof that this would give, requests would not ask the store each time.
        raise StoreUnavailableError

    def _fail(self) -> None:
        if self.failing:
            raise StoreUnavailableError


def lines(log: str) -> list[dict[str, Any]]:
    """Return the request lines of a log."""
    return [line for line in map(json.loads, log.splitlines()) if line["event"] == "request"]


async def line_of(gateway: Running, request_id: str | None) -> dict[str, Any]:
    """Return the log line of a request."""
    assert request_id is not None
    (line,) = [
        entry for entry in lines(await gateway.logged(request_id)) if entry["request_id"] == request_id
    ]
    return line


class TestKeys:
    async def test_a_failing_store_is_503_and_never_401(self, start_gateway: Start) -> None:
        """A failing store is 503 and never 401, so that nobody thinks that his key is wrong."""
        store = FailingStore()
        gateway = await start_gateway(store=store)
        key = (await gateway.mint("ledgers:read")).key
        store.failing = True
        for sent in (key, "A" * 43 + "="):
            response = await gateway.ask("GET", READ, key=sent)
            assert_error(response, Code.KEY_STORE_UNAVAILABLE)
            assert response.value("retry-after") == "1"
            assert response.value("www-authenticate") is None

    async def test_nothing_is_cached_from_a_failure(self, start_gateway: Start) -> None:
        """When the store is back, the next request is served, since failures are not cached."""
        store = FailingStore()
        gateway = await start_gateway(store=store)
        key = (await gateway.mint("ledgers:read")).key
        store.failing = True
        assert (await gateway.ask("GET", READ, key=key)).status == 503
        store.failing = False
        assert (await gateway.ask("GET", READ, key=key)).status == 200
        assert (await gateway.ask("GET", READ, key="A" * 43 + "=")).status == 401
        assert store.asked == 3

    async def test_a_failing_store_does_not_stop_the_master_key_or_public_routes(
        self, start_gateway: Start
    ) -> None:
        """The master key and public routes work while the store fails."""
        store = FailingStore()
        store.failing = True
        gateway = await start_gateway(store=store)
        assert (await gateway.ask("GET", READ, key=MASTER_KEY)).status == 200
        assert (await gateway.ask("GET", "/health")).status == 200

    async def test_a_key_that_cannot_be_stored_is_503(self, start_gateway: Start) -> None:
        """A key that the store could not save is 503, and is not shown."""
        store = FailingStore()
        store.failing = True
        gateway = await start_gateway(store=store)
        response = await gateway.ask("POST", "/api-keys", key=MASTER_KEY, body=NEW_KEY)
        assert_error(response, Code.KEY_STORE_UNAVAILABLE)

    @pytest.mark.parametrize("target", [READ, "/hooks", "/nothing", "/a//b", "/api-keys"])
    async def test_a_denied_master_key_is_an_unknown_key(
        self, start_gateway: Start, upstream: StandInCore, target: str
    ) -> None:
        """With `keys.master: deny` a client's master key is an unknown key, whatever it asks for."""
        gateway = await start_gateway(keys={"master": "deny"})
        assert_error(await gateway.ask("GET", target, key=MASTER_KEY), Code.INVALID_KEY)
        assert upstream.targets == []

    @pytest.mark.parametrize("name", ["Authorization", "X-API-Key", "X_Blnk_Key", "x-blnk_key"])
    async def test_a_key_in_another_header_is_invalid(self, gateway: Running, name: str) -> None:
        """A key in another header is INVALID, as in Core's documentation, where Core itself says MISSING."""
        key = (await gateway.mint("ledgers:read")).key
        value = f"Bearer {key}" if name == "Authorization" else key
        assert_error(await gateway.ask("GET", READ, headers=[(name, value)]), Code.INVALID_KEY)

    async def test_a_key_in_the_query_is_missing(self, gateway: Running) -> None:
        """A key in the query counts as missing, and its text is not logged."""
        key = (await gateway.mint("ledgers:read")).key
        response = await gateway.ask("GET", f"/ledgers?X-Blnk-Key={key}&api_key={key}")
        assert_error(response, Code.MISSING_KEY)

    async def test_a_rate_limited_key_is_429(self, start_gateway: Start, upstream: StandInCore) -> None:
        """A request over the key's rate is 429 and does not reach Core; another key's does."""
        gateway = await start_gateway(limits={"rate": Rate(1)})
        one, other = [(await gateway.mint("ledgers:read")).key for _ in range(2)]
        assert (await gateway.ask("GET", "/ledgers/one", key=one)).status == 200
        refused = await gateway.ask("GET", "/ledgers/two", key=one)
        assert_error(refused, Code.RATE_LIMITED)
        assert refused.value("retry-after") == "1"
        assert (await gateway.ask("GET", "/ledgers/other", key=other)).status == 200
        assert upstream.targets == ["/ledgers/one", "/ledgers/other"]

    @pytest.mark.parametrize(("target", "status"), [("/balances", 403), ("/ledgers/x/y", 404)])
    async def test_what_is_refused_counts_as_well(
        self, start_gateway: Start, target: str, status: int
    ) -> None:
        """Requests that get 403 and 404 count for the rate."""
        gateway = await start_gateway(limits={"rate": Rate(2)})
        key = (await gateway.mint("ledgers:read")).key
        statuses = [(await gateway.ask("GET", target, key=key)).status for _ in range(3)]
        assert statuses == [status, status, 429]

    async def test_a_key_that_is_not_live_is_401_at_any_rate(self, start_gateway: Start) -> None:
        """A key that is not live is 401, whatever its rate."""
        gateway = await start_gateway(limits={"rate": Rate(1)})
        key = (await gateway.mint("ledgers:read", revoked=True)).key
        assert [(await gateway.ask("GET", "/ledgers", key=key)).status for _ in range(3)] == [401] * 3


class TestRefusedByCore:
    async def test_our_key_refused_is_502_and_no_fault_of_the_client(
        self, gateway: Running, upstream: StandInCore
    ) -> None:
        """A 401 about the master key is counted and logged as the gateway's fault; its text stays inside."""
        key = (await gateway.mint("ledgers:read")).key
        upstream.script(responding("401 Unauthorized", BLAMES_KEY, [("WWW-Authenticate", "Core")]))
        response = await gateway.ask("GET", READ, key=key)
        assert_error(response, Code.UPSTREAM_REFUSED)
        assert response.value("www-authenticate") is None
        log = await gateway.logged("core refused the master key")
        (event,) = [
            line for line in map(json.loads, log.splitlines()) if line["event"].startswith("core ref")
        ]
        assert event == {
            "timestamp": event["timestamp"],
            "level": "error",
            "event": "core refused the master key",
            "upstream": upstream.url,
        }
        page, _ = gateway.gateway.metrics.exposition("")
        assert "blnk_gateway_upstream_refused_total 1.0" in page.decode().splitlines()

    async def test_many_refusals_are_one_line_and_counted(
        self, gateway: Running, upstream: StandInCore
    ) -> None:
        """Refusals of the master key are counted, and logged once a minute."""
        key = (await gateway.mint("ledgers:read")).key
        upstream.script(*[responding("401 Unauthorized", BLAMES_KEY)] * 5)
        for _ in range(5):
            assert_error(await gateway.ask("GET", READ, key=key), Code.UPSTREAM_REFUSED)
        gateway.gateway.log.info("mark")
        log = await gateway.logged("mark")
        page, _ = gateway.gateway.metrics.exposition("")
        assert log.count("core refused the master key") == 1
        assert "blnk_gateway_upstream_refused_total 5.0" in page.decode().splitlines()

    @pytest.mark.parametrize(
        "pieces",
        [
            [b"Content-Length: %d\r\n\r\n" % len(BLAMES_KEY), BLAMES_KEY],
            [b"Content-Length: %d\r\n\r\n" % len(BLAMES_KEY), BLAMES_KEY[:40], BLAMES_KEY[40:]],
            [b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(BLAMES_KEY), BLAMES_KEY)],
            [b"Connection: close\r\n\r\n", BLAMES_KEY],
        ],
        ids=["length", "length, in pieces", "chunked", "until its end"],
    )
    async def test_it_is_noticed_however_it_comes(
        self, gateway: Running, upstream: StandInCore, pieces: list[bytes]
    ) -> None:
        """A refusal of the master key is noticed however a proxy before Core cuts or frames it."""
        key = (await gateway.mint("ledgers:read")).key
        upstream.script(raw(b"HTTP/1.1 401 Unauthorized\r\n" + pieces[0], *pieces[1:], pause=0.05))
        assert_error(await gateway.ask("GET", READ, key=key), Code.UPSTREAM_REFUSED)

    @pytest.mark.parametrize(
        "body", [b"", b'{"error":"log in"}', b'{"error_detail":{"code":"GEN_X"}}', b"A" * 200_000]
    )
    async def test_another_401_passes_through(
        self, gateway: Running, upstream: StandInCore, body: bytes
    ) -> None:
        """A 401 of Core without an AUTH code passes."""
        key = (await gateway.mint("ledgers:read")).key
        upstream.script(responding("401 Unauthorized", body))
        response = await gateway.ask("GET", READ, key=key)
        assert (response.status, response.body, response.values("proxy-status")) == (401, body, [])

    async def test_a_401_on_a_public_route_passes_through(
        self, gateway: Running, upstream: StandInCore
    ) -> None:
        """A 401 on a public route passes, since no key of the gateway was sent."""
        upstream.script(responding("401 Unauthorized", BLAMES_KEY))
        response = await gateway.ask("GET", "/health")
        assert (response.status, response.body) == (401, BLAMES_KEY)

    async def test_a_rotated_key_works_with_the_request_that_finds_it(
        self, start_gateway: Start, upstream: StandInCore, tmp_path: Path
    ) -> None:
        """`master_key_file` is read again after a refusal, and the request is sent again with the new key."""
        file = tmp_path / "master"
        file.write_text(MASTER_KEY + "\n")
        gateway = await start_gateway(upstream={"master_key": Secret(""), "master_key_file": file})
        key = (await gateway.mint("ledgers:read")).key
        upstream.master_key = rotated = "mk-rotated-of-the-tests"
        gateway.secrets.add(rotated)
        # Core changes its key first: its 401 to the old key makes the gateway read the file.
        assert_error(await gateway.ask("GET", READ, key=key), Code.UPSTREAM_REFUSED)
        file.write_text(rotated + "\n")
        assert (await gateway.ask("GET", READ, key=key)).status == 200
        assert upstream.requests[-1].values("x-blnk-key") == [rotated]

    async def test_the_rotated_key_is_the_one_that_clients_may_send(
        self, start_gateway: Start, upstream: StandInCore, tmp_path: Path
    ) -> None:
        """After a rotation the old master key is unknown, and clients may send the new one."""
        file = tmp_path / "master"
        file.write_text(MASTER_KEY)
        gateway = await start_gateway(upstream={"master_key": Secret(""), "master_key_file": file})
        upstream.master_key = rotated = "mk-rotated-of-the-tests"
        gateway.secrets.add(rotated)
        file.write_text(rotated)
        assert (await gateway.ask("GET", READ, key=MASTER_KEY)).status == 200
        assert_error(await gateway.ask("GET", READ, key=MASTER_KEY), Code.INVALID_KEY)
        assert (await gateway.ask("GET", READ, key=rotated)).status == 200

    async def test_an_unreadable_file_leaves_the_key_as_it_was(
        self, start_gateway: Start, upstream: StandInCore, tmp_path: Path
    ) -> None:
        """A file that cannot be read during its rotation leaves the key as it was."""
        file = tmp_path / "master"
        file.write_text(MASTER_KEY)
        gateway = await start_gateway(upstream={"master_key": Secret(""), "master_key_file": file})
        key = (await gateway.mint("ledgers:read")).key
        file.unlink()
        upstream.script(responding("401 Unauthorized", BLAMES_KEY))
        assert_error(await gateway.ask("GET", READ, key=key), Code.UPSTREAM_REFUSED)
        assert (await gateway.ask("GET", READ, key=key)).status == 200


SPOKEN = [
    ("X-Forwarded-For", "203.0.113.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "api.example"),
    ("X-Forwarded-Port", "443"),
    ("Forwarded", "for=203.0.113.7"),
    ("X-Real-IP", "203.0.113.7"),
    ("X-Request-Id", "edge-1"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "a=b"),
    ("baggage", "c=d"),
]


class TestTrustedProxies:
    async def test_their_forwarding_headers_cross(self, start_gateway: Start, upstream: StandInCore) -> None:
        """A trusted proxy's forwarding headers cross once, with the address appended and the same trace."""
        gateway = await start_gateway(**LOOPBACK)
        response = await gateway.ask("GET", READ, key=MASTER_KEY, headers=SPOKEN)
        (got,) = upstream.requests
        expected = {name: [value] for name, value in SPOKEN}
        expected["X-Forwarded-For"] = ["203.0.113.7, 127.0.0.1"]
        assert {name: got.values(name) for name in expected} == expected
        assert response.value("x-request-id") == "edge-1"
        line = await line_of(gateway, "edge-1")
        assert (line["path"], line["client"]) == ("/ledgers", "203.0.113.7")

    async def test_several_of_their_lines_become_one(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """Repeated X-Forwarded-For lines become one list, in order."""
        gateway = await start_gateway(**LOOPBACK)
        headers = [("X-Forwarded-For", "203.0.113.7"), ("x-forwarded-for", "198.51.100.1, 198.51.100.2")]
        await gateway.ask("GET", READ, key=MASTER_KEY, headers=headers)
        assert upstream.requests[0].values("x-forwarded-for") == [
            "203.0.113.7, 198.51.100.1, 198.51.100.2, 127.0.0.1"
        ]

    @pytest.mark.parametrize("changes", [{}, OTHERS], ids=["none", "others"])
    async def test_forwarding_headers_of_others_are_dropped(
        self, start_gateway: Start, upstream: StandInCore, changes: dict[str, Any]
    ) -> None:
        """A client that is no trusted proxy is named by the address of its connection alone."""
        gateway = await start_gateway(**changes)
        response = await gateway.ask("GET", READ, key=MASTER_KEY, headers=SPOKEN)
        (got,) = upstream.requests
        expected: dict[str, list[str]] = {name: [] for name, _ in SPOKEN} | {
            "X-Forwarded-For": ["127.0.0.1"],
            "X-Forwarded-Proto": ["http"],
            "X-Forwarded-Host": ["gateway.test"],
            "X-Request-Id": response.values("x-request-id"),
        }
        assert {name: got.values(name) for name in expected} == expected
        assert response.value("x-request-id") != "edge-1"
        assert (await line_of(gateway, response.value("x-request-id")))["client"] == "127.0.0.1"

    @pytest.mark.parametrize("given", ["", "a" * 129, "\xe9", "a\tb"], ids=["empty", "long", "é", "tab"])
    async def test_an_unfit_request_id_is_replaced(self, start_gateway: Start, given: str) -> None:
        """A request id that could not stand in a log line is replaced."""
        gateway = await start_gateway(**LOOPBACK)
        response = await gateway.ask("GET", READ, key=MASTER_KEY, headers=[("X-Request-Id", given)])
        assert response.value("x-request-id") not in (None, given)


class TestHeads:
    @pytest.mark.parametrize(("version", "via"), [("HTTP/1.1", "1.1"), ("HTTP/1.0", "1.0")])
    async def test_via_names_the_version_received(
        self, gateway: Running, upstream: StandInCore, version: str, via: str
    ) -> None:
        """Via names the version received, after what was there before (RFC 9110 section 7.6.3)."""
        async with await gateway.connect() as client:
            await client.ask("GET", READ, key=MASTER_KEY, version=version, headers=[("Via", "1.0 edge")])
        (got,) = upstream.requests
        assert (got.version, got.values("via")) == ("HTTP/1.1", ["1.0 edge", f"{via} blnk-gateway"])

    async def test_the_head_for_core_is_exactly_this(self, gateway: Running, upstream: StandInCore) -> None:
        """Core gets its own Host, then the client's headers, and the master key last."""
        key = (await gateway.mint("ledgers:read")).key
        response = await gateway.ask("GET", READ, key=key, headers=[("Accept", "*/*")])
        assert upstream.requests[0].head.decode().split("\r\n") == [
            f"GET {READ} HTTP/1.1",
            f"Host: 127.0.0.1:{upstream.port}",
            "Accept: */*",
            "Via: 1.1 blnk-gateway",
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: gateway.test",
            f"X-Request-Id: {response.value('x-request-id')}",
            f"X-Blnk-Key: {MASTER_KEY}",
            "",
            "",
        ]

    async def test_request_ids_are_never_the_same(self, gateway: Running) -> None:
        """Each request, refused ones too, has an id of its own."""
        responses = [await gateway.ask("GET", READ, key=key) for key in (MASTER_KEY, None, MASTER_KEY, "x")]
        ids = [response.value("x-request-id") for response in responses]
        assert len({*ids} - {None}) == 4


class TestBounds:
    async def test_stamped_bodies_share_one_budget(self, start_gateway: Start, upstream: StandInCore) -> None:
        """A stamped body that does not fit beside those that are held is 503, and fits once they are gone."""
        gateway = await start_gateway(limits={"buffered": 100})
        key = (await gateway.mint("ledgers:*")).key
        body = b'{"name":"%b"}' % (b"x" * 60)
        release = asyncio.Event()
        upstream.script(held(release))
        holder = await gateway.connect()
        await holder.send(request("POST", STAMPED, key=key, body=body))
        await upstream.arrived()
        refused = await gateway.ask("POST", STAMPED, key=key, body=body)
        assert_error(refused, Code.UNAVAILABLE)
        assert refused.value("retry-after") == "1"
        assert (await gateway.ask("POST", STREAMED, key=key, body=body)).status == 200
        release.set()
        assert (await holder.response()).status == 200
        assert (await gateway.ask("POST", STAMPED, key=key, body=body)).status == 200

    @pytest.mark.parametrize("failing", ["refused", "core gone", "client gone"])
    async def test_the_budget_is_given_back_whatever_happens(
        self, start_gateway: Start, upstream: StandInCore, failing: str
    ) -> None:
        """No failure leaves bytes reserved."""
        gateway = await start_gateway(limits={"buffered": 100})
        key = (await gateway.mint("ledgers:*")).key
        body = b'{"name":"%b"}' % (b"x" * 60)
        for _ in range(3):
            if failing == "refused":
                assert (await gateway.ask("POST", STAMPED, key=key, body=b"[" * 73)).status == 400
            elif failing == "core gone":
                upstream.script(abort)
                assert (await gateway.ask("POST", STAMPED, key=key, body=body)).status == 502
            else:
                client = await gateway.connect()
                await client.send(request("POST", STAMPED, key=key, body=body)[:-1])
                await client.close()
        await eventually(lambda: len(lines(gateway.log.getvalue())) == 3, "three ends")
        assert (await gateway.ask("POST", STAMPED, key=key, body=body)).status == 200

    async def test_too_many_connections_are_503(self, start_gateway: Start) -> None:
        """A connection over the limit gets 503 and is closed; once another closes, a new one is served."""
        gateway = await start_gateway(limits={"connections": 2})
        first, second = [await gateway.connect() for _ in range(2)]
        assert [(await client.ask("GET", "/health")).status for client in (first, second)] == [200, 200]
        third = await gateway.connect()
        refused = await third.response()
        assert_error(refused, Code.UNAVAILABLE)
        assert (refused.value("retry-after"), refused.value("connection")) == ("1", "close")
        assert await third.ended()
        await first.close()

        async def served() -> bool:
            async with await gateway.connect() as client:
                return (await client.ask("GET", "/health")).status == 200

        async with asyncio.timeout(5):
            while not await served():
                pass

    async def test_a_client_that_reads_nothing_makes_core_work_no_further(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """Pipelined requests wait until the responses before them are read; then all are cut in time."""
        gateway = await start_gateway(timeouts={"write": 0.5})
        upstream.behaviour = responding(body=b"x" * 100_000)
        client = await gateway.connect(keep=False)
        await client.send(request("GET", READ, key=MASTER_KEY) * 2000)
        await eventually(lambda: len(lines(gateway.log.getvalue())) > 0, "the first end")
        await eventually(lambda: connected(gateway) == 0, "the cut")
        assert len(upstream.requests) < 400

    async def test_a_client_that_reads_nothing_cannot_buy_time_with_more_requests(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        """A request behind a response that is not read does not extend the deadline of that response."""
        gateway = await start_gateway(timeouts={"write": 1.0})
        upstream.script(of_size(300_000_000))
        client = await gateway.connect(keep=False)
        await client.send(request("GET", READ, key=MASTER_KEY))
        await upstream.arrived()
        await asyncio.sleep(0.5)  # by now every buffer is full; if not, the test could only pass
        await client.send(request("GET", READ, key=MASTER_KEY) * 3)
        (connection,) = upstream.used()
        await asyncio.wait_for(connection.gone.wait(), 8)


def connected(gateway: Running) -> int:
    """Return how many clients' connections the metrics show."""
    page, _ = gateway.gateway.metrics.exposition("")
    (line,) = [line for line in page.decode().splitlines() if line.startswith("blnk_gateway_connections ")]
    return int(float(line.split()[1]))


MASKED = {"timestamp", "gateway_ms", "upstream_ms"}
DENIED: dict[str, Any] = {
    "level": "info",
    "event": "request",
    "trace_id": "",
    "client": "127.0.0.1",
    "user_agent": "",
    "method": "GET",
    "route": "",
    "path": "/ledgers",
    "key_id": "",
    "owner": "",
    "certificate_subject": "",
    "decision": "deny",
    "code": "",
    "would_code": "",
    "status": 200,
    "answered_by": "gateway",
    "stamped": False,
    "bytes_in": 0,
    "bytes_out": 0,
}


class TestLog:
    """The log has one JSON line for each request, always with every field."""

    async def assert_line(self, gateway: Running, request_id: str | None, **expected: Any) -> None:
        line = await line_of(gateway, request_id)
        assert {*line} == {*DENIED} | MASKED | {"request_id"}
        assert {name: line[name] for name in DENIED} == DENIED | expected
        assert line["gateway_ms"] > 0
        assert (line["upstream_ms"] > 0) == (expected.get("answered_by") == "core")

    async def test_of_a_forwarded_request(self, gateway: Running, upstream: StandInCore) -> None:
        """The line of a forwarded request has caller, route and Core's response, never the query."""
        minted: Minted = await gateway.mint("ledgers:read", owner="globex")
        gateway.forbidden.add("in-the-query")
        response = await gateway.ask(
            "GET", "/ledgers?q=in-the-query", key=minted.key, headers=[("User-Agent", "curl/8")]
        )
        await self.assert_line(
            gateway,
            response.value("x-request-id"),
            user_agent="curl/8",
            route="GET /ledgers",
            key_id=minted.id,
            owner="globex",
            decision="allow",
            answered_by="core",
            bytes_out=len(response.body),
        )

    async def test_of_a_stamped_request(self, gateway: Running) -> None:
        """The line of a stamped request has the bytes that the client sent, and says that it was stamped."""
        minted: Minted = await gateway.mint("ledgers:write")
        response = await gateway.ask("POST", STAMPED, key=minted.key, body=b'{"name":"x"}')
        await self.assert_line(
            gateway,
            response.value("x-request-id"),
            method="POST",
            route="POST /ledgers",
            key_id=minted.id,
            owner="acme",
            decision="allow",
            answered_by="core",
            stamped=True,
            bytes_in=12,
            bytes_out=len(response.body),
        )

    async def test_of_the_master_key(self, gateway: Running) -> None:
        """The line of the master key has its name and no owner, and no stamp."""
        response = await gateway.ask("POST", STAMPED, key=MASTER_KEY, body=b'{"name":"x"}')
        await self.assert_line(
            gateway,
            response.value("x-request-id"),
            method="POST",
            route="POST /ledgers",
            key_id="master",
            decision="allow",
            answered_by="core",
            bytes_in=12,
            bytes_out=len(response.body),
        )

    async def test_of_a_request_without_a_key(self, gateway: Running) -> None:
        """The line of a request without a key has the code and the route, and no caller."""
        response = await gateway.ask("GET", READ)
        await self.assert_line(
            gateway,
            response.value("x-request-id"),
            route="GET /ledgers",
            code="AUTH_MISSING_API_KEY",
            status=401,
            bytes_out=len(response.body),
        )

    @pytest.mark.parametrize(
        ("target", "route"),
        [
            ("/ledgers/x", "GET /ledgers/{id}"),
            ("/nowhere/x", ""),
            ("/ledgers//x", ""),
            ("/hooks", "GET /hooks"),
        ],
    )
    @pytest.mark.parametrize("bad", ["missing", "unknown", "expired", "revoked", "remembered"])
    async def test_of_a_401_names_the_route_that_the_policy_lists(
        self, gateway: Running, bad: str, target: str, route: str
    ) -> None:
        """The line of a 401 names the listed route, which the client cannot tell from its response."""
        key = None
        if bad == "unknown":
            key = "A" * 43 + "="
        elif bad != "missing":
            key = (await gateway.mint("*:*", expired=bad == "expired", revoked=bad != "expired")).key
        if bad == "remembered":
            await gateway.ask("GET", READ, key=key)
        response = await gateway.ask("GET", target, key=key)
        line = await line_of(gateway, response.value("x-request-id"))
        assert (line["status"], line["decision"], line["route"]) == (401, "deny", route)
        page = gateway.gateway.metrics.exposition("")[0].decode()
        assert f'code="{line["code"]}",method="GET",route="{route}",status="401"}}' in page

    async def test_of_a_503_of_the_key_store_names_the_route(self, start_gateway: Start) -> None:
        """The line of a 503 of the key store names the route that the outage affects."""
        store = FailingStore()
        gateway = await start_gateway(store=store)
        store.failing = True
        response = await gateway.ask("GET", "/ledgers/x", key="A" * 43 + "=")
        line = await line_of(gateway, response.value("x-request-id"))
        assert (line["status"], line["code"], line["route"]) == (
            503,
            "GATEWAY_KEY_STORE_UNAVAILABLE",
            "GET /ledgers/{id}",
        )

    async def test_of_a_429_has_a_decision_of_its_own(self, start_gateway: Start) -> None:
        """The line of a 429 has a decision of its own, since the policy allows the request."""
        gateway = await start_gateway(limits={"rate": Rate(1)})
        minted = await gateway.mint("ledgers:read")
        responses = [await gateway.ask("GET", READ, key=minted.key) for _ in range(2)]
        found = [await line_of(gateway, response.value("x-request-id")) for response in responses]
        assert [(line["status"], line["decision"], line["route"]) for line in found] == [
            (200, "allow", "GET /ledgers"),
            (429, "rate_limited", "GET /ledgers"),
        ]

    async def test_of_a_request_that_lacks_a_scope(self, gateway: Running) -> None:
        """The line of a request that lacks a scope names the key and the route."""
        minted: Minted = await gateway.mint("balances:read")
        response = await gateway.ask("GET", READ, key=minted.key)
        await self.assert_line(
            gateway,
            response.value("x-request-id"),
            route="GET /ledgers",
            key_id=minted.id,
            owner="acme",
            code="AUTH_INSUFFICIENT_PERMISSIONS",
            status=403,
            bytes_out=len(response.body),
        )

    async def test_of_a_served_request(self, gateway: Running) -> None:
        """The line of a response that the gateway serves itself names the gateway and a route of its own."""
        response = await gateway.ask("GET", "/api-keys?owner=acme", key=MASTER_KEY)
        await self.assert_line(
            gateway,
            response.value("x-request-id"),
            route="GET /api-keys",
            path="/api-keys",
            key_id="master",
            decision="allow",
            bytes_out=len(response.body),
        )

    async def test_of_a_public_request(self, gateway: Running) -> None:
        """The line of a public request says that it was allowed, without a caller."""
        response = await gateway.ask("GET", "/health")
        await self.assert_line(
            gateway,
            response.value("x-request-id"),
            route="GET /health",
            path="/health",
            decision="allow",
            answered_by="core",
            bytes_out=len(response.body),
        )

    async def test_of_a_core_that_is_gone(self, gateway: Running, upstream: StandInCore) -> None:
        """The line of a lost Core is at error level, with the code and the time that Core took."""
        upstream.script(abort)
        response = await gateway.ask("POST", STREAMED, key=MASTER_KEY, body=b"{}")
        line = await line_of(gateway, response.value("x-request-id"))
        shown = {name: line[name] for name in ("level", "code", "status", "answered_by", "decision", "route")}
        assert shown == {
            "level": "error",
            "code": "GATEWAY_UPSTREAM_UNREACHABLE",
            "status": 502,
            "answered_by": "gateway",
            "decision": "allow",
            "route": "POST /ledgers/filter",
        }
        assert line["upstream_ms"] > 0

    async def test_of_a_response_that_broke(self, gateway: Running, upstream: StandInCore) -> None:
        """The line of a truncated response has status 0, and the bytes that the client got."""

        async def cut(exchange: Exchange) -> None:
            await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            await exchange.write(b"short")
            sent.set()
            await taken.wait()
            exchange.abort()

        sent, taken = asyncio.Event(), asyncio.Event()
        upstream.script(cut)
        client = await gateway.connect()
        await client.send(request("GET", READ, key=MASTER_KEY))
        assert (await client.read_head())[0] == 200
        await sent.wait()
        taken.set()
        with pytest.raises(BrokenResponse):
            await client.response()
        await eventually(lambda: len(lines(gateway.log.getvalue())) == 1, "its line")
        (line,) = lines(gateway.log.getvalue())
        assert (line["level"], line["status"], line["code"]) == ("warning", 0, "GATEWAY_UPSTREAM_UNREACHABLE")

    async def test_of_an_unreadable_request(self, gateway: Running) -> None:
        """An unreadable request has a line with its address, and none of its text."""
        client = await gateway.connect()
        gateway.forbidden.add("in-the-head")
        response = await client.call(b"GET /in-the-head HTTP/1.1\r\nno colon in-the-head\r\n\r\n")
        line = await line_of(gateway, response.value("x-request-id"))
        assert {name: line[name] for name in DENIED} == DENIED | {
            "method": "",
            "path": "",
            "code": "GEN_BAD_REQUEST",
            "status": 400,
            "bytes_out": len(response.body),
        }
