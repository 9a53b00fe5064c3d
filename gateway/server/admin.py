"""The application of the admin listener, built from the parts of a gateway."""

from __future__ import annotations

import time
from dataclasses import dataclass

from aiohttp import web

from gateway.admin.application import admin_application
from gateway.admin.checks import AdminAccess
from gateway.admin.console.audit import AuditPage
from gateway.admin.console.keys import KeysPage
from gateway.admin.console.policy import PolicyPage
from gateway.admin.console.snapshot import Snapshots, SnapshotSources
from gateway.admin.console.stream import EventStreams
from gateway.admin.explain import Explaining
from gateway.admin.scopes import ScopesPage
from gateway.config import read_secret
from gateway.keys.authority import Authority
from gateway.server.live_policy import LivePolicy
from gateway.server.observer import Telemetry
from gateway.server.parts import Base, KeyParts
from gateway.telemetry import Sources


@dataclass(frozen=True, slots=True)
class AdminSources:
    """The parts whose state the pages show, beside health and keys."""

    telemetry: Telemetry
    gauges: Sources
    policy: LivePolicy


def open_admin(base: Base, keys: KeyParts, authority: Authority, sources: AdminSources) -> web.Application:
    """Return the application. Raises ValueError for a file of the token that cannot be read."""
    live, config = base.live, base.live.config
    token = read_secret(config.admin_token_file) if config.admin_token_file else None
    scopes = ScopesPage(keys.scope_use, authority, lambda: live.config, since=time.time())
    policy = PolicyPage(lambda: live.config, lambda: sources.policy.before)
    snapshots = Snapshots(
        SnapshotSources(
            health=base.health,
            metrics=sources.telemetry.metrics,
            gauges=sources.gauges,
            refusals=sources.telemetry.refusals,
            expiring=lambda: keys.expiring.count,
        ),
        time.monotonic,
    )
    return admin_application(
        base.health,
        sources.telemetry.metrics,
        AdminAccess([config.admin.host], token),
        explaining=Explaining(lambda: live.config, authority, time.time),
        pages={
            "/scopes": scopes.page,
            "/console/keys": KeysPage(keys.store, time.time).page,
            "/console/audit": AuditPage(keys.store).page,
            "/console/policy": policy.page,
        },
        events=EventStreams(snapshots.latest, lambda: base.health.draining),
    )
