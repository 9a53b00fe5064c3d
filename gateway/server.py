"""The composition root: builds every part, opens the listeners, checks Core, drains.

Rules kept here:
- Parts get their I/O, clocks and randomness here; nothing below reads them for itself.
- Nothing is forwarded before Core was seen secure and accepted the master key.
- On SIGTERM: not ready at once, accepting for `drain.delay`, then closing as answers end.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import ssl
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, TextIO

from aiohttp import web

from gateway.admin import Health, admin_application, health_application
from gateway.config import Address, Config, Secret, read_secret
from gateway.errors import Code, GatewayError
from gateway.exits import Exit
from gateway.forwarding import Forwarder, MasterKey
from gateway.keys.cache import KeyCache
from gateway.keys.redis_store import RedisKeyStore
from gateway.keys.resource import ApiKeys
from gateway.keys.store import KeyStore, MemoryKeyStore
from gateway.proxy import Clocks, Proxy
from gateway.startup import Finding, check_core
from gateway.telemetry import AccessEntry, AccessLog, Metrics, Sources, configure_log, is_console
from gateway.wire.clients import ClientLimits, Clients
from gateway.wire.parser_check import misread
from gateway.wire.pool import Pool
from gateway.wire.upstream import PoolLimits

VERSION = version("blnk-gateway")
_ASK_SECONDS = 0.5


class StartError(Exception):
    """The gateway cannot run; `exit_code` says why in the table of exit codes."""

    def __init__(self, reason: str, exit_code: Exit) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Gateway:
    """A running gateway. `log` takes the log lines; `store` replaces what `keys.store` names."""

    def __init__(self, config: Config, log: TextIO, *, store: KeyStore | None = None) -> None:
        self.config = config
        self.log = configure_log(log, config.log.format, config.log.level)
        self.store = store or _open_store(config.keys.store)
        self.health = Health(
            version=VERSION,
            ready_requires=config.ready_requires,
            policy_loaded=True,
            policy_sha256=config.sha256,
        )
        self._access_log = AccessLog(log, console=is_console(log, config.log.format))
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._listeners: list[asyncio.Server] = []
        self._runners: list[web.AppRunner] = []
        self._settled: asyncio.Future[None] = self._loop.create_future()
        self._asked = asyncio.Event()
        self._keys = KeyCache(self.store, time.monotonic)
        self._pool = _pool(config, self._loop)
        master = MasterKey(_master_key(config).reveal())
        self._forwarder = Forwarder(config, master, self._pool, self, time.monotonic)
        self.proxy = self._proxy()
        self._clients = Clients(self.proxy.handle, self.proxy.refusal, _client_limits(config), self._loop)
        self.metrics = Metrics(self._sources(), version=VERSION)

    def _proxy(self) -> Proxy:
        return Proxy(
            self.config,
            self._forwarder,
            keys=self._keys,
            api_keys=ApiKeys(self.store, self._keys.learn, lambda: datetime.now(UTC), os.urandom),
            observer=self,
            clocks=Clocks(time.time, time.monotonic),
            request_ids=_request_ids(),
        )

    def _sources(self) -> Sources:
        return Sources(
            connections=lambda: len(self._clients),
            upstream_connections=lambda: self._pool.counts,
            key_cache=dict,
            log_lines_dropped=lambda: self._access_log.dropped,
            ready=lambda: self.health.ready,
        )

    # What the proxy reports.

    def record(self, entry: AccessEntry) -> None:
        """Log and count a request that has ended."""
        self._access_log.record(entry)
        self.metrics.request(entry)

    def upstream(self, failure: Code | None) -> None:
        """Remember whether Core answers."""
        if failure is None:
            if self.health.degraded:
                self._restored("upstream")
        elif not self._forwarder.open:
            self._asked.set()
        else:
            self._degraded("upstream", failure.message)

    def store_failed(self, failure: Code | None) -> None:
        """Remember whether the key store answers."""
        if failure is None:
            if self.health.degraded:
                self._restored("store")
        else:
            self._degraded("store", failure.message)

    def refused(self) -> None:
        """Core refused the master key: say so, and read its file again."""
        self.log.error("core refused the master key", upstream=self.config.upstream.url)
        with contextlib.suppress(ValueError):
            self._forwarder.master = MasterKey(_master_key(self.config).reveal())

    def fault(self, problem: Exception) -> None:
        """Log a fault of the gateway's own, without the request's content."""
        self.log.error("fault", kind=type(problem).__name__, exc_info=_scrubbed(problem))

    def _degraded(self, neighbour: str, reason: str) -> None:
        if neighbour not in self.health.degraded:
            self.log.warning("degraded", neighbour=neighbour, reason=reason)
        self.health.degraded[neighbour] = reason

    def _restored(self, neighbour: str) -> None:
        if self.health.degraded.pop(neighbour, None) is not None:
            self.log.info("restored", neighbour=neighbour)

    # Start.

    @property
    def address(self) -> Address:
        """Where clients connect."""
        return _bound(self._listeners[0])

    @property
    def admin_address(self) -> Address:
        """Where the admin listener is."""
        return Address(*self._runners[0].addresses[0][:2])

    @property
    def health_address(self) -> Address | None:
        """Where the health listener is, if there is one."""
        return Address(*self._runners[1].addresses[0][:2]) if len(self._runners) > 1 else None

    async def start(self) -> None:
        """Open the listeners and begin to ask Core. Raises StartError."""
        if wrong := misread(self._loop):
            raise StartError(f"the HTTP parser of this aiohttp misreads {wrong[0]!r}", Exit.NEIGHBOUR)
        await self._listen()
        self._run(self._access_log.run())
        self._run(self._keys.follow())
        self._run(self._ask_core())
        self._run(self._watch())
        self._run(self._warn_if_empty())
        self.log.info(
            "listening",
            clients=str(self.address),
            admin=str(self.admin_address),
            upstream=self.config.upstream.url,
            store=self.config.keys.shown_store,
            routes=len(self.config.routes.routes),
            policy_sha256=self.config.sha256,
        )

    async def ready(self) -> None:
        """Return once Core was seen secure and accepted the master key. Raises StartError if it is unsafe."""
        await asyncio.shield(self._settled)

    async def _listen(self) -> None:
        config = self.config
        token = read_secret(config.admin_token_file) if config.admin_token_file else None
        admin = admin_application(self.health, self.metrics, token=token, hosts=[config.admin.host])
        try:
            await self._listen_private(admin, config.admin)
            if config.health is not None:
                await self._listen_private(health_application(self.health, self.metrics), config.health)
            self._listeners.append(
                await self._loop.create_server(
                    self._clients.connect, config.listen.host, config.listen.port, backlog=1024
                )
            )
        except OSError as problem:
            raise StartError(f"cannot listen: {problem.strerror or problem}", Exit.USAGE) from problem

    async def _listen_private(self, application: web.Application, address: Address) -> None:
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, address.host, address.port).start()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(self._loop.create_task(work))

    async def _ask_core(self) -> None:
        host_line = b"Host: %b\r\n" % self.config.upstream.authority.encode()
        while True:
            self._asked.clear()
            found = await check_core(self._pool, host_line, self._forwarder.master.line)
            if found.finding is Finding.SAFE:
                break
            if found.reason != self.health.core_reason:
                self.log.warning("waiting for core", reason=found.reason)
            self.health.core_reason = found.reason
            if found.finding is Finding.UNSAFE:
                self._settled.set_exception(StartError(found.reason, Exit.NEIGHBOUR))
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), _ASK_SECONDS)
        self.health.core_seen = True
        self._forwarder.open = True
        self.log.info("ready", upstream=self.config.upstream.url)
        self._settled.set_result(None)

    async def _watch(self) -> None:
        """Notice without any request that the store fails, and that a lost neighbour is back."""
        while True:
            await asyncio.sleep(_ASK_SECONDS)
            failure = self._keys.failure
            self.store_failed(None if failure is None else failure.code)
            if "upstream" in self.health.degraded and await self._core_answers():
                self._restored("upstream")

    async def _core_answers(self) -> bool:
        host_line = b"Host: %b\r\n" % self.config.upstream.authority.encode()
        return (await check_core(self._pool, host_line, self._forwarder.master.line)).finding is Finding.SAFE

    async def _warn_if_empty(self) -> None:
        try:
            if await self.store.empty():
                warning = "the key store is empty: every client but one with the master key will get 401"
                self.log.warning(warning, store=self.config.keys.shown_store)
        except GatewayError as failure:
            self.store_failed(failure.code)

    # End.

    async def drain(self) -> int:
        """Stop as on SIGTERM; return the exit code: 0, or 1 if something in flight was cut."""
        config = self.config.drain
        self.health.draining = True
        self._clients.draining = True
        self.log.info("draining", delay=config.delay, timeout=config.timeout)
        await asyncio.sleep(config.delay)
        for listener in self._listeners:
            listener.close()
        self._clients.shut()
        cut = await self._clients.emptied(config.timeout)
        await self.close()
        self.log.info("stopped", cut=cut)
        return Exit.NO if cut else Exit.YES

    async def close(self) -> None:
        """Stop at once; nothing is waited for but what is already being written."""
        for listener in self._listeners:
            listener.close()
        await self._clients.emptied(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.abort()
        for runner in self._runners:
            await runner.cleanup()
        await self.store.close()
        if self._settled.done() and not self._settled.cancelled():
            self._settled.exception()
        self._access_log.flush(patience=1.0)


def run(config: Config) -> int:
    """Run a gateway until SIGTERM or SIGINT; returns the exit code."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(config))


