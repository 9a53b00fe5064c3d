"""The state of Core and the key store: at once in health and metrics, in the log once it has lasted.

Rules kept here:
- Health and the gauges show the present state; every change of it is counted.
- A change is logged once it has lasted for a second. Of changes that did not last, the log gives the number:
  in the next line about that dependency, or a minute after the first of them. So a dependency that is lost
  and restored all the time costs one line a minute.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from structlog.typing import FilteringBoundLogger

from gateway.admin.health import Health

UPSTREAM: Final = "upstream"
STORE: Final = "store"
LIMITS: Final = "limits"

LASTING_SECONDS: Final = 1.0
"""One refused connection or one slow response is over within it. Core and the store are asked every 0.5 s, so
a change that has lasted was seen at least twice."""
TOGETHER_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.25
_DIRECTIONS: Final = ("down", "up")


@dataclass(slots=True)
class _Logged:
    """The state of one dependency as logged, and the changes since; times are monotonic seconds."""

    up: bool = True
    changes: int = 0
    first: float = 0.0
    last: float = 0.0


class Dependencies:
    """Keeps `health` up to date, and logs changes. `now` gives monotonic seconds."""

    def __init__(self, health: Health, log: FilteringBoundLogger, now: Callable[[], float]) -> None:
        self._health = health
        self._log = log
        self._now = now
        self._logged: dict[str, _Logged] = {}
        self._changes = Counter({(name, to): 0 for name in (UPSTREAM, STORE) for to in _DIRECTIONS})

    @property
    def changes(self) -> Mapping[tuple[str, str], int]:
        """The number of times that each dependency went "down" and came "up"."""
        return self._changes

    def up(self, name: str) -> bool:
        """Return True if a dependency responded last, and, of Core, if it was verified."""
        return name not in self._health.degraded and (name != UPSTREAM or self._health.core_seen)

    def responded(self, name: str) -> None:
        """Take note that a dependency responded."""
        if self._health.restore(name):
            self._changed(name, "up")

    def failed(self, name: str, reason: str) -> None:
        """Take note that a dependency did not respond."""
        if self._health.degrade(name, reason):
            self._changed(name, "down")

    def _changed(self, name: str, to: str) -> None:
        self._changes[name, to] += 1
        logged = self._logged.setdefault(name, _Logged())
        logged.last = self._now()
        if not logged.changes:
            logged.first = logged.last
        logged.changes += 1

    async def run(self) -> None:
        """Look at the changes for ever; returns only by cancellation."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Log the changes that have lasted, and the number of those that have not."""
        now = self._now()
        for name, logged in self._logged.items():
            up = name not in self._health.degraded
            if up != logged.up and now - logged.last >= LASTING_SECONDS:
                changes, logged.up, logged.changes = logged.changes, up, 0
                self._log_settled(name, changes)
            elif logged.changes and now - logged.first >= TOGETHER_SECONDS:
                # The last one is still to be logged where it lasts.
                changes, logged.changes, logged.first = logged.changes, int(up != logged.up), now
                self._log.warning("flapping", dependency=name, changes=changes)

    def _log_settled(self, name: str, changes: int) -> None:
        reason = self._health.degraded.get(name)
        if reason is None:
            self._log.info("restored", dependency=name, changes=changes)
        else:
            self._log.warning("degraded", dependency=name, reason=reason, changes=changes)


class DependencyMetrics(Collector):
    """The metrics of the dependencies."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    def collect(self) -> Iterator[Metric]:
        """Yield every family; called by the registry at a scrape."""
        up = self._dependencies.up
        yield GaugeMetricFamily(
            "blnk_gateway_upstream_up", "1 if Core responded last time, else 0.", value=int(up(UPSTREAM))
        )
        yield GaugeMetricFamily(
            "blnk_gateway_key_store_up",
            "1 if the key store responded last time, else 0.",
            value=int(up(STORE)),
        )
        changes = CounterMetricFamily(
            "blnk_gateway_dependency_changes_total",
            "How often Core (upstream) or the key store (store) went down or came up.",
            labels=("dependency", "to"),
        )
        for labels, count in self._dependencies.changes.items():
            changes.add_metric(labels, count)
        yield changes
