"""Traces of a gateway: the sampler of its requests, and the export of what is sampled.

Rules kept here:
- OpenTelemetry is imported only if `tracing.endpoint` is set.
- It is logged at most once a minute that spans were lost.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.config import Config
from gateway.server.errors import StartError
from gateway.server.exit_codes import Exit
from gateway.server.version import version
from gateway.telemetry import Log
from gateway.telemetry.trace_context import TraceSampler
from gateway.telemetry.traces import TRACING_PACKAGES_MISSING

if TYPE_CHECKING:
    from gateway.telemetry.otlp import OtlpSpans

FLUSH_SECONDS: Final = 2.0
"""How long the last spans may take at the end of a process."""
_LOOK_SECONDS: Final = 60.0
_PACKAGES: Final = frozenset({"opentelemetry", "requests", "urllib3"})


@dataclass(frozen=True, slots=True)
class Tracing:
    """The sampler of requests and the spans of those that are sampled."""

    sampler: TraceSampler
    spans: OtlpSpans

    def adopt(self, config: Config) -> None:
        """Sample by the ratio of another configuration."""
        self.sampler.adopt(config.tracing.ratio)

    def span_counts(self) -> Mapping[str, int]:
        """Return the spans so far by what became of them."""
        return self.spans.counts

    async def report_losses(self, log: Log, every: float = _LOOK_SECONDS) -> None:
        """Log every `every` seconds how many spans were lost since, if any were; for ever."""
        before = 0
        while True:
            await asyncio.sleep(every)
            counts = self.spans.counts
            lost = counts["failed"] + counts["dropped"]
            if lost > before:
                log.events.warning("spans were lost: the collector is away or slow", lost=lost - before)
            before = lost

    async def close(self) -> None:
        """Export what waits, for `FLUSH_SECONDS` at most."""
        await self.spans.close(FLUSH_SECONDS)


def open_tracing(config: Config, instance: str) -> Tracing | None:
    """Return what traces requests, None if they are not traced; no other process has the id `instance`.

    Raises StartError if packages are missing.
    """
    if not config.tracing.endpoint:
        return None
    try:
        from gateway.telemetry.otlp import OtlpSpans, Service
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise StartError(TRACING_PACKAGES_MISSING, Exit.USAGE) from missing
    service = Service(version(), instance, config.upstream.url)
    return Tracing(
        TraceSampler(config.tracing.ratio, os.urandom), OtlpSpans(config.tracing.endpoint, service)
    )
