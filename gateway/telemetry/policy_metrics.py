"""Metrics of the policy: the live file, the last reload, and requests that would have been refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.telemetry.access_log import AccessEntry

_REWRITES: Final = frozenset({"would_stamp", "would_serve"})


@dataclass(frozen=True, slots=True)
class LastReload:
    """The result of the last file that was tried; `at` is in Unix seconds."""

    success: bool
    at: float


class PolicyMetrics(Collector):
    """Counts requests that would have been refused or rewritten; labels are names of routes, and codes."""

    def __init__(self, sha256: Callable[[], str], last_reload: Callable[[], LastReload]) -> None:
        self._sha256 = sha256
        self._last_reload = last_reload
        self._would_deny: Counter[tuple[str, str]] = Counter()
        self._would_rewrite: Counter[tuple[str, str]] = Counter()

    def request(self, entry: AccessEntry) -> None:
        """Count a finished request whose response differs from the one that the policy demands."""
        if entry.would_code:
            self._would_deny[entry.route, entry.would_code] += 1
        elif entry.decision in _REWRITES:
            self._would_rewrite[entry.route, entry.decision.removeprefix("would_")] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield every family; the registry calls it at a scrape."""
        yield from self._live_families()
        yield from self._observed_families()

    def _live_families(self) -> Iterator[Metric]:
        last = self._last_reload()
        yield GaugeMetricFamily(
            "blnk_gateway_config_last_reload_success",
            "1 if the last file that was read is live, 0 if it was refused: alert on 0.",
            value=int(last.success),
        )
        yield GaugeMetricFamily(
            "blnk_gateway_config_last_reload_timestamp_seconds",
            "When the last file was read (Unix seconds); before any reload, when the gateway started.",
            value=last.at,
        )
        live = GaugeMetricFamily(
            "blnk_gateway_config_live",
            "Always 1; the label has the SHA-256 of the file that is live.",
            labels=("sha256",),
        )
        live.add_metric((self._sha256(),), 1)
        yield live

    def _observed_families(self) -> Iterator[Metric]:
        would_deny = CounterMetricFamily(
            "blnk_gateway_would_deny_total",
            "Requests that passed only because of report-only or --observe.",
            labels=("route", "code"),
        )
        for labels, count in self._would_deny.items():
            would_deny.add_metric(labels, count)
        yield would_deny
        would_rewrite = CounterMetricFamily(
            "blnk_gateway_would_rewrite_total",
            "Requests that --observe sent to Core without a stamp, or without serving them here.",
            labels=("route", "how"),
        )
        for labels, count in self._would_rewrite.items():
            would_rewrite.add_metric(labels, count)
        yield would_rewrite
