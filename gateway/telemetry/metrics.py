"""The metrics of the gateway, turned into metric families when Prometheus scrapes.

Rules kept here:
- Labels are names of the route table and words of the gateway, never a path, a key or an owner. So no client
  can add a series.
- Each object has its own registry; prometheus_client's global registry is not used.
- A page is slow to make (18 ms with 335 series of requests). So one turn of the event loop makes one page at
  most, and all who ask for it meanwhile share it.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gateway.durations import Durations
from gateway.errors import Code
from gateway.telemetry.request_counts import BUCKETS_MS, RequestCounts, Tally

_BUCKET_NAMES: Final = (*(str(bound / 1000) for bound in BUCKETS_MS), "+Inf")

LAG_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The values that are read when Prometheus scrapes; counters never decrease.

    `requests_in_flight` counts the requests being handled, `connections` the open connections of clients,
    `upstream_connections` those to Core by state ("idle", "busy", ...), `key_cache` look-ups by result
    ("hit", "miss", ...). `upstream_waits` has the waits for a connection to Core, and `loop_lags` how late
    the event loop was.
    """

    requests_in_flight: Callable[[], int]
    connections: Callable[[], int]
    upstream_connections: Callable[[], Mapping[str, int]]
    upstream_waits: Callable[[], Durations]
    key_cache: Callable[[], Mapping[str, int]]
    log_lines_dropped: Callable[[], int]
    ready: Callable[[], bool]
    loop_lags: Durations


@dataclass(frozen=True, slots=True)
class Build:
    """The running build: its version, and `kind`, which is `compiled` or `interpreted`."""

    version: str
    kind: str


@dataclass(frozen=True, slots=True)
class _PendingPage:
    """A page that is to be made; `page` gets it."""

    accept: str
    page: asyncio.Future[bytes]


