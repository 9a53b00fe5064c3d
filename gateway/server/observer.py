"""The observer of requests: metrics, log, and what they show of dependencies.

Rules kept here:
- A fault is logged without its text, which may quote a request.
- It is logged at most once a minute that Core refuses the master key, or accepts another one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import GatewayError
from gateway.keys.api.resource import ApiResponse
from gateway.keys.store import KeyChange
from gateway.proxy.core_access import CoreAccess
from gateway.server.audit_recorder import AuditRecorder
from gateway.server.core_watch import CoreWatch
from gateway.server.dependencies import LIMITS, STORE, UPSTREAM, Dependencies
from gateway.server.reminder import Reminder
from gateway.telemetry import AccessEntry, Log, Metrics
from gateway.telemetry.access_log import DECIDED
from gateway.telemetry.policy_metrics import PolicyMetrics
from gateway.telemetry.refusal_counts import RefusalCounts
from gateway.telemetry.trace_context import TraceContext
from gateway.telemetry.traces import SpanRecorder


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The takers of requests and events: log, metrics, refusals, and spans if requests are traced."""

    log: Log
    metrics: Metrics
    policy: PolicyMetrics
    refusals: RefusalCounts
    spans: SpanRecorder | None = None


class GatewayObserver:
    """Takes note of requests; a `proxy.handler.Observer` and all narrower ones.

    Args:
        telemetry: takes requests and events.
        dependencies: record which of them responds.
        core: whether Core was verified, and its master key.
        watch: asks Core anew.
        reread: reads the master keys again.
        audit: records denied attempts on keys.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        dependencies: Dependencies,
        core: CoreAccess,
        watch: CoreWatch,
        reread: Callable[[], None],
        audit: AuditRecorder,
    ) -> None:
        self._log = telemetry.log
        self._events = telemetry.log.events
        self._metrics = telemetry.metrics
        self._requests = telemetry.metrics.requests
        self._policy = telemetry.policy
        self._refusals = telemetry.refusals
        self._spans = telemetry.spans
        self._dependencies = dependencies
        self._core = core
        self._watch = watch
        self._reread = reread
        self._audit = audit
        self._reminder = Reminder()

    def record(self, entry: AccessEntry) -> None:
        """Count and log a request that has ended."""
        self._requests.count(entry)
        self._policy.request(entry)
        if entry.code:
            self._refusals.count(entry)
            self._audit.refused(entry)
        self._log.record(entry)

    def record_trace(self, trace: TraceContext, entry: AccessEntry, scheme: str, sent_ms: float) -> None:
        """Record the spans of a sampled request that has ended."""
        if self._spans is not None:
            self._spans.record(trace, entry, scheme, sent_ms)

    def keys_changed(self, entry: AccessEntry, response: ApiResponse) -> None:
        """Log which keys a request made, changed or revoked, by their ids."""
        log = self._events.bind(by=entry.key_id, request_id=entry.request_id)
        if response.created:
            log.info("key created", key_id=response.created)
        if response.updated:
            log.info("key updated", key_id=response.updated)
        if response.revoked:
            log.info("key revoked", key_id=response.revoked, descendants=response.descendants)

    def core_responded(self) -> None:
        """Remember that Core responds."""
        self._dependencies.responded(UPSTREAM)

    def core_failed(self, failure: GatewayError) -> None:
        """Remember that Core fails; before it was verified, ask it again."""
        if self._core.verified:
            self._dependencies.failed(UPSTREAM, failure.reason)
        else:
            self._watch.ask_now()

    def store_responded(self) -> None:
        """Remember that the key store responds."""
        self._dependencies.responded(STORE)

    def store_failed(self, failure: GatewayError) -> None:
        """Remember that the key store fails."""
        self._dependencies.failed(STORE, failure.reason)

    def limits_shared(self, failure: GatewayError | None) -> None:
        """Remember whether the limits of keys are shared with other replicas, or why not."""
        if failure is None:
            self._dependencies.responded(LIMITS)
        else:
            self._dependencies.failed(LIMITS, failure.reason)

    def key_refused(self) -> None:
        """Read the master keys again."""
        self._reread()

    def key_accepted(self) -> None:
        """Log that Core's master key was changed. The old one is dropped, if no file holds it any more."""
        self._reread()
        event = "core accepts another master key"
        if self._reminder.due(event, time.monotonic()):
            self._events.info(event, upstream=self._core.url)

    def refused(self) -> None:
        """Log that Core refuses the master key."""
        event = "core refused the master key"
        if self._reminder.due(event, time.monotonic()):
            self._events.error(event, upstream=self._core.url)

    def fault(self, problem: Exception) -> None:
        """Log a fault of the gateway's own, without the request's content."""
        self._events.error("fault", kind=type(problem).__name__, exc_info=_scrubbed(problem))

    def task_failed(self, problem: Exception) -> None:
        """Log that a background task has failed, and let health show it."""
        self._dependencies.failed("gateway", "a part of the gateway has failed: restart it")
        self.fault(problem)

    def ended_late(self, entry: AccessEntry, status: int | None) -> None:
        """Log how Core ended a request whose client had been told that its time was over."""
        self._events.warning(
            "a request whose time was over has ended at Core",
            request_id=entry.request_id,
            route=entry.route,
            key_id=entry.key_id,
            status=status,
            seconds=round(time.time() - entry.time, 3),
        )

    def key_changed(self, change: KeyChange) -> None:
        """Measure how long a revocation took to come here."""
        if change.at is not None:
            self._metrics.revocation_applied(time.time() - change.at)

    def not_revoked_in_core(self, key_id: str, reason: str) -> None:
        """Log that Core is still to revoke a key that has ended here."""
        self._events.warning(
            "a key that has ended here is still to be revoked in Core", key_id=key_id, reason=reason
        )


class DecisionObserver(GatewayObserver):
    """Takes note of decisions that an ingress asked for: they are logged as such, and counted apart."""

    def record(self, entry: AccessEntry) -> None:
        """Count and log a decision."""
        entry.answered_by = DECIDED
        self._metrics.decisions.count(entry)
        self._policy.request(entry)
        if entry.code:
            self._refusals.count(entry)
            self._audit.refused(entry)
        self._log.record(entry)


def _scrubbed(problem: Exception) -> Exception:
    """Return the same fault without its text, which may quote a request."""
    return Exception(type(problem).__name__).with_traceback(problem.__traceback__)
