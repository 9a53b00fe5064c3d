"""Traces of a running gateway: what Core and a collector get, and what a collector cannot do to requests.

Rules kept here:
- No secret that a test knows is in any byte that a collector gets.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import time
from collections.abc import AsyncIterator
from functools import partial
from ipaddress import ip_network
from typing import Any

import pytest

from gateway.keys.minting import mint_key
from gateway.telemetry.otlp import MOST_WAITING
from tests.conftest import Start
from tests.core_stand_in import StandInCore, abort, held, responding
from tests.raw_client import request
from tests.redis_server import free_port
from tests.running import Running, eventually
from tests.telemetry.collector import Collector, Received
from tests.telemetry.endless_collector import MOST_SENT, EndlessCollector

TRUSTED = (ip_network("127.0.0.1/32"),)
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{CALLER}-01"
UNSAMPLED = f"00-{TRACE}-{CALLER}-00"


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with Collector() as taking:
        yield taking


async def traced(
    start_gateway: Start, collector: Collector, *, ratio: float = 1.0, trusted: bool = False
) -> Running:
    """Start a gateway that exports to the collector."""
    return await start_gateway(
        tracing={"endpoint": collector.url, "ratio": ratio}, trusted_proxies=TRUSTED if trusted else ()
    )


async def lines(gateway: Running, count: int = 1) -> list[dict[str, Any]]:
    """Return the lines of requests, once there are so many."""
    await eventually(lambda: gateway.log.getvalue().count('"event":"request"') >= count, "the lines")
    log = gateway.log.getvalue()
    return [line for line in map(json.loads, log.splitlines()) if line["event"] == "request"]


async def exported(gateway: Running, collector: Collector) -> list[Received]:
    """Stop the gateway, and return its spans: first those of the kind `server`. No byte holds a secret."""
    await gateway.gateway.close()
    secrets = [secret for secret in gateway.secrets for body in collector.bodies if secret.encode() in body]
    assert secrets == []
    return sorted(collector.spans, key=lambda span: span.kind, reverse=True)


def core_parent(core: StandInCore) -> list[str]:
    """Return `traceparent` of the last request that Core got."""
    return core.requests[-1].values("traceparent")


class TestSpans:
    async def test_a_request_of_a_trusted_caller_is_two_spans_of_its_trace(
        self, start_gateway: Start, collector: Collector, upstream: StandInCore
    ) -> None:
        gateway = await traced(start_gateway, collector, ratio=0.0, trusted=True)
        caller = await gateway.mint("ledgers:read")
        headers = [("traceparent", SAMPLED), ("tracestate", "a=1"), ("baggage", "b=2")]
        headers.append(("X-Forwarded-Proto", "https"))
        before = time.time_ns()
        await gateway.ask("GET", "/ledgers/ldg_1?q=1", key=caller.key, headers=headers)
        after = time.time_ns()
        own, exchange = await exported(gateway, collector)
        (line,) = await lines(gateway)
        got = upstream.requests[-1]
        assert got.values("traceparent") == [f"00-{TRACE}-{exchange.span_id}-01"]
        assert (got.values("tracestate"), got.values("baggage")) == (["a=1"], ["b=2"])
        assert (own.name, own.kind, own.trace_id, own.parent_id, own.state, own.failed) == (
            ("GET /ledgers/{id}", "server", TRACE, CALLER, "a=1", False)
        )
        assert (exchange.name, exchange.kind, exchange.trace_id, exchange.parent_id, exchange.failed) == (
            ("GET", "client", TRACE, own.span_id, False)
        )
        assert own.attributes == {
            "http.request.method": "GET",
            "http.route": "/ledgers/{id}",
            "http.response.status_code": 200,
            "url.scheme": "https",
            "client.address": "127.0.0.1",
            "blnk.key_id": caller.id,
            "blnk.decision": "allow",
            "blnk.request_id": line["request_id"],
        }
        assert exchange.attributes == {
            "http.request.method": "GET",
            "http.response.status_code": 200,
            "server.address": "127.0.0.1",
            "server.port": upstream.port,
        }
        assert own.service["service.name"] == "blnk-gateway"
        assert before - 1e6 <= own.began <= exchange.began <= exchange.ended <= own.ended <= after + 1e6
        assert line["trace_id"] == TRACE

    async def test_a_new_trace_has_no_parent_and_its_id_is_in_the_log(
        self, start_gateway: Start, collector: Collector, upstream: StandInCore
    ) -> None:
        gateway = await traced(start_gateway, collector)
        await gateway.ask("POST", "/ledgers", key=(await gateway.mint("ledgers:write")).key, body=b'{"a":1}')
        own, exchange = await exported(gateway, collector)
        (line,) = await lines(gateway)
        assert (own.name, own.parent_id, own.trace_id) == ("POST /ledgers", "", line["trace_id"])
        assert core_parent(upstream) == [f"00-{own.trace_id}-{exchange.span_id}-01"]

    async def test_a_request_that_gets_no_connection_to_core_has_no_exchange_with_it(
        self, start_gateway: Start, collector: Collector, upstream: StandInCore
    ) -> None:
        """If Core got no byte of a request, its wait is the gateway's time, and Core's span is not failed."""
        release = asyncio.Event()
        upstream.script(held(release))
        gateway = await start_gateway(
            tracing={"endpoint": collector.url, "ratio": 1.0},
            upstream={"connections": 1},
            timeouts={"connect": 0.1},
        )
        key = (await gateway.mint("ledgers:read")).key
        served = asyncio.create_task(gateway.ask("GET", "/ledgers/ldg_1", key=key))
        await upstream.arrived()
        assert (await gateway.ask("GET", "/ledgers/ldg_2", key=key)).status == 503
        release.set()
        assert (await served).status == 200
        refused, passed = await lines(gateway, 2)
        assert (refused["upstream_ms"], passed["upstream_ms"] > 0) == (0.0, True)
        assert refused["gateway_ms"] >= 100
        spans = await exported(gateway, collector)
        assert [span.kind for span in spans] == ["server", "server", "client"]
        assert [span.failed for span in spans if span.kind == "client"] == [False]

    async def test_a_refusal_is_one_span_with_its_code(
        self, start_gateway: Start, collector: Collector
    ) -> None:
        """A refusal is the client's fault: the span of a server is not failed then."""
        gateway = await traced(start_gateway, collector)
        await gateway.ask("GET", "/ledgers/ldg_1", key="x" * 44)
        (own,) = await exported(gateway, collector)
        found = {name: own.attributes.get(name) for name in ("http.response.status_code", "blnk.code")}
        assert (own.name, own.kind, own.failed) == ("GET /ledgers/{id}", "server", False)
        assert found == {"http.response.status_code": 401, "blnk.code": "AUTH_INVALID_API_KEY"}

    async def test_what_a_client_makes_up_is_in_no_span(
        self, start_gateway: Start, collector: Collector
    ) -> None:
        """A collector may be another company's: paths of no route, hosts, agents and methods stay here."""
        gateway = await traced(start_gateway, collector)
        key = (await gateway.mint("ledgers:read")).key
        for method, target in (("GET", "/made-up"), ("PURGE", "/made-up"), ("GET", "/ledgers?made-up")):
            headers = [("User-Agent", "made-up"), ("traceparent", "made-up")]
            await gateway.ask(method, target, key=key, headers=headers, host="made-up")
        spans = await exported(gateway, collector)
        assert [body for body in collector.bodies if b"made-up" in body] == []
        assert {span.name for span in spans} == {"GET", "HTTP", "GET /ledgers"}
        assert sorted({span.attributes["http.request.method"] for span in spans}) == ["GET", "_OTHER"]

    async def test_a_key_in_the_path_of_a_listed_route_is_in_no_span(
        self, start_gateway: Start, collector: Collector
    ) -> None:
        """A client may write a key where an id belongs: of Core's form, with a prefix, or escaped in part."""
        gateway = await traced(start_gateway, collector)
        caller = await gateway.mint("ledgers:read")
        key, prefixed = mint_key(os.urandom), mint_key(os.urandom, "blnk_live_")
        for text in (key, key.replace("=", "%3D"), prefixed, f"%{ord(key[0]):02X}{key[1:]}"):
            assert (await gateway.ask("GET", f"/ledgers/{text}", key=caller.key)).status == 200
        spans = await exported(gateway, collector)
        assert {span.name for span in spans} == {"GET /ledgers/{id}", "GET"}
        parts = (key[1:-1].encode(), prefixed.encode())
        assert [body for body in collector.bodies if any(part in body for part in parts)] == []

    async def test_a_failure_of_core_fails_both_spans_with_the_code_as_their_error(
        self, start_gateway: Start, collector: Collector, upstream: StandInCore
    ) -> None:
        gateway = await traced(start_gateway, collector)
        upstream.script(abort)
        await gateway.ask("POST", "/ledgers", key=(await gateway.mint("ledgers:write")).key, body=b"{}")
        own, exchange = await exported(gateway, collector)
        code = "GATEWAY_UPSTREAM_UNREACHABLE"
        errors = [(span.failed, span.attributes["error.type"]) for span in (own, exchange)]
        assert errors == [(True, code), (True, code)]
        # Core gave no status.
        statuses = [span.attributes.get("http.response.status_code") for span in (own, exchange)]
        assert statuses == [502, None]

    async def test_a_refusal_of_core_fails_the_exchange_alone(
        self, start_gateway: Start, collector: Collector, upstream: StandInCore
    ) -> None:
        gateway = await traced(start_gateway, collector)
        upstream.script(responding("404 Not Found"))
        await gateway.ask("GET", "/ledgers/x", key=(await gateway.mint("ledgers:read")).key)
        own, exchange = await exported(gateway, collector)
        assert (own.failed, exchange.failed, exchange.attributes["error.type"]) == (False, True, "404")


