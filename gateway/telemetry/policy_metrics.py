"""Metrics of the policy: which is live, what came of the last reload, what would have been refused."""

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
    """Whether the last file that was tried is live, and when it was tried (Unix seconds)."""

    success: bool
    at: float


class PolicyMetrics(Collector):
    """Counts what would have been refused or rewritten; labels are names of routes, and codes."""

    def __init__(self, sha256: Callable[[], str], last_reload: Callable[[], LastReload]) -> None:
        self._sha256 = sha256
        self._last_reload = last_reload
        self._would_deny: Counter[tuple[str, str]] = Counter()
        self._would_rewrite: Counter[tuple[str, str]] = Counter()

    def request(self, entry: AccessEntry) -> None:
        """Count one finished request, where it was answered otherwise than it would have been."""
        if entry.would_code:
            self._would_deny[entry.route, entry.would_code] += 1
        elif entry.decision in _REWRITES:
            self._would_rewrite[entry.route, entry.decision.removeprefix("would_")] += 1

    def collect(self) -> Iterator[Metric]:
        """Every family; called by the registry at a scrape."""
        last = self._last_reload()
        yield GaugeMetricFamily(
            "blnk_gateway_config_last_reload_success",
            "1 if the last file that was tried is live, 0 if it was refused.",
            value=int(last.success),
        )
        yield GaugeMetricFamily(
            "blnk_gateway_config_last_reload_timestamp_seconds",
            "When the last file was tried; at first, the start.",
            value=last.at,
        )
        live = GaugeMetricFamily(
            "blnk_gateway_config_live", "1; the SHA-256 of the file that is live.", labels=("sha256",)
        )
        live.add_metric((self._sha256(),), 1)
        yield live
        would_deny = CounterMetricFamily(
            "blnk_gateway_would_deny_total",
            "Requests let pass by report-only or --observe that would have been refused.",
            labels=("route", "code"),
        )
        for labels, count in self._would_deny.items():
            would_deny.add_metric(labels, count)
        yield would_deny
        would_rewrite = CounterMetricFamily(
            "blnk_gateway_would_rewrite_total",
            "Requests passed on as they came by --observe that would have been stamped, or served here.",
            labels=("route", "how"),
        )
        for labels, count in self._would_rewrite.items():
            would_rewrite.add_metric(labels, count)
        yield would_rewrite
