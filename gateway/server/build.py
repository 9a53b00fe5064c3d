"""The composition root: builds every part of a gateway from its configuration.

Rules kept here:
- Parts get their I/O, clocks and randomness here; nothing below reads them for itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final, TextIO

from aiohttp import web

from gateway.admin.application import health_application
from gateway.admin.health import Health
from gateway.admin.server import PrivateLimits
from gateway.config import Config
from gateway.keys.authorities import OpenAuthority, authority_kind
from gateway.keys.authority import Authority
from gateway.keys.cache import ChangeCallbacks, KeyCache
from gateway.keys.expiring import ExpiringKeys
from gateway.keys.store import KeyStore
from gateway.keys.usage import LastUsed
from gateway.proxy.core_client import CoreClient
from gateway.proxy.handler import RequestHandler
from gateway.proxy.leasing import Leasing
from gateway.proxy.observe import MEANING, NOTICE
from gateway.proxy.rate_limit import RateLimiter
from gateway.server import descriptors
from gateway.server.admin import AdminSources, open_admin
from gateway.server.audit_numbers import audit_numbers
from gateway.server.audit_recorder import AuditRecorder, replica_name
from gateway.server.audit_watch import AuditWatch
from gateway.server.audit_writer import AuditWriter
from gateway.server.certificates import Certificates
from gateway.server.clocks import uptime, utc_now
from gateway.server.core_check import Check, check_core
from gateway.server.core_watch import CoreWatch
from gateway.server.dependencies import Dependencies, DependencyMetrics
from gateway.server.errors import StartError
from gateway.server.exit_codes import Exit
from gateway.server.gateway import Gateway
from gateway.server.keys import open_authority, open_store
from gateway.server.learned_changes import LearnedChanges
from gateway.server.listeners import Listeners
from gateway.server.live_config import LiveConfig
from gateway.server.live_policy import LivePolicy, PolicyTakers
from gateway.server.loop_lag import LoopLag
from gateway.server.master_keys import MasterKeys
from gateway.server.observer import DecisionObserver, GatewayObserver, Telemetry
from gateway.server.parts import (
    AuditParts,
    Background,
    Base,
    CoreParts,
    Front,
    GatewayParts,
    KeyParts,
    Options,
    Work,
)
from gateway.server.proxy_headers import HeaderRefusals
from gateway.server.revocation_notice import say_once_true
from gateway.server.stages import Handlers, build_decisions, build_handler, build_stages
from gateway.server.store_watch import StoreWatch, report_failures
from gateway.server.tasks import BackgroundTasks
from gateway.server.tracing import open_tracing
from gateway.server.upstream import (
    core_access,
    core_probe,
    open_pool,
    open_probe_pool,
    pool_limits,
)
from gateway.server.version import build_kind, version
from gateway.telemetry import Build, Log, Metrics, Sources
from gateway.telemetry.audit_metrics import AuditMetrics
from gateway.telemetry.limit_metrics import NO_LEASES, LimitMetrics
from gateway.telemetry.refusal_counts import RefusalCounts
from gateway.telemetry.scope_use import ScopeUse
from gateway.telemetry.store_metrics import StoreMetrics, StoreSources
from gateway.telemetry.tls_metrics import TlsMetrics
from gateway.telemetry.traces import TraceMetrics
from gateway.wire.client_deadlines import ClientLimits
from gateway.wire.clients import Clients
from gateway.wire.proxied_connection import ProxyHeaders

_HELD_FOR_DECISIONS: Final = 8 * 1024**2
"""Bytes that are held of all requests for decisions: of heads that are not whole, and of unread bodies."""


def build(config: Config, log: TextIO, options: Options | None = None) -> Gateway:
    """Return a gateway that is not started yet. `log` takes the log lines.

    Raises StartError where it cannot run.
    """
    try:
        return _build(config, log, options or Options())
    except ValueError as unreadable:  # the file of the master key, of the admin token, or of a certificate
        raise StartError(str(unreadable), Exit.USAGE) from unreadable


def _build(config: Config, log: TextIO, options: Options) -> Gateway:
    base = _base(config, log, options)
    core = _core(base)
    show = PolicyTakers(base.health, base.log.events, base.audit)
    policy = LivePolicy(base.live, show, NOTICE if options.observe else "", time.time)
    lag = LoopLag(time.monotonic)
    sources = Sources(
        requests_in_flight=lambda: handlers.requests.in_flight,
        connections=lambda: len(front.clients),
        upstream_connections=lambda: core.pool.counts,
        upstream_waits=lambda: core.pool.waits,
        key_cache=lambda: keys.cache.counts,
        log_lines_dropped=lambda: base.log.dropped,
        ready=lambda: base.health.ready,
        loop_lags=lag.lags,
    )
    spans = None if base.tracing is None else base.tracing.spans
    telemetry = Telemetry(
        base.log, Metrics(sources, Build(version(), build_kind())), policy.metrics, RefusalCounts(), spans
    )
    master_keys = MasterKeys(base.live, base.core_access, base.log.events)
    noted = (telemetry, base.dependencies, base.core_access, core.watch, master_keys.read_again, base.audit)
    observer = GatewayObserver(*noted)
    keys = _keys(base, observer)
    audit = _audit(base, keys.store)
    client = CoreClient(core.pool, base.core_access, observer)
    authority = open_authority(base.live, keys.store, keys.cache, client, observer)
    stages = build_stages(base, core.pool, keys, authority, observer)
    handlers = Handlers(
        build_handler(base, stages, observer), build_decisions(base, stages, DecisionObserver(*noted))
    )
    admin = open_admin(base, keys, authority.authority, AdminSources(telemetry, sources, policy))
    front = _front(base, telemetry.metrics, handlers, admin)
    for collector in (
        policy.metrics,
        StoreMetrics(_store_sources(keys)),
        AuditMetrics(partial(audit_numbers, audit, keys.store, time.time)),
        _limit_metrics(keys),
        DependencyMetrics(base.dependencies),
        TlsMetrics(base.certificates.ends, base.certificates.handshakes),
    ):
        telemetry.metrics.add(collector)
    if base.tracing is not None:
        telemetry.metrics.add(TraceMetrics(base.tracing.span_counts))
    reload = None if options.source is None else policy.follow(options.source, base.live.config)
    work = _work(base, core, keys, authority, observer)
    work += [master_keys.follow, audit.writer.run, audit.watch.run, lag.run]
    if reload is not None:
        work.append(reload.run)
    return Gateway(
        GatewayParts(
            live=base.live,
            health=base.health,
            telemetry=telemetry,
            observer=observer,
            keys=keys,
            audit=audit,
            authority=authority.authority,
            core=core,
            front=front,
            tracing=base.tracing,
            background=Background(tasks=BackgroundTasks(base.loop, observer.task_failed), work=work),
            certificates=base.certificates,
            reload=reload,
            notice=MEANING if options.observe else "",
        )
    )


def _work(
    base: Base, core: CoreParts, keys: KeyParts, authority: OpenAuthority, observer: GatewayObserver
) -> list[Work]:
    """Return what runs in the background from the start to the end."""
    work: list[Work] = [
        base.log.run,
        authority.authority.follow,
        keys.last_used.run,
        *authority.background,
        core.watch.verify,
        core.watch.watch,
        partial(report_failures, authority.authority, observer),
        base.dependencies.run,
        keys.watch.run,
        keys.expiring.run,
        base.certificates.run,
    ]
    if base.tracing is not None:
        base.live.followed_by(base.tracing.adopt)
        work.append(partial(base.tracing.report_losses, base.log))
    if keys.leasing is not None:
        work.append(keys.leasing.run)
    if not base.options.observe:
        work.append(partial(_say_bound, base, keys.cache, authority.authority))
    return work


def _limit_metrics(keys: KeyParts) -> LimitMetrics:
    leases = NO_LEASES if keys.leasing is None else keys.leasing.results
    return LimitMetrics(keys.limiter.refusals, leases, lambda: len(keys.limiter))


def _base(config: Config, log: TextIO, options: Options) -> Base:
    if problem := descriptors.too_few(options.open_files):
        raise StartError(problem, Exit.FAILED)
    lines = Log(log, config.log.format, config.log.level)
    health = Health(version=version())
    id_prefix = os.urandom(6).hex()
    return Base(
        options=options,
        loop=asyncio.get_running_loop(),
        log=lines,
        live=LiveConfig(config, options.open_files, lines.events),
        health=health,
        dependencies=Dependencies(health, lines.events, time.monotonic),
        core_access=core_access(config),
        certificates=Certificates(config, asyncio.get_running_loop(), lines.events, time.time),
        id_prefix=id_prefix,
        audit=AuditRecorder(replica_name(), utc_now),
        tracing=open_tracing(config, id_prefix),
    )


def _core(base: Base) -> CoreParts:
    live, access = base.live, base.core_access
    pool = open_pool(live.config, base.loop, base.certificates.core)
    live.followed_by(lambda config: pool.adopt(pool_limits(config)))
    probe_pool = open_probe_pool(live.config, base.loop, base.certificates.core)
    base.certificates.core_followed_by(pool.adopt_tls, probe_pool.adopt_tls)

    async def check() -> Check:
        return await check_core(probe_pool, core_probe(live.config, access, base.id_prefix))

    watch = CoreWatch(check, access, base.health, base.dependencies, base.log.events)
    return CoreParts(pool=pool, probe_pool=probe_pool, watch=watch)


def _keys(base: Base, observer: GatewayObserver) -> KeyParts:
    settings = base.live.config.keys
    store = base.options.store or open_store(base.live, base.log.events)
    watch = StoreWatch(
        store,
        base.log.events.bind(store=settings.shown_store),
        base.health,
        observer.store_failed,
        only_record=authority_kind(settings.authority, settings.core_database).store_is_record,
    )
    callbacks = ChangeCallbacks(
        on_change=observer.key_changed, on_batch=LearnedChanges(base.log.events).take, on_gap=watch.missed
    )
    cache = KeyCache(store, uptime, grace=settings.grace, callbacks=callbacks)
    leasing = None
    if store.token_leases is not None:
        leasing = Leasing(store.token_leases, base.id_prefix, uptime, observer.limits_shared)
    limiter = RateLimiter(base.live.config, uptime, leasing)
    return KeyParts(
        store, cache, watch, LastUsed(store), ExpiringKeys(store, time.time), ScopeUse(), limiter, leasing
    )


def _store_sources(keys: KeyParts) -> StoreSources:
    return StoreSources(
        memory=lambda: keys.watch.memory,
        expiring=lambda: keys.expiring.count,
        commands=lambda: {kind.value: times for kind, times in keys.store.times.by_kind.items()},
    )


def _audit(base: Base, store: KeyStore) -> AuditParts:
    watch = AuditWatch(store, lambda: base.live.config.audit, base.log.events, base.health)
    return AuditParts(base.audit, AuditWriter(base.audit, store, base.log.events), watch)


def _clients(base: Base, handler: RequestHandler, limits: Callable[[Config], ClientLimits]) -> Clients:
    """Return connections whose requests `handler` handles, within the `limits` of a configuration."""
    live = base.live
    clients = Clients(
        handler.handle,
        handler.refuse_unreadable,
        limits(live.config),
        base.loop,
        trusts=lambda peer: live.config.trusts(peer),
    )
    live.followed_by(lambda config: clients.adopt(limits(config)))
    return clients


def _client_limits(config: Config) -> ClientLimits:
    timeouts = config.timeouts
    return ClientLimits(
        connections=config.limits.connections,
        head=timeouts.head,
        body=timeouts.body,
        idle=timeouts.idle,
        write=timeouts.write,
    )


def _ingress_limits(config: Config) -> ClientLimits:
    connections = config.decide.connections
    return replace(_client_limits(config), connections=connections, held_bytes=_HELD_FOR_DECISIONS)


def _front(
    base: Base,
    metrics: Metrics,
    handlers: Handlers,
    admin: web.Application,
) -> Front:
    live, config = base.live, base.live.config
    listeners = Listeners(
        _private_limits(live.fitted),
        base.loop,
        base.certificates.acceptors,
        _proxy_headers(base, metrics),
        reuse_port=base.options.reuse_port,
    )
    live.followed_by(lambda _config: listeners.adopt(_private_limits(live.fitted)))
    ingresses = None
    if config.decide.listen is not None:
        ingresses = _clients(base, handlers.decisions, _ingress_limits)
    return Front(
        handler=handlers.requests,
        clients=_clients(base, handlers.requests, _client_limits),
        ingresses=ingresses,
        listeners=listeners,
        admin=admin,
        health=health_application(base.health, metrics),
    )


def _proxy_headers(base: Base, metrics: Metrics) -> dict[str, ProxyHeaders]:
    """Return what reads the PROXY headers of a listener, by its setting."""
    live, refusals = base.live, HeaderRefusals(base.log.events)
    metrics.add(refusals)
    if not live.config.proxy_protocol:
        return {}
    headers = ProxyHeaders(
        lambda peer: live.config.trusts(peer),
        lambda: (live.fitted.headers, live.config.timeouts.head),
        refusals,
        base.loop,
    )
    return {"listen": headers}


def _private_limits(fitted: descriptors.FittedConfig) -> PrivateLimits:
    return PrivateLimits(fitted.private, fitted.config.timeouts)


async def _say_bound(base: Base, cache: KeyCache, authority: Authority) -> None:
    await say_once_true(authority, lambda: cache.linked, base.log.events, base.live.config.keys.grace)
