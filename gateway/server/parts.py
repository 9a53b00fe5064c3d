"""The parts of a gateway, in the groups in which they are built and used."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.admin.health import Health
from gateway.keys.authority import Authority
from gateway.keys.cache import KeyCache
from gateway.keys.expiring import ExpiringKeys
from gateway.keys.store import KeyStore
from gateway.keys.usage import LastUsed
from gateway.proxy.core_access import CoreAccess
from gateway.proxy.handler import RequestHandler
from gateway.proxy.leasing import Leasing
from gateway.proxy.rate_limit import RateLimiter
from gateway.server.audit_recorder import AuditRecorder
from gateway.server.audit_watch import AuditWatch
from gateway.server.audit_writer import AuditWriter
from gateway.server.certificates import Certificates
from gateway.server.core_watch import CoreWatch
from gateway.server.dependencies import Dependencies
from gateway.server.listeners import Listeners
from gateway.server.live_config import LiveConfig
from gateway.server.observer import GatewayObserver, Telemetry
from gateway.server.reload import Reload, Source
from gateway.server.store_watch import StoreWatch
from gateway.server.systemd import NotifySocket
from gateway.server.tasks import BackgroundTasks
from gateway.server.tracing import Tracing
from gateway.telemetry import Log
from gateway.telemetry.scope_use import ScopeUse
from gateway.wire.clients import Clients
from gateway.wire.pool import Pool

Work = Callable[[], Coroutine[Any, Any, None]]
"""Work in the background, from the start to the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The choices that are no settings.

    Attributes:
        store: replaces the one that `keys.store` names.
        source: the configuration file to follow, if any.
        observe: let Core decide, and note what would be done.
        reuse_port: share the port for clients with other processes.
        open_files: the limit of open files, below which connections are kept.
        notify: where systemd listens for the state of this process, if it does.
    """

    store: KeyStore | None = None
    source: Source | None = None
    observe: bool = False
    reuse_port: bool = False
    open_files: int = sys.maxsize
    notify: NotifySocket | None = None


@dataclass(frozen=True, slots=True)
class Base:
    """The parts that all others are built on."""

    options: Options
    loop: asyncio.AbstractEventLoop
    log: Log
    live: LiveConfig
    health: Health
    dependencies: Dependencies
    core_access: CoreAccess
    certificates: Certificates
    id_prefix: str
    audit: AuditRecorder
    tracing: Tracing | None


@dataclass(frozen=True, slots=True)
class KeyParts:
    """The parts that know keys, before it is known who the authority is.

    `leasing` shares the limits of keys with other replicas; None if the store is of this process alone.
    """

    store: KeyStore
    cache: KeyCache
    watch: StoreWatch
    last_used: LastUsed
    expiring: ExpiringKeys
    scope_use: ScopeUse
    limiter: RateLimiter
    leasing: Leasing | None


@dataclass(frozen=True, slots=True)
class AuditParts:
    """The parts that record what happens, write it, and look whether it is shipped."""

    recorder: AuditRecorder
    writer: AuditWriter
    watch: AuditWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreParts:
    """The connections to Core, of requests and of checks, and what asks Core."""

    pool: Pool
    probe_pool: Pool
    watch: CoreWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """Everything that clients and operators connect to; `ingresses` ask for decisions, if any may."""

    handler: RequestHandler
    clients: Clients
    ingresses: Clients | None
    listeners: Listeners
    admin: web.Application
    health: web.Application


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """The background tasks, and the work that they do from the start to the end."""

    tasks: BackgroundTasks
    work: Sequence[Work]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayParts:
    """The parts of one gateway, which `server.build` makes; `notice` is logged at the start, if any."""

    live: LiveConfig
    health: Health
    telemetry: Telemetry
    observer: GatewayObserver
    keys: KeyParts
    audit: AuditParts
    authority: Authority
    core: CoreParts
    front: Front
    tracing: Tracing | None
    background: Background
    certificates: Certificates
    reload: Reload | None
    notice: str
