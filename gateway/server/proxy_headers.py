"""The refusals of connections for want of a PROXY header, in the log and the metrics.

Rules kept here:
- Each reason is logged at most once a minute; every refusal is counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from structlog.typing import FilteringBoundLogger

from gateway.server.reminder import Reminder
from gateway.wire.proxied_connection import HeaderRefusal


class HeaderRefusals(Collector):
    """Logs and counts refusals; a `wire.proxied_connection.HeaderObserver`."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._reminder = Reminder()
        self._counts: Counter[HeaderRefusal] = Counter()

    def header_refused(self, refusal: HeaderRefusal, peer: str, reason: str) -> None:
        """Count a refusal, and log it if its reason was not logged for a minute."""
        self._counts[refusal] += 1
        if self._reminder.due(reason, time.monotonic()):
            self._log.warning("connection without a PROXY header", peer=peer, reason=reason)

    def collect(self) -> Iterator[Metric]:
        """Yield the family; the registry calls it at a scrape."""
        family = CounterMetricFamily(
            "blnk_gateway_proxy_header_refusals_total",
            "Connections that were closed because of their PROXY header, by reason: untrusted, "
            "malformed, late, crowded.",
            labels=("reason",),
        )
        for refusal in HeaderRefusal:
            family.add_metric((refusal.value,), self._counts[refusal])
        yield family
