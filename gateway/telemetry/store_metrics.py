"""Metrics of the key store itself: its commands, and what the last look at it has shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gateway.durations import Durations


class Commands(Protocol):
    """The commands of one kind."""

    @property
    def responses(self) -> Durations:
        """How long the responses took."""

    @property
    def failures(self) -> int:
        """Number of commands that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSources:
    """The values that are read when Prometheus scrapes.

    `memory` is the part of its bound that the store uses, None without one; `expiring` the number of keys
    that end within 7 days, None before they were counted; `commands` those of the store, by kind.
    """

    memory: Callable[[], float | None]
    expiring: Callable[[], int | None]
    commands: Callable[[], Mapping[str, Commands]]


class StoreMetrics(Collector):
    """Reports how the store does; a value that is not known is left out."""

    def __init__(self, sources: StoreSources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Yield every family; the registry calls it at a scrape."""
        yield _gauge(
            "blnk_gateway_key_store_memory_ratio",
            "Memory that Redis uses, divided by its maxmemory; absent without a maxmemory: alert on 0.9.",
            self._sources.memory(),
        )
        yield _gauge(
            "blnk_gateway_keys_expiring",
            "Keys that end within 7 days, also because they were rotated; absent until they were "
            "counted; without some keys that 0.1.0 wrote, or that only Core knows.",
            self._sources.expiring(),
        )
        yield from self._command_families()

    def _command_families(self) -> Iterator[Metric]:
        times = HistogramMetricFamily(
            "blnk_gateway_key_store_duration_seconds",
            "Time until Redis responded, by kind of command: look_up: up to 64 unknown, or 256 "
            "known keys together; change: one change, with what it reads and with acknowledgements; "
            "follow: a read of the changes, without the time that Redis waits for one. Nothing is "
            "counted for memory://.",
            labels=("command",),
        )
        errors = CounterMetricFamily(
            "blnk_gateway_key_store_errors_total",
            "Commands to the key store that failed or were not done in time, by their kind.",
            labels=("command",),
        )
        for kind, commands in self._sources.commands().items():
            times.add_metric((kind,), commands.responses.cumulative, commands.responses.total)
            errors.add_metric((kind,), commands.failures)
        yield times
        yield errors


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    """Return a gauge without labels; one without a sample if there is no value."""
    family = GaugeMetricFamily(name, text)
    if value is not None:
        family.add_metric((), value)
    return family
