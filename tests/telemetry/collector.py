"""A collector of traces: an HTTP server that decodes what comes with OpenTelemetry's own protobuf classes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

KINDS = {trace_pb2.Span.SPAN_KIND_SERVER: "server", trace_pb2.Span.SPAN_KIND_CLIENT: "client"}


@dataclass(frozen=True, slots=True)
class Received:
    """A span as it came; ids are hexadecimal, times Unix nanoseconds, `service` has the resource's names."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    failed: bool
    attributes: dict[str, Any]
    service: dict[str, Any]
    began: int
    ended: int


class Collector:
    """Takes spans at `url`; while `held` is set, it reads requests and responds to none."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.bodies: list[bytes] = []
        self.heads: list[Mapping[str, str]] = []
        self.peers: set[object] = set()
        self.response_headers: Mapping[str, str] = {}
        self.status = 200
        self.held = False
        self._release = asyncio.Event()
        self.url = ""

    async def __aenter__(self) -> Collector:
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1/traces"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._release.set()
        await self._runner.cleanup()

    def has_bodies(self, count: int) -> bool:
        """Return whether so many requests came."""
        return len(self.bodies) == count

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        self.heads.append(request.headers)
        self.peers.add(request.get_extra_info("peername"))
        if self.held:
            await self._release.wait()
        assert request.content_type == "application/x-protobuf"
        for of_service in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _values(of_service.resource.attributes)
            for of_scope in of_service.scope_spans:
                self.spans += [_received(span, service) for span in of_scope.spans]
        return web.Response(
            status=self.status, content_type="application/x-protobuf", headers=self.response_headers
        )


def _received(span: trace_pb2.Span, service: dict[str, Any]) -> Received:
    return Received(
        name=span.name,
        kind=KINDS[span.kind],
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        state=span.trace_state,
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        attributes=_values(span.attributes),
        service=service,
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}
