"""Whether Core and the key store answer: at once for health and metrics, in the log once it has lasted.

Rules kept here:
- Health and the gauges show the present state; every change of it is counted.
- The log gets a change that has lasted for a second. Changes that did not last are told by their number: in
  the next line about that dependency, or a minute after the first of them. So a dependency that comes and
  goes all the time costs one line a minute.
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

from gateway.admin.application import Health

UPSTREAM: Final = "upstream"
STORE: Final = "store"

LASTING_SECONDS: Final = 1.0
"""One refused connection or one slow answer is over within it. Core and the store are asked every 0.5 s, so
what has lasted was seen at least twice."""
TOGETHER_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.25
_DIRECTIONS: Final = ("down", "up")


@dataclass(slots=True)
class _Logged:
    """What the log says of one dependency, and the changes since; times are monotonic seconds."""

    up: bool = True
    changes: int = 0
    first: float = 0.0
    last: float = 0.0


class Dependencies:
    """Keeps `health` true, and tells `log` of changes. `now` gives monotonic seconds."""

    def __init__(self, health: Health, log: FilteringBoundLogger, now: Callable[[], float]) -> None:
        self._health = health
        self._log = log
        self._now = now
        self._logged: dict[str, _Logged] = {}
        self._changes = Counter({(name, to): 0 for name in (UPSTREAM, STORE) for to in _DIRECTIONS})

    @property
    def changes(self) -> Mapping[tuple[str, str], int]:
        """How often each dependency went "down" and came "up"."""
        return self._changes

    def up(self, name: str) -> bool:
        """Whether a dependency answered last; Core also has to have been accepted once."""
        return name not in self._health.degraded and (name != UPSTREAM or self._health.core_seen)

    def answered(self, name: str) -> None:
        """A dependency answered."""
        if self._health.degraded.pop(name, None) is not None:
            self._changed(name, "up")

    def failed(self, name: str, reason: str) -> None:
        """A dependency did not answer."""
        changed = name not in self._health.degraded
        self._health.degraded[name] = reason
        if changed:
            self._changed(name, "down")

    def _changed(self, name: str, to: str) -> None:
        self._changes[name, to] += 1
        logged = self._logged.setdefault(name, _Logged())
        logged.last = self._now()
        if not logged.changes:
            logged.first = logged.last
        logged.changes += 1

    async def run(self) -> None:
        """Look for ever; returns only by cancellation."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Log what has lasted, and what has not lasted for long enough."""
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
        """Every family; called by the registry at a scrape."""
        up = self._dependencies.up
        yield GaugeMetricFamily(
            "blnk_gateway_upstream_up", "1 if Core answered last, else 0.", value=int(up(UPSTREAM))
        )
        yield GaugeMetricFamily(
            "blnk_gateway_key_store_up", "1 if the key store answered last, else 0.", value=int(up(STORE))
        )
        changes = CounterMetricFamily(
            "blnk_gateway_dependency_changes_total",
            "How often Core and the key store went down and came up.",
            labels=("dependency", "to"),
        )
        for labels, count in self._dependencies.changes.items():
            changes.add_metric(labels, count)
        yield changes
