"""All collectors of metrics, for pages that are made without a gateway."""

from __future__ import annotations

import io

from prometheus_client.registry import Collector

from gateway.admin.health import Health
from gateway.server.dependencies import Dependencies, DependencyMetrics
from gateway.server.proxy_headers import HeaderRefusals
from gateway.telemetry import Build, Log, Metrics
from gateway.telemetry.audit_metrics import AuditMetrics, AuditNumbers
from gateway.telemetry.limit_metrics import NO_LEASES, LimitMetrics
from gateway.telemetry.policy_metrics import LastReload, PolicyMetrics
from gateway.telemetry.store_metrics import StoreMetrics, StoreSources
from gateway.telemetry.tls_metrics import TlsMetrics
from gateway.telemetry.traces import TraceMetrics
from tests.telemetry.sources import sources

NO_AUDIT = AuditNumbers(written={}, lost=0, waiting=0, unshipped=0, age=0.0, late=False)


def collectors() -> list[Collector]:
    """Return all that puts metrics on the page, as in a gateway that has just started."""
    store = StoreSources(memory=lambda: 0.5, expiring=lambda: 0, commands=dict)
    log = Log(io.StringIO()).events
    return [
        Metrics(sources(), Build("0", "interpreted")),
        PolicyMetrics(str, lambda: LastReload(success=True, at=0.0)),
        DependencyMetrics(Dependencies(Health(version="0"), log, lambda: 0.0)),
        StoreMetrics(store),
        TlsMetrics(dict, dict),
        HeaderRefusals(log),
        AuditMetrics(lambda: NO_AUDIT),
        TraceMetrics(dict),
        LimitMetrics(NO_LEASES, NO_LEASES, lambda: 0),
    ]