class Metrics(Collector):
    """Renders the page of `/metrics`; `requests` and `decisions` count what they name."""

    def __init__(self, sources: Sources, build: Build) -> None:
        self._sources = sources
        self._build = build
        self.requests = RequestCounts()
        self.decisions = RequestCounts()
        self._revocation_lags = Durations(LAG_SECONDS)
        # By content type, in the order in which they were requested.
        self._pending: dict[str, _PendingPage] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def add(self, collector: Collector) -> None:
        """Add the families of `collector` to the page."""
        self._registry.register(collector)

    def revocation_applied(self, seconds: float) -> None:
        """Count a revocation that is applied here `seconds` after it was written."""
        self._revocation_lags.add(seconds)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type, text or OpenMetrics as the `Accept` header asks."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    async def shared_exposition(self, accept: str) -> tuple[bytes, str]:
        """Return `exposition`, made once for all who ask meanwhile, in its own turn of the event loop."""
        _, content_type = choose_encoder(accept)
        pending = self._pending.get(content_type)
        if pending is None:
            loop = asyncio.get_running_loop()
            pending = self._pending[content_type] = _PendingPage(accept, loop.create_future())
            if len(self._pending) == 1:
                loop.call_soon(self._make_page)
        # Shielded: a client that leaves must not cancel the page of the others.
        return await asyncio.shield(pending.page), content_type

    def _make_page(self) -> None:
        """Make the page that was requested first, and leave the others to the next turns."""
        content_type, pending = next(iter(self._pending.items()))
        del self._pending[content_type]
        if self._pending:
            pending.page.get_loop().call_soon(self._make_page)
        try:
            page, _ = self.exposition(pending.accept)
            pending.page.set_result(page)
        except Exception as fault:  # whatever it is, it is for those who asked
            pending.page.set_exception(fault)

    def collect(self) -> Iterator[Metric]:
        """Yield every family of the gateway; the registry calls it at a scrape."""
        yield from self._request_families()
        yield from self._route_families()
        yield from self._decision_families()
        yield from self._source_families()
        build = {
            "version": self._build.version,
            "build": self._build.kind,
            "python": platform.python_version(),
        }
        yield InfoMetricFamily(
            "blnk_gateway_build",
            "Always 1; the labels name the running build, which is compiled or interpreted.",
            value=build,
        )

    def _request_families(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "blnk_gateway_requests_total",
            "Requests that have ended; status 0 is a connection that broke before a response.",
            labels=("route", "method", "status", "code", "answered_by"),
        )
        refusals = dict.fromkeys((code.code for code in Code), 0)
        for (route, method, status, code, answered_by), tally in self.requests.by_labels.items():
            count = sum(tally.counts)
            requests.add_metric((route, method, str(status), code, answered_by), count)
            if code in refusals:
                refusals[code] += count
        yield requests
        by_code = CounterMetricFamily(
            "blnk_gateway_refusals_total",
            "Requests that the gateway itself refused, or that failed here, by the code of the "
            "response; every code is there from the start.",
            labels=("code",),
        )
        for code, count in refusals.items():
            by_code.add_metric((code,), count)
        yield by_code
        yield CounterMetricFamily(
            "blnk_gateway_upstream_refused_total",
            "How often Core refused the gateway's master key: alert on any.",
            value=refusals[Code.UPSTREAM_REFUSED.code],
        )

    def _route_families(self) -> Iterator[Metric]:
        by_route = ("route",)
        requests = HistogramMetricFamily(
            "blnk_gateway_request_duration_seconds",
            "Time that a request took, Core included.",
            labels=by_route,
        )
        upstream = HistogramMetricFamily(
            "blnk_gateway_upstream_duration_seconds", "Time that a request waited for Core.", labels=by_route
        )
        stamped = CounterMetricFamily(
            "blnk_gateway_stamped_total",
            "Bodies that were stamped with the caller's key id.",
            labels=by_route,
        )
        received = CounterMetricFamily(
            "blnk_gateway_request_bytes_total", "Bytes of clients' request bodies.", labels=by_route
        )
        sent = CounterMetricFamily(
            "blnk_gateway_response_bytes_total", "Bytes of response bodies to clients.", labels=by_route
        )
        for route, total in self.requests.by_route().items():
            label = (route,)
            requests.add_metric(label, _cumulative(total.counts), total.total_ms / 1000)
            upstream.add_metric(label, _cumulative(total.upstream_counts), total.upstream_ms / 1000)
            stamped.add_metric(label, total.stamped)
            received.add_metric(label, total.bytes_in)
            sent.add_metric(label, total.bytes_out)
        yield from (requests, upstream, stamped, received, sent)

    def _decision_families(self) -> Iterator[Metric]:
        decisions = CounterMetricFamily(
            "blnk_gateway_decisions_total",
            "Decisions for an ingress, with their true status; 200 is an allowed request.",
            labels=("route", "method", "status", "code"),
        )
        total = Tally()
        for (route, method, status, code, _), tally in self.decisions.by_labels.items():
            decisions.add_metric((route, method, str(status), code), sum(tally.counts))
            total.add(tally)
        yield decisions
        duration = HistogramMetricFamily(
            "blnk_gateway_decision_duration_seconds", "Time that a decision took."
        )
        duration.add_metric((), _cumulative(total.counts), total.total_ms / 1000)
        yield duration

    def _source_families(self) -> Iterator[Metric]:
        sources = self._sources
        yield GaugeMetricFamily(
            "blnk_gateway_requests_in_flight",
            "Requests whose head has come and whose response is not whole.",
            value=sources.requests_in_flight(),
        )
        yield GaugeMetricFamily(
            "blnk_gateway_connections",
            "Connections of clients, without those to decide.listen.",
            value=sources.connections(),
        )
        upstream = GaugeMetricFamily(
            "blnk_gateway_upstream_connections",
            "Connections to Core by state, and requests that wait for one.",
            labels=("state",),
        )
        for state, count in sources.upstream_connections().items():
            upstream.add_metric((state,), count)
        yield upstream
        yield _histogram(
            "blnk_gateway_upstream_connection_wait_seconds",
            "Time until a request had a connection to Core: its turn (upstream.connections), and a "
            "new connection; requests that find an idle connection at once are not counted, unless "
            "their body streams.",
            sources.upstream_waits(),
        )
        key_cache = CounterMetricFamily(
            "blnk_gateway_key_cache_total",
            "Look-ups of keys by result: hit: cached here; miss: the store was asked; refused: 503, "
            "too many unknown keys.",
            labels=("result",),
        )
        for result, count in sources.key_cache().items():
            key_cache.add_metric((result,), count)
        yield key_cache
        yield _histogram(
            "blnk_gateway_key_revocation_lag_seconds",
            "Time from a revocation, by Redis's clock, until this gateway read it, by its own "
            "clock: keep both on NTP.",
            self._revocation_lags,
        )
        yield _histogram(
            "blnk_gateway_event_loop_lag_seconds",
            "How late a timer fired, four times a second: from 0.1 s on, the process has too much to do.",
            sources.loop_lags,
        )
        yield CounterMetricFamily(
            "blnk_gateway_log_lines_dropped_total",
            "Log lines, of requests and events, that were dropped.",
            value=sources.log_lines_dropped(),
        )
        yield GaugeMetricFamily(
            "blnk_gateway_ready", "1 if the gateway is ready, else 0.", value=int(sources.ready())
        )


def _histogram(name: str, text: str, durations: Durations) -> HistogramMetricFamily:
    """Return a histogram without labels."""
    family = HistogramMetricFamily(name, text)
    family.add_metric((), durations.cumulative, durations.total)
    return family


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    return list(zip(_BUCKET_NAMES, accumulate(counts), strict=True))
