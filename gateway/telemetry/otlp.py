"""Spans over OTLP with the OpenTelemetry SDK, which encodes and sends them in a thread of its own.

Rules kept here:
- A span is made once its request has ended, and only of a sampled one.
- `MOST_WAITING` spans wait at most; further ones are dropped and counted. So a collector that is slow or away
  costs a bounded amount of memory, and no request waits for it.
- Few spans are encoded at once: meanwhile the interpreter's lock is not free for requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import TraceState

from gateway.telemetry.access_log import AccessEntry
from gateway.telemetry.collector_session import collector_session
from gateway.telemetry.span_attributes import (
    core_attributes,
    error_of,
    exchange_attributes,
    method_of,
    name_of,
    own_attributes,
)
from gateway.telemetry.trace_context import TraceContext

MOST_WAITING: Final = 2048
_BATCH: Final = 32
_DELAY_MS: Final = 1000
_EXPORT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Service:
    """The names under which a process exports: its version and an id that no other has; and Core's URL."""

    version: str
    instance: str
    upstream: str


class OtlpSpans:
    """Records spans, and exports them to `endpoint`; a `SpanRecorder`. Close it to export the last ones."""

    def __init__(self, endpoint: str, service: Service) -> None:
        # The SDK logs each failure to standard error, which may block; `counts` says how many there are.
        library = logging.getLogger("opentelemetry")
        library.addHandler(logging.NullHandler())
        library.propagate = False
        self._exporter = _CountingExporter(
            OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_SECONDS, session=collector_session())
        )
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=MOST_WAITING,
            schedule_delay_millis=_DELAY_MS,
            max_export_batch_size=_BATCH,
        )
        self._ids = _GivenIds()
        # A span of the SDK's own choosing is never made: what is not sampled does not come here.
        provider = TracerProvider(
            sampler=ALWAYS_ON, id_generator=self._ids, resource=_resource(service), shutdown_on_exit=False
        )
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("gateway", service.version)
        self._core = core_attributes(service.upstream)
        self._recorded = 0
        self._dropped = 0
        self._closed = False

    @property
    def counts(self) -> dict[str, int]:
        """The spans so far: exported, failed (the collector took them not), dropped (too many waited)."""
        exporter = self._exporter
        return {"exported": exporter.exported, "failed": exporter.failed, "dropped": self._dropped}

    def record(self, trace: TraceContext, entry: AccessEntry, scheme: str, sent_ms: float) -> None:
        """Record a request that has ended, and its exchange with Core if `entry` has a time for it."""
        count = 2 if entry.upstream_ms else 1
        waiting = self._recorded - self._exporter.exported - self._exporter.failed
        if self._closed or waiting + count > MOST_WAITING:
            self._dropped += count
            return
        self._recorded += count
        began = int(entry.time * 1e9)
        self._ids.trace_id = int(trace.trace_id, 16)
        own = self._tracer.start_span(
            name_of(entry),
            context=_caller(trace),
            kind=api.SpanKind.SERVER,
            attributes=own_attributes(entry, scheme),
            start_time=began,
        )
        _judge(own, entry, failed=entry.status >= 500 or not entry.status)
        if entry.upstream_ms:
            self._record_exchange(trace, entry, own, began + int(sent_ms * 1e6))
        own.end(began + int((entry.gateway_ms + entry.upstream_ms) * 1e6))

    async def close(self, patience: float) -> None:
        """Export what waits, for `patience` seconds at most; what is recorded from now on is dropped."""
        if self._closed:
            return
        self._closed = True
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(done.set)

        # A daemon, so that the process can end while a collector keeps it waiting.
        threading.Thread(target=shut_down, name="traces-end", daemon=True).start()
        try:
            async with asyncio.timeout(patience):
                await done.wait()
        except TimeoutError:
            self._exporter.shutdown()

    def _record_exchange(self, trace: TraceContext, entry: AccessEntry, own: api.Span, sent: int) -> None:
        """Record the exchange with Core, which got this span as its parent; `sent` is in Unix nanoseconds."""
        self._ids.next_span_id = int(trace.span_id, 16)
        exchange = self._tracer.start_span(
            method_of(entry),
            context=api.set_span_in_context(own),
            kind=api.SpanKind.CLIENT,
            attributes=self._core | exchange_attributes(entry),
            start_time=sent,
        )
        _judge(exchange, entry, failed=entry.answered_by != "core" or entry.status >= 400)
        exchange.end(sent + int(entry.upstream_ms * 1e6))


class _CountingExporter(SpanExporter):
    """Counts what another exporter exports. Only the thread of the SDK changes the counts."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.exported = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans, and count them."""
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is SpanExportResult.SUCCESS:
                self.exported += len(spans)
            else:
                self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        """Give up what is under way."""
        self._exporter.shutdown()


class _GivenIds(IdGenerator):
    """Gives the trace the id that it has, and a span the id that Core was told, or else a random one."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.trace_id = 0
        self.next_span_id = 0

    def generate_trace_id(self) -> int:
        """Return the id of the trace of the request that is recorded."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """Return the id that was set, once; a random one if none was."""
        span_id, self.next_span_id = self.next_span_id, 0
        return span_id or self._random.generate_span_id()


def _resource(service: Service) -> Resource:
    """Return what names the process; OpenTelemetry's own variables add to it (OTEL_RESOURCE_ATTRIBUTES)."""
    return Resource.create(
        {
            "service.name": "blnk-gateway",
            "service.version": service.version,
            "service.instance.id": service.instance,
        }
    )


def _caller(trace: TraceContext) -> Context:
    """Return the context in which the caller's span is the parent; an empty one for a new trace."""
    if not trace.parent_id:
        return Context()
    state = TraceState.from_header([trace.state]) if trace.state else None
    flags = api.TraceFlags(trace.flags)
    parent = api.SpanContext(int(trace.trace_id, 16), int(trace.parent_id, 16), True, flags, state)
    return api.set_span_in_context(api.NonRecordingSpan(parent), Context())


def _judge(span: api.Span, entry: AccessEntry, *, failed: bool) -> None:
    """Mark a span as failed, if it is."""
    if failed:
        span.set_attribute("error.type", error_of(entry))
        span.set_status(api.StatusCode.ERROR)
