"""Metrics of TLS: the end of each certificate in use, and the results of handshakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class TlsMetrics(Collector):
    """Reports on TLS.

    Args:
        ends: returns the end of each certificate in Unix seconds, by its setting.
        handshakes: returns the number of handshakes, by listener and by result.
    """

    def __init__(
        self,
        ends: Callable[[], Mapping[str, float]],
        handshakes: Callable[[], Mapping[tuple[str, str], int]],
    ) -> None:
        self._ends = ends
        self._handshakes = handshakes

    def collect(self) -> Iterator[Metric]:
        """Yield the families; the registry calls it at a scrape."""
        ends = GaugeMetricFamily(
            "blnk_gateway_certificate_end_timestamp_seconds",
            "When a certificate in use ends (Unix seconds): that of tls.certificate, and that of "
            "upstream.certificate.",
            labels=("setting",),
        )
        for setting, end in self._ends().items():
            ends.add_metric((setting,), end)
        yield ends
        handshakes = CounterMetricFamily(
            "blnk_gateway_tls_handshakes_total",
            "TLS handshakes of clients by result: done; abandoned: the client left, or its time was "
            "over; no_certificate, untrusted: its certificate; version: older than 1.2; plain_http; "
            "failed: anything else.",
            labels=("listener", "result"),
        )
        for labels, count in self._handshakes().items():
            handshakes.add_metric(labels, count)
        yield handshakes
