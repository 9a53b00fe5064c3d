"""The live numbers of the console, as one small JSON text.

Rules kept here:
- A snapshot is made when a stream asks for one; streams that ask within the same moment share it.
- It is bounded: by the number of routes, and of keys with refusals, that it lists.
- It names keys by their ids. No text of a client is in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.admin.console.traffic import Traffic
from gateway.admin.health import Health
from gateway.telemetry import Metrics, Sources
from gateway.telemetry.refusal_counts import RefusalCounts

MOST_KEYS: Final = 50
SHARED_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSources:
    """The sources of a snapshot; `expiring` returns how many keys end soon, None before the first count."""

    health: Health
    metrics: Metrics
    gauges: Sources
    refusals: RefusalCounts
    expiring: Callable[[], int | None]


class Snapshots:
    """Makes snapshots; `clock` gives seconds and never goes back."""

    def __init__(self, sources: SnapshotSources, clock: Callable[[], float]) -> None:
        self._sources = sources
        self._clock = clock
        self._traffic = Traffic([sources.metrics.requests, sources.metrics.decisions])
        self._last = b""
        self._made_at = 0.0

    def latest(self) -> bytes:
        """Return a snapshot that is at most `SHARED_SECONDS` old, as JSON on one line."""
        now = self._clock()
        if not self._last or now - self._made_at >= SHARED_SECONDS:
            self._last, self._made_at = msgspec.json.encode(self._members(now)), now
        return self._last

    def _members(self, now: float) -> dict[str, object]:
        sources = self._sources
        _, health = sources.health.report()
        return {
            "health": health,
            "core": sources.health.core,
            "store": sources.health.degraded.get("store", ""),
            "traffic": self._traffic.members(now),
            "refused_keys": [
                {"key_id": key_id, "code": code, "count": count}
                for key_id, code, count in sources.refusals.most_frequent(MOST_KEYS)
            ],
            "refusals_left_out": sources.refusals.besides(MOST_KEYS),
            "in_flight": sources.gauges.requests_in_flight(),
            "connections": sources.gauges.connections(),
            "core_connections": dict(sources.gauges.upstream_connections()),
            "keys_ending_soon": sources.expiring(),
        }