async def _run(config: Config) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        gateway = Gateway(config, sys.stdout)
    except (StartError, ValueError) as problem:
        return _fail(problem)
    try:
        await gateway.start()
        stopping = loop.create_task(stop.wait())
        ready = loop.create_task(gateway.ready())
        await asyncio.wait({stopping, ready}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            ready.result()
        ready.cancel()
        await stopping
        return await gateway.drain()
    except StartError as problem:
        await gateway.close()
        return _fail(problem)


def _fail(problem: Exception) -> int:
    print(f"blnk-gateway: {problem}", file=sys.stderr)  # noqa: T201  # the last word before the exit code
    return problem.exit_code if isinstance(problem, StartError) else Exit.USAGE


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _open_store(url: str) -> KeyStore:
    return MemoryKeyStore() if url.startswith("memory:") else RedisKeyStore(url)


def _master_key(config: Config) -> Secret:
    """The master key, from its file if it has one. Raises ValueError if that cannot be read."""
    file = config.upstream.master_key_file
    return config.upstream.master_key if file is None else read_secret(file)


def _pool(config: Config, loop: asyncio.AbstractEventLoop) -> Pool:
    upstream, timeouts = config.upstream, config.timeouts
    limits = PoolLimits(
        connections=upstream.connections,
        queue=upstream.queue,
        connect=timeouts.connect,
        first_byte=timeouts.first_byte,
        between_bytes=timeouts.between_bytes,
        idle=timeouts.upstream_idle,
    )
    tls = ssl.create_default_context() if upstream.tls else None
    return Pool(upstream.host, upstream.port, limits, loop, tls)


def _client_limits(config: Config) -> ClientLimits:
    timeouts = config.timeouts
    return ClientLimits(
        connections=config.limits.connections,
        head=timeouts.head,
        body=timeouts.body,
        idle=timeouts.idle,
        write=timeouts.write,
    )


def _request_ids() -> Callable[[], str]:
    """Ids that no other process has: a random part, and a count."""
    prefix = os.urandom(6).hex()
    counter = itertools.count(1)
    return lambda: f"{prefix}-{next(counter):x}"


def _bound(server: asyncio.Server) -> Address:
    host, port = server.sockets[0].getsockname()[:2]
    return Address(host, port)


def _scrubbed(problem: Exception) -> Exception:
    """The same fault without its text, which may quote a request."""
    return Exception(type(problem).__name__).with_traceback(problem.__traceback__)
