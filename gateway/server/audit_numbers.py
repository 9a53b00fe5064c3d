"""The numbers of the audit stream, for its metrics."""

from __future__ import annotations

from collections.abc import Callable

from gateway.keys.store import AuditStream
from gateway.server.parts import AuditParts
from gateway.telemetry.audit_metrics import AuditNumbers


def audit_numbers(audit: AuditParts, stream: AuditStream, now: Callable[[], float]) -> AuditNumbers:
    """Return the numbers as they are at `now` (Unix seconds)."""
    unshipped, queue = audit.watch.unshipped, audit.recorder.queue
    return AuditNumbers(
        written=stream.audited,
        lost=queue.lost,
        waiting=len(queue),
        unshipped=unshipped.entries,
        age=0.0 if unshipped.since is None else max(0.0, now() - unshipped.since),
        late=audit.watch.late,
    )
