"""Metrics of the key store itself, as of the last look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class StoreMetrics(Collector):
    """Reports how full the store is; `memory` returns None if there is no bound or it is unknown."""

    def __init__(self, memory: Callable[[], float | None]) -> None:
        self._memory = memory

    def collect(self) -> Iterator[Metric]:
        """Yield the family; the registry calls it at a scrape."""
        family = GaugeMetricFamily(
            "blnk_gateway_key_store_memory_ratio", "Memory that Redis uses, as a fraction of its maxmemory."
        )
        if (ratio := self._memory()) is not None:
            family.add_metric((), ratio)
        yield family
