"""Metrics of the audit stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditNumbers:
    """The state of the audit stream, as this process knows it.

    Attributes:
        written: entries that this process has written, by kind.
        lost: entries that this process has lost.
        waiting: entries of this process that the store has not taken yet.
        unshipped: entries that the slowest shipper has not printed.
        age: the seconds since the oldest of them was written.
        late: True if such entries will soon be trimmed, and that matters.
    """

    written: Mapping[str, int]
    lost: int
    waiting: int
    unshipped: int
    age: float
    late: bool


class AuditMetrics(Collector):
    """Reports the audit stream; labels are kinds of entries."""

    def __init__(self, numbers: Callable[[], AuditNumbers]) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        """Yield every family; the registry calls it at a scrape."""
        numbers = self._numbers()
        written = CounterMetricFamily(
            "blnk_gateway_audit_entries_total",
            "Entries of the audit stream that this process has written.",
            labels=("kind",),
        )
        for kind, count in sorted(numbers.written.items()):
            written.add_metric((kind,), count)
        yield written
        yield CounterMetricFamily(
            "blnk_gateway_audit_entries_lost_total",
            "Entries of the audit stream that this process has lost, because the store took none "
            "for too long: alert on any.",
            value=numbers.lost,
        )
        yield GaugeMetricFamily(
            "blnk_gateway_audit_entries_waiting",
            "Entries of the audit stream of this process that wait for the store.",
            value=numbers.waiting,
        )
        yield GaugeMetricFamily(
            "blnk_gateway_audit_unshipped_entries",
            "Entries of the audit stream that the slowest shipper has not printed.",
            value=numbers.unshipped,
        )
        yield GaugeMetricFamily(
            "blnk_gateway_audit_unshipped_age_seconds",
            "Time since the oldest entry was written that the slowest shipper has not printed.",
            value=numbers.age,
        )
        yield GaugeMetricFamily(
            "blnk_gateway_audit_trims_unshipped",
            "1 if entries will soon be trimmed that a shipper has not printed (audit.unshipped: "
            "warn), else 0: alert on 1.",
            value=int(numbers.late),
        )