class TestContext:
    async def test_a_client_continues_no_trace_and_cannot_have_itself_sampled(
        self, start_gateway: Start, collector: Collector, upstream: StandInCore
    ) -> None:
        gateway = await traced(start_gateway, collector, ratio=0.0)
        key = (await gateway.mint("ledgers:read")).key
        headers = [("traceparent", SAMPLED), ("tracestate", "a=1"), ("baggage", "b=2")]
        await gateway.ask("GET", "/ledgers", key=key, headers=headers)
        (line,) = await lines(gateway)
        (parent,) = core_parent(upstream)
        assert parent.startswith(f"00-{line['trace_id']}-")
        assert parent.endswith("-00")
        assert TRACE.encode() not in upstream.requests[-1].raw
        assert [upstream.requests[-1].values(name) for name in ("tracestate", "baggage")] == [[], []]
        assert gateway.gateway.metrics.exposition("")[0].count(b'spans_total{result="exported"} 0.0') == 1

    async def test_a_trusted_caller_that_does_not_sample_is_passed_on_as_it_came(
        self, start_gateway: Start, collector: Collector, upstream: StandInCore
    ) -> None:
        gateway = await traced(start_gateway, collector, trusted=True)
        key = (await gateway.mint("ledgers:read")).key
        headers = [("traceparent", UNSAMPLED), ("tracestate", "a=1")]
        await gateway.ask("GET", "/ledgers", key=key, headers=headers)
        (line,) = await lines(gateway)
        got = upstream.requests[-1]
        assert (got.values("traceparent"), got.values("tracestate")) == ([UNSAMPLED], ["a=1"])
        assert line["trace_id"] == TRACE

    async def test_an_invalid_context_of_a_trusted_caller_is_replaced(
        self, start_gateway: Start, collector: Collector, upstream: StandInCore
    ) -> None:
        gateway = await traced(start_gateway, collector, ratio=0.0, trusted=True)
        key = (await gateway.mint("ledgers:read")).key
        headers = [*[("traceparent", SAMPLED)] * 2, ("tracestate", "a=1"), ("baggage", "b=2")]
        await gateway.ask("GET", "/ledgers", key=key, headers=headers)
        got = upstream.requests[-1]
        assert TRACE.encode() not in got.raw
        assert len(got.values("traceparent")) == 1
        assert (got.values("tracestate"), got.values("baggage")) == ([], ["b=2"])

    async def test_without_tracing_a_trusted_caller_is_passed_on_and_nobody_else(
        self, start_gateway: Start, upstream: StandInCore
    ) -> None:
        for trusted, expected in (((), []), (TRUSTED, [SAMPLED])):
            gateway = await start_gateway(trusted_proxies=trusted)
            key = (await gateway.mint("ledgers:read")).key
            await gateway.ask("GET", "/ledgers", key=key, headers=[("traceparent", SAMPLED)])
            assert core_parent(upstream) == expected
            assert [line["trace_id"] for line in await lines(gateway)] == [""]


