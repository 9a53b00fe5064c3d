"""The values that metrics are made of, for pages that are made without a gateway."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.durations import Durations
from gateway.telemetry import Sources


def sources(**changes: Any) -> Sources:
    """Return the sources of a gateway that has just started, but for these."""
    started = Sources(
        requests_in_flight=lambda: 0,
        connections=lambda: 0,
        upstream_connections=dict,
        upstream_waits=lambda: Durations((1.0,)),
        key_cache=dict,
        log_lines_dropped=lambda: 0,
        ready=lambda: True,
        loop_lags=Durations((1.0,)),
    )
    return replace(started, **changes)
