"""The composition root: builds every part, opens the listeners, checks Core, drains.

Rules kept here:
- Parts get their I/O, clocks and randomness here; nothing below reads them for itself.
- Nothing is forwarded before Core was seen secure and accepted the master key.
- Where the configuration's file has changed, or it is asked to, it reads it again; see `reload`.
- Draining: not ready at once, accepting for a while, then closing as answers end.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import ssl
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, TextIO

from gateway.admin.application import Explaining, Health, admin_application, health_application
from gateway.admin.scopes import ScopesPage
from gateway.admin.server import PrivateLimits
from gateway.config import Address, Config, KeysConfig, Secret, read_secret
from gateway.errors import GatewayError
from gateway.keys.api.resource import ApiKeys, ApiResponse, KeysResource
from gateway.keys.authority import (
    CORE_PACKAGES,
    CORE_PACKAGES_MISSING,
    Authority,
    StoreAuthority,
    UnusableAuthorityError,
)
from gateway.keys.cache import KeyCache
from gateway.keys.pending import HashVerifier, PendingKeys
from gateway.keys.quota import Quota
from gateway.keys.redis.store import RedisKeyStore
from gateway.keys.store import KeyChange, KeyStore, MemoryKeyStore
from gateway.keys.usage import LastUsed
from gateway.proxy.forward import Forwarder, MasterKey
from gateway.proxy.observe import MEANING, NOTICE, ObservingForwarder, ObservingProxy
from gateway.proxy.pipeline import Proxy
from gateway.proxy.reauthorize import Clocks
from gateway.server import descriptors
from gateway.server.core_check import Check, CoreProbe, Finding, Reminder, check_core, probe_limits
from gateway.server.dependencies import STORE, UPSTREAM, Dependencies, DependencyMetrics
from gateway.server.exit_codes import Exit
from gateway.server.listeners import Listeners
from gateway.server.live_policy import LivePolicy
from gateway.server.reload import Source
from gateway.server.revocation_notice import say_once_true
from gateway.server.sockets import CannotListenError
from gateway.server.store_watch import StoreWatch
from gateway.telemetry import AccessEntry, Log, Metrics, Sources
from gateway.telemetry.scope_use import ScopeUse
from gateway.telemetry.store_metrics import StoreMetrics
from gateway.wire.clients import ClientLimits, Clients
from gateway.wire.parser_check import parser_misreads
from gateway.wire.pool import Pool
from gateway.wire.upstream_connection import PoolLimits

VERSION = version("blnk-gateway")
# Linux; elsewhere the monotonic clock goes on by itself, or there is no such sleep.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_ASK_SECONDS = 0.5
_CUT_OFF_SECONDS = 1.0


class StartError(Exception):
    """The gateway cannot run; `exit_code` says why in the table of exit codes."""

    def __init__(self, reason: str, exit_code: Exit) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Gateway:
    """A running gateway. `log` takes the log lines; `store` replaces what `keys.store` names.

    `source` is the file to follow, if any; with `observe` Core decides, and what would be done is noted.
    `open_files` is the limit that connections are kept below. Raises StartError where that is too low.
    """

    def __init__(
        self,
        config: Config,
        log: TextIO,
        *,
        store: KeyStore | None = None,
        source: Source | None = None,
        observe: bool = False,
        open_files: int = sys.maxsize,
    ) -> None:
        if problem := descriptors.too_few(open_files):
            raise StartError(problem, Exit.FAILED)
        self._log = Log(log, config.log.format, config.log.level)
        self.log = self._log.events
        self._open_files = open_files
        self._observe = observe
        room = descriptors.room(config, open_files)
        self.config = config = room.config
        self.store = store or _open_store(config.keys)
        self.health = Health(
            version=VERSION,
            ready_requires=config.ready_requires,
            policy_loaded=True,
            policy_sha256=config.sha256,
        )
        self._dependencies = Dependencies(self.health, self.log, time.monotonic)
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._listeners = Listeners(PrivateLimits(room.private, config.timeouts), self._loop)
        self._settled: asyncio.Future[None] = self._loop.create_future()
        self._asked = asyncio.Event()
        self._cut = 0
        self._store_watch = StoreWatch(
            self.store,
            self.log.bind(store=config.keys.shown_store),
            self.health.warnings,
            self.store_failed,
            only_record=config.keys.authority == "gateway",
        )
        missed = self._store_watch.missed
        self._keys = KeyCache(
            self.store, _uptime, grace=config.keys.grace, learnt=self._learnt, missed=missed
        )
        self._last_used = LastUsed(self.store)
        self._pool = open_pool(config, self._loop)
        self._asking_pool = open_probe_pool(config, self._loop)
        self._id_prefix = os.urandom(6).hex()
        master = MasterKey(read_master_key(config).reveal())
        forwarder = ObservingForwarder if observe else Forwarder
        self._forwarder = forwarder(config, master, self._pool, self, Clocks(time.time, time.monotonic))
        self._refusals = Reminder()
        self._scope_use = ScopeUse()
        self._followers: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._authority, self._api_keys = self._open_authority()
        self.proxy = self._proxy(ObservingProxy if observe else Proxy)
        self._clients = Clients(
            self.proxy.handle,
            self.proxy.refusal,
            _client_limits(config),
            self._loop,
            trusts=lambda peer: self.config.trusts(peer),
        )
        self.metrics = Metrics(self._sources(), version=VERSION)
        self._policy = LivePolicy(
            config, self.health, self.log, swap=self._swap, always=NOTICE if observe else "", now=time.time
        )
        self.metrics.add(self._policy.families)
        self.metrics.add(StoreMetrics(lambda: self._store_watch.memory))
        self.metrics.add(DependencyMetrics(self._dependencies))
        self._reload = None if source is None else self._policy.follow(source, config)
        self._warn(room)

    def _proxy(self, kind: type[Proxy]) -> Proxy:
        return kind(
            self.config,
            self._forwarder,
            keys=self._authority,
            api_keys=self._api_keys,
            last_used=self._last_used,
            scope_use=self._scope_use,
            observer=self,
            clocks=Clocks(time.time, _uptime),
            request_ids=_request_ids(self._id_prefix),
        )

    def _open_authority(self) -> tuple[Authority, KeysResource]:
        cache, store = self._keys, self.store
        if self.config.keys.authority == "gateway":
            pending = PendingKeys(store, _open_verifier(), _uptime)
            api_keys = ApiKeys(store, cache.learn, _now, os.urandom, self._quota)
            return StoreAuthority(store, cache, pending), api_keys
        try:
            from gateway.keys.core.api import CoreApiKeys
            from gateway.keys.core.authority import CoreKeys
            from gateway.keys.core.quota import CoreQuota
            from gateway.keys.core.retirement import Retirements
            from gateway.keys.core.rows import CoreRows
            from gateway.keys.core.verifier import Verifier
            from gateway.keys.core.writer import CoreKeyWrites
        except ModuleNotFoundError as missing:
            if missing.name not in CORE_PACKAGES:
                raise
            raise StartError(CORE_PACKAGES_MISSING, Exit.USAGE) from missing
        rows = CoreRows(self.config.keys.core_database)
        keys = CoreKeys(cache, store, rows, Verifier(), clock=_uptime, now=_now)
        ask = self._forwarder.ask
        writes = CoreKeyWrites(ask, rows, store, cache.learn, _now)
        quota = CoreQuota(rows, store, self._quota)
        self._followers.append(Retirements(store, writes, _now, self._not_retired).run)
        return keys, CoreApiKeys(ask, writes, store, cache.learn, _now, quota)

    def _quota(self) -> Quota:
        return Quota(self.config.keys.per_owner)

    def _sources(self) -> Sources:
        return Sources(
            connections=lambda: len(self._clients),
            upstream_connections=lambda: self._pool.counts,
            key_cache=lambda: self._keys.counts,
            log_lines_dropped=lambda: self._log.dropped,
            ready=lambda: self.health.ready,
        )

    # What the proxy reports.

    def record(self, entry: AccessEntry) -> None:
        """Count and log a request that has ended."""
        self.metrics.request(entry)
        self._policy.families.request(entry)
        self._log.record(entry)

    def keys_changed(self, entry: AccessEntry, answer: ApiResponse) -> None:
        """Log which keys a request made or revoked, by their ids."""
        log = self.log.bind(by=entry.key_id, request_id=entry.request_id)
        if answer.created:
            log.info("key created", key_id=answer.created)
        if answer.revoked:
            log.info("key revoked", key_id=answer.revoked, descendants=answer.descendants)

    def upstream(self, failure: GatewayError | None) -> None:
        """Remember whether Core answers."""
        if failure is None:
            self._dependencies.answered(UPSTREAM)
        elif not self._forwarder.open:
            self._asked.set()
        else:
            self._dependencies.failed(UPSTREAM, failure.reason)

    def store_failed(self, failure: GatewayError | None) -> None:
        """Remember whether the key store answers."""
        if failure is None:
            self._dependencies.answered(STORE)
        else:
            self._dependencies.failed(STORE, failure.reason)

    def refused(self) -> None:
        """Core refused the master key: read its file again, and say so, once a minute while it lasts."""
        with contextlib.suppress(ValueError):
            self._forwarder.master = MasterKey(read_master_key(self.config).reveal())
        event = "core refused the master key"
        if self._refusals.due(event, self._loop.time()):
            self.log.error(event, upstream=self.config.upstream.url)

    def fault(self, problem: Exception) -> None:
        """Log a fault of the gateway's own, without the request's content."""
        self.log.error("fault", kind=type(problem).__name__, exc_info=_scrubbed(problem))

    def ended_late(self, entry: AccessEntry, status: int | None) -> None:
        """Log how Core ended a request whose client had been told that its time was over."""
        self.log.warning(
            "a request whose time was over has ended at Core",
            request_id=entry.request_id,
            route=entry.route,
            key_id=entry.key_id,
            status=status,
            seconds=round(time.time() - entry.time, 3),
        )

    def loop_fault(self, problem: BaseException | None) -> None:
        """Log what the event loop would print to standard error, which may block, and may quote a request."""
        self.fault(problem if isinstance(problem, Exception) else RuntimeError())

    def _learnt(self, change: KeyChange) -> None:
        if change.at is not None:
            self.metrics.revocation_learnt(time.time() - change.at)

    def _not_retired(self, key_id: str, reason: str) -> None:
        self.log.warning(
            "a key that has ended here is still to be revoked in Core", key_id=key_id, reason=reason
        )

    # Reload.

    def reload(self) -> None:
        """Read the configuration again, as on SIGHUP."""
        if self._reload is not None:
            self._reload.ask()

    def _warn(self, room: descriptors.Room) -> None:
        for shortfall in room.shortfalls:
            self.log.warning(
                "fewer connections than configured",
                setting=shortfall.setting,
                configured=shortfall.configured,
                possible=shortfall.possible,
                open_files=shortfall.limit,
                needed=shortfall.needed,
                reason=str(shortfall),
            )

    def _swap(self, config: Config) -> None:
        room = descriptors.room(config, self._open_files)
        self.config = config = room.config
        self._listeners.adopt(PrivateLimits(room.private, config.timeouts))
        self.proxy.adopt(config)
        self._forwarder.adopt(config)
        self._pool.adopt(_pool_limits(config))
        self._clients.adopt(_client_limits(config))
        self._warn(room)

    # Start.

    @property
    def address(self) -> Address:
        """Where clients connect; the first of the addresses, if there are several."""
        return self._listeners.addresses("listen")[0]

    @property
    def admin_address(self) -> Address:
        """Where the admin listener is."""
        return self._listeners.addresses("admin")[0]

    @property
    def health_address(self) -> Address | None:
        """Where the health listener is, if there is one."""
        return next(iter(self._listeners.addresses("health")), None)

    async def start(self) -> None:
        """Open the listeners and begin to ask Core. Raises StartError."""
        if wrong := parser_misreads(self._loop):
            raise StartError(f"the HTTP parser of this aiohttp misreads {wrong[0]!r}", Exit.DEPENDENCY)
        await self._check_authority()
        await self._listen()
        self._run(self._log.run())
        self._run(self._authority.follow())
        self._run(self._last_used.run())
        for follow in self._followers:
            self._run(follow())
        self._run(self._ask_core())
        self._run(self._watch_core())
        self._run(self._watch_store())
        self._run(self._dependencies.run())
        if self._reload is not None:
            self._run(self._reload.run())
        if self._observe:
            self.log.warning("observing", meaning=MEANING)
        else:
            grace = self.config.keys.grace
            self._run(say_once_true(self._authority, lambda: self._keys.linked, self.log, grace))
        self._run(self._store_watch.run())
        self.log.info(
            "listening",
            clients=", ".join(map(str, self._listeners.addresses("listen"))),
            admin=str(self.admin_address),
            upstream=self.config.upstream.url,
            store=self.config.keys.shown_store,
            routes=len(self.config.routes.routes),
            policy_sha256=self.config.sha256,
        )

    async def ready(self) -> None:
        """Return once Core was seen secure and accepted the master key. Raises StartError if it is unsafe."""
        await asyncio.shield(self._settled)

    async def _check_authority(self) -> None:
        try:
            await self._authority.check()
        except UnusableAuthorityError as problem:
            raise StartError(str(problem), Exit.DEPENDENCY) from problem
        except GatewayError as failure:
            # As with the store: it is served with 503 until it answers.
            self.log.warning(failure.reason, authority=self.config.keys.authority)

    async def _listen(self) -> None:
        config = self.config
        token = read_secret(config.admin_token_file) if config.admin_token_file else None
        admin = admin_application(
            self.health,
            self.metrics,
            token=token,
            hosts=[config.admin.host],
            explaining=Explaining(lambda: self.proxy.config, self._authority, time.time),
            pages={
                "/scopes": ScopesPage(
                    self._scope_use, self._authority, lambda: self.config, since=time.time()
                ).answer
            },
        )
        listeners = self._listeners
        try:
            await listeners.open_private("admin", config.admin, admin)
            if config.health is not None:
                health = health_application(self.health, self.metrics)
                await listeners.open_private("health", config.health, health)
            await listeners.open("listen", config.listen, self._clients.connect)
        except CannotListenError as problem:
            raise StartError(str(problem), Exit.FAILED) from problem

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        task.add_done_callback(self._part_ended)
        self._tasks.append(task)

    def _part_ended(self, task: asyncio.Task[None]) -> None:
        """Say so where a part that runs for ever has failed: the gateway serves on without it."""
        if not task.cancelled() and isinstance(problem := task.exception(), Exception):
            self._dependencies.failed("gateway", "a part of the gateway has failed: restart it")
            self.fault(problem)

    async def _ask_core(self) -> None:
        reminder, began = Reminder(), self._loop.time()
        while True:
            self._asked.clear()
            found = await self._check_core()
            if found.finding is Finding.SAFE:
                break
            self.health.core_reason = found.reason
            waited = self._loop.time() - began
            if reminder.due(found.reason, waited):
                self.log.warning("waiting for core", reason=found.reason, seconds=round(waited))
            if found.finding is Finding.UNSAFE:
                self._settled.set_exception(StartError(found.reason, Exit.DEPENDENCY))
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), _ASK_SECONDS)
        self.health.core_seen = True
        self._forwarder.open = True
        self._settled.set_result(None)
        self.log.info("ready", upstream=self.config.upstream.url)

    async def _watch_store(self) -> None:
        """Notice without any request that the store fails, and that it is back."""
        while True:
            await asyncio.sleep(_ASK_SECONDS)
            self.store_failed(self._authority.failure)

    async def _watch_core(self) -> None:
        """Notice without any request that a Core that was lost is back, or why it is not."""
        while True:
            await asyncio.sleep(_ASK_SECONDS)
            if UPSTREAM not in self.health.degraded:
                continue
            found = await self._check_core()
            if found.finding is Finding.SAFE:
                self._dependencies.answered(UPSTREAM)
            else:
                self._dependencies.failed(UPSTREAM, found.reason)

    async def _check_core(self) -> Check:
        master = self._forwarder.master.line
        return await check_core(self._asking_pool, core_probe(self.config, master, self._id_prefix))

    # End.

    async def drain(self, delay: float | None = None) -> int:
        """Stop as answers end; return the exit code: 0, or 1 if something in flight was cut.

        New connections are taken for `delay` seconds more, by default for `drain.delay`.
        """
        config = self.config.drain
        delay = config.delay if delay is None else delay
        self.health.draining = True
        self._clients.draining = True
        self.log.info("draining", delay=delay, timeout=config.timeout)
        await asyncio.sleep(delay)
        self._listeners.close("listen")
        self._clients.shut()
        deadline = self._loop.time() + config.timeout
        self._cut += await self._clients.emptied(config.timeout)
        self._cut += await self._pool.settle(deadline - self._loop.time())
        return await self._stopped()

    async def cut_off(self) -> int:
        """Stop at once; return the exit code: 0, or 1 if something in flight was cut."""
        self._listeners.close("listen")
        self._cut += await self._clients.emptied(0)
        self._cut += await self._pool.settle(0)
        # Redis, for one, may be what hangs.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CUT_OFF_SECONDS):
                return await self._stopped()
        return self._exit_code

    async def _stopped(self) -> int:
        await self._end()
        self.log.info("stopped", cut=self._cut)
        self._log.close()
        return self._exit_code

    @property
    def _exit_code(self) -> Exit:
        return Exit.FAILED if self._cut else Exit.OK

    async def close(self) -> None:
        """Stop at once; nothing is waited for but what is already being written."""
        await self._end()
        self._log.close()

    async def _end(self) -> None:
        self._listeners.close("listen")
        await self._clients.emptied(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.abort()
        await self._listeners.close_all()
        self._asking_pool.abort()
        await self._last_used.write()
        await self._authority.close()
        await self.store.close()
        if self._settled.done() and not self._settled.cancelled():
            self._settled.exception()


def _uptime() -> float:
    """Seconds that never step, and go on while the machine sleeps: nothing cached is fresh when it wakes."""
    return time.clock_gettime(_CLOCK)


def _now() -> datetime:
    return datetime.now(UTC)


def _open_verifier() -> HashVerifier | None:
    try:
        from gateway.keys.core.verifier import Verifier
    except ModuleNotFoundError as missing:
        if missing.name != "bcrypt":
            raise
        return None
    return Verifier()


def _open_store(keys: KeysConfig) -> KeyStore:
    if keys.store.startswith("memory:"):
        return MemoryKeyStore()
    return RedisKeyStore(keys.store, replicas=keys.replicas)


def read_master_key(config: Config) -> Secret:
    """The master key, from its file if it has one. Raises ValueError if that cannot be read."""
    file = config.upstream.master_key_file
    return config.upstream.master_key if file is None else read_secret(file)


def _pool_limits(config: Config) -> PoolLimits:
    upstream, timeouts = config.upstream, config.timeouts
    return PoolLimits(
        connections=upstream.connections,
        queue=upstream.queue,
        connect=timeouts.connect,
        first_byte=timeouts.first_byte,
        between_bytes=timeouts.between_bytes,
        idle=timeouts.upstream_idle,
    )


def open_pool(config: Config, loop: asyncio.AbstractEventLoop) -> Pool:
    """The connections to Core that the configuration asks for."""
    return _open_pool(config, loop, _pool_limits(config))


def open_probe_pool(config: Config, loop: asyncio.AbstractEventLoop) -> Pool:
    """A connection to Core for `check_core` alone."""
    return _open_pool(config, loop, probe_limits(_pool_limits(config)))


def _open_pool(config: Config, loop: asyncio.AbstractEventLoop, limits: PoolLimits) -> Pool:
    upstream = config.upstream
    # Trusts what OpenSSL does: SSL_CERT_FILE and SSL_CERT_DIR, or else the system's authorities.
    tls = ssl.create_default_context() if upstream.tls else None
    return Pool(upstream.host, upstream.port, limits, loop, tls)


def core_probe(config: Config, key_line: bytes, own_ids: str = "") -> CoreProbe:
    """Who checks the Core of the configuration."""
    upstream = config.upstream
    host_line = b"Host: %b\r\n" % upstream.authority.encode()
    return CoreProbe(host_line, key_line, tls=upstream.tls, own_ids=own_ids)


def _client_limits(config: Config) -> ClientLimits:
    timeouts = config.timeouts
    return ClientLimits(
        connections=config.limits.connections,
        head=timeouts.head,
        body=timeouts.body,
        idle=timeouts.idle,
        write=timeouts.write,
    )


def _request_ids(prefix: str) -> Callable[[], str]:
    """Ids that no other process has: a random part, and a count."""
    counter = itertools.count(1)
    return lambda: f"{prefix}-{next(counter):x}"


def _scrubbed(problem: Exception) -> Exception:
    """The same fault without its text, which may quote a request."""
    return Exception(type(problem).__name__).with_traceback(problem.__traceback__)