class TestCollector:
    async def test_one_that_responds_to_nothing_delays_no_request_and_holds_a_bounded_number(
        self, start_gateway: Start, collector: Collector
    ) -> None:
        collector.held = True
        gateway = await traced(start_gateway, collector)
        asking = [request("GET", "/made-up") for _ in range(50)]
        async with await gateway.connect(keep=False) as client:
            began = time.monotonic()
            for _ in range(MOST_WAITING // 50 + 2):
                await client.send(b"".join(asking))
                for _ in asking:
                    await client.response()
            took = time.monotonic() - began
        page = gateway.gateway.metrics.exposition("")[0].decode()
        sent = (MOST_WAITING // 50 + 2) * 50
        assert f'blnk_gateway_trace_spans_total{{result="dropped"}} {float(sent - MOST_WAITING)}' in page
        assert took < 5
        began = time.monotonic()
        await gateway.gateway.close()
        assert time.monotonic() - began < 4

    @pytest.mark.parametrize(
        ("head", "piece"),
        [
            (["Content-Length: 1000000000000"], b"x" * 65_536),
            (["Transfer-Encoding: chunked"], b"10000\r\n" + b"x" * 65_536 + b"\r\n"),
            (["Connection: close"], b"x" * 65_536),
            (["Content-Encoding: gzip", "Content-Length: 1000000000000"], gzip.compress(bytes(50_000_000))),
        ],
        ids=["of a length", "in chunks", "until it closes", "compressed"],
    )
    async def test_of_a_response_without_end_no_body_is_read_and_the_connection_is_closed(
        self, start_gateway: Start, head: list[str], piece: bytes
    ) -> None:
        """A few MiB wait in the sockets."""
        async with EndlessCollector(head, piece) as hostile:
            gateway = await start_gateway(tracing={"endpoint": hostile.url, "ratio": 1.0})
            await gateway.ask("GET", "/made-up")
            await eventually(lambda: bool(hostile.sent), "a connection that the gateway has closed")
            assert hostile.sent[0] < MOST_SENT / 2
            exported = b'blnk_gateway_trace_spans_total{result="exported"} 1.0'
            await eventually(lambda: exported in gateway.gateway.metrics.exposition("")[0], "the span")

    async def test_a_connection_is_used_again_and_nothing_of_a_response_comes_back(
        self, start_gateway: Start, collector: Collector
    ) -> None:
        collector.response_headers = {"Set-Cookie": "name=value"}
        gateway = await traced(start_gateway, collector)
        for number in range(2):
            await gateway.ask("GET", "/made-up")
            await eventually(partial(collector.has_bodies, number + 1), f"{number + 1} exports")
        assert len(collector.peers) == 1
        assert [head.get("Cookie") for head in collector.heads] == [None, None]

    async def test_spans_are_sent_once_to_one_that_redirects_and_count_as_failed(
        self, start_gateway: Start, collector: Collector
    ) -> None:
        collector.status = 308
        gateway = await traced(start_gateway, collector)
        await gateway.ask("GET", "/made-up")
        failed = b'blnk_gateway_trace_spans_total{result="failed"} 1.0'
        await eventually(lambda: failed in gateway.gateway.metrics.exposition("")[0], "a failed span")
        assert len(collector.bodies) == 1

    async def test_one_that_is_away_costs_spans_and_nothing_else(self, start_gateway: Start) -> None:
        gateway = await start_gateway(
            tracing={"endpoint": f"http://127.0.0.1:{free_port()}/v1/traces", "ratio": 1.0}
        )
        assert (await gateway.ask("GET", "/health")).status == 200
        await gateway.gateway.close()
        failed = b'blnk_gateway_trace_spans_total{result="failed"} 2.0'
        await eventually(lambda: failed in gateway.gateway.metrics.exposition("")[0], "two failed spans")

    async def test_the_last_spans_are_exported_by_the_end_of_a_drain(
        self, start_gateway: Start, collector: Collector
    ) -> None:
        gateway = await traced(start_gateway, collector)
        for _ in range(3):
            await gateway.ask("GET", "/made-up")
        assert await gateway.gateway.drain(0) == 0
        assert len(collector.spans) == 3
