"""Metrics of the limits of keys: refusals by limit, leases by result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

NO_LEASES: Final[Mapping[str, int]] = MappingProxyType({})
"""The leases of a replica that shares its limits with nobody."""


class LimitMetrics(Collector):
    """Reports what is counted elsewhere.

    Args:
        refusals: the refused requests by the limit that refused them.
        leases: the leases by result.
        keys: returns the number of keys whose use is remembered.
    """

    def __init__(
        self, refusals: Mapping[str, int], leases: Mapping[str, int], keys: Callable[[], int]
    ) -> None:
        self._refusals = refusals
        self._leases = leases
        self._keys = keys

    def collect(self) -> Iterator[Metric]:
        """Yield every family; the registry calls it at a scrape."""
        refusals = CounterMetricFamily(
            "blnk_gateway_limit_refusals_total",
            "Requests refused by the limit of their key: rate; concurrency; store: 503, by "
            "limits.on_store_failure: deny.",
            labels=("limit",),
        )
        for limit, count in self._refusals.items():
            refusals.add_metric((limit,), count)
        yield refusals
        leases = CounterMetricFamily(
            "blnk_gateway_limit_leases_total",
            "Leases of tokens, one for each key in a call to Redis, by result: granted; empty: "
            "tokens were wanted, and none was left; failed.",
            labels=("result",),
        )
        for result, count in self._leases.items():
            leases.add_metric((result,), count)
        yield leases
        yield GaugeMetricFamily(
            "blnk_gateway_limited_keys",
            "Keys with a limit whose use is remembered here; it falls when they are idle.",
            value=self._keys(),
        )
