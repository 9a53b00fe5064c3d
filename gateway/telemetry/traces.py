"""The spans of sampled requests, whoever exports them; and the metric of those.

Rules kept here:
- The packages of OpenTelemetry are imported only by `otlp`, and only where traces are exported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Final, Protocol

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.telemetry.access_log import AccessEntry
from gateway.telemetry.trace_context import TraceContext

TRACING_PACKAGES: Final = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
TRACING_PACKAGES_MISSING: Final = (
    f"tracing.endpoint needs the packages {' and '.join(TRACING_PACKAGES)} in the gateway's environment: "
    f"python3 -m pip --python .venv install {' '.join(TRACING_PACKAGES)}"
)


def tracing_is_installed() -> bool:
    """Return whether the packages of `TRACING_PACKAGES` can be imported, without importing them."""
    try:
        return all(map(find_spec, ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")))
    except ModuleNotFoundError:
        return False


class SpanRecorder(Protocol):
    """Records the spans of sampled requests."""

    def record(self, trace: TraceContext, entry: AccessEntry, scheme: str, sent_ms: float) -> None:
        """Record a request that has ended: its own span, and that of the exchange with Core if there was one.

        Never blocks and never raises. `scheme` is that of the client's request, and `sent_ms` is how long
        after its beginning it was given to Core.
        """


class TraceMetrics(Collector):
    """Counts spans by what became of them."""

    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Yield the family; the registry calls it at a scrape."""
        spans = CounterMetricFamily(
            "blnk_gateway_trace_spans_total",
            "Spans by what became of them: exported; failed: the collector did not take them; "
            "dropped: too many waited. Absent without tracing.endpoint.",
            labels=("result",),
        )
        for result, count in self._counts().items():
            spans.add_metric((result,), count)
        yield spans
