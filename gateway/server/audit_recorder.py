"""Records what happens in this process for the audit stream; `audit_writer` writes it.

Rules kept here:
- Recording never waits and never fails: entries go into a bounded queue, with the time when they happened.
- Denied attempts are those on `/api-keys` that got 401 or 403, and those of a key to change or revoke a key
  that is none of its owner's, which got 404. They are counted, and become entries once a minute.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import unquote

from gateway.audit.denials import DenialCounts, DeniedAttempt
from gateway.audit.entry import AuditEntry, Kind, shortened_text
from gateway.audit.queue import AuditQueue
from gateway.errors import Code
from gateway.fairness.shares import network_of
from gateway.gocompat.times import Instant
from gateway.keys.minting import is_key_id
from gateway.telemetry import AccessEntry
from gateway.telemetry.request_counts import KNOWN_METHODS

MOST_PROBLEMS: Final = 5
_DENIED: Final = frozenset({401, 403})
_NOT_FOUND: Final = Code.KEY_NOT_FOUND.code
_RESOURCE: Final = "api-keys"


def replica_name() -> str:
    """Return the name of this process in the audit stream."""
    return f"{socket.gethostname()}:{os.getpid()}"


class AuditRecorder:
    """The record of one process.

    Args:
        replica: names this process, as `host:pid`.
        now: the time, aware and in UTC.
    """

    def __init__(self, replica: str, now: Callable[[], datetime]) -> None:
        self._replica = replica
        self._now = now
        self._denials = DenialCounts()
        self._started = False
        self.queue = AuditQueue(replica)

    def refused(self, entry: AccessEntry) -> None:
        """Count a refused request if it was a denied attempt on the keys."""
        if not (entry.status in _DENIED or _is_of_another_owner(entry)) or not _is_of_keys(entry):
            return
        self._denials.add(
            DeniedAttempt(
                at=self._time(),
                network=network_of(entry.client),
                client=entry.client,
                request_id=entry.request_id,
                key_id=entry.key_id,
                owner=entry.owner,
                route=entry.route or f"{_method_of(entry)} /{_RESOURCE}...",
                code=entry.code,
                status=entry.status,
            )
        )

    def settle_denials(self) -> None:
        """Make entries of the attempts that were counted since the last time."""
        for entry in self._denials.take(self._replica):
            self.queue.put(entry)

    def policy_live(self, sha256: str) -> None:
        """Record that a policy is live from now on."""
        self._put(Kind.POLICY_LIVE, policy_sha256=sha256)

    def policy_refused(self, sha256: str, problems: Sequence[str], live_sha256: str) -> None:
        """Record that a file was refused, and the policy that stays live."""
        self._put(
            Kind.POLICY_REFUSED,
            policy_sha256=live_sha256,
            refused_sha256=sha256,
            problems=tuple(map(shortened_text, problems[:MOST_PROBLEMS])),
        )

    def started(self, version: str, sha256: str) -> None:
        """Record that the gateway serves clients."""
        self._started = True
        self._put(Kind.GATEWAY_STARTED, version=version, policy_sha256=sha256)

    def stopped(self, cut: int) -> None:
        """Record that the gateway ends, unless it never served anybody; `cut` requests were cut."""
        self.settle_denials()
        if self._started:
            self._started = False
            self._put(Kind.GATEWAY_STOPPED, cut=cut)

    def _put(self, kind: Kind, **members: object) -> None:
        self.queue.put(AuditEntry(kind=kind, at=self._time(), replica=self._replica, **members))  # type: ignore[arg-type]

    def _time(self) -> str:
        return str(Instant.of(self._now()))


def _is_of_another_owner(entry: AccessEntry) -> bool:
    """Return whether a key tried to change or revoke one that its owner does not have.

    The master key has every owner's keys: its 404 is a wrong id.
    """
    return entry.code == _NOT_FOUND and is_key_id(entry.key_id)


def _method_of(entry: AccessEntry) -> str:
    """Return the method, or `other` for one of a client's own: it can make up any number of names."""
    return entry.method if entry.method in KNOWN_METHODS else "other"


def _is_of_keys(entry: AccessEntry) -> bool:
    """Return whether a request was about keys: by its route, or where no route lists it, by its path."""
    path = entry.route.partition(" ")[2] or unquote(entry.path)
    return path.removeprefix("/").partition("/")[0] == _RESOURCE
