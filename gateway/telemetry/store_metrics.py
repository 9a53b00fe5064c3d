"""Metrics of the key store itself, as it was seen last."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class StoreMetrics(Collector):
    """What a store holds of what it may; `memory` is None where there is no bound, or it is not known."""

    def __init__(self, memory: Callable[[], float | None]) -> None:
        self._memory = memory

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at a scrape."""
        family = GaugeMetricFamily(
            "blnk_gateway_key_store_memory_ratio", "Memory that Redis uses, as a part of its maxmemory."
        )
        if (ratio := self._memory()) is not None:
            family.add_metric((), ratio)
        yield family
