"""The life of a gateway: start, ready, drain, end.

Rules kept here:
- Draining: not ready at once, accepting for a while, then closing as responses end. Decisions are made to the
  end: an ingress goes on asking as long as it has requests for this gateway.
- The gateway listens at a port that it shares with other processes once Core was verified, not before.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from typing import Final

from structlog.typing import FilteringBoundLogger

from gateway.config import Address, Config, ListenAddress
from gateway.errors import GatewayError
from gateway.keys.authority import UnusableAuthorityError
from gateway.server.errors import StartError
from gateway.server.exit_codes import Exit
from gateway.server.listeners import ACCEPTED_DECISIONS
from gateway.server.parts import GatewayParts
from gateway.server.version import build_kind, version
from gateway.telemetry import Metrics
from gateway.wire.clients import LAST_SECONDS

_CUT_OFF_SECONDS: Final = 1.0


class Gateway:
    """A gateway that can be started once."""

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts
        self._loop = asyncio.get_running_loop()
        self._cut = 0
        self.health = parts.health
        self.store = parts.keys.store
        self.handler = parts.front.handler

    @property
    def config(self) -> Config:
        """The live configuration."""
        return self._parts.live.config

    @property
    def log(self) -> FilteringBoundLogger:
        """The log of events."""
        return self._parts.telemetry.log.events

    @property
    def metrics(self) -> Metrics:
        """The metrics."""
        return self._parts.telemetry.metrics

    @property
    def address(self) -> Address:
        """The host and port that clients connect to; the first, if there are several."""
        return _first(self._parts.front.listeners.addresses("listen"))

    @property
    def admin_address(self) -> Address:
        """The address of the admin listener."""
        return _first(self._parts.front.listeners.addresses("admin"))

    @property
    def health_address(self) -> Address | None:
        """The address of the health listener, if there is one."""
        opened = self._parts.front.listeners.addresses("health")
        return _first(opened) if opened else None

    @property
    def decide_address(self) -> Address | None:
        """The address of the listener for decisions, if there is one."""
        opened = self._parts.front.listeners.addresses("decide.listen")
        return _first(opened) if opened else None

    def reload(self) -> asyncio.Future[None]:
        """Read the configuration and the certificates again, as on SIGHUP.

        The future is done once the configuration is live or refused.
        """
        self._parts.certificates.ask()
        if self._parts.reload is not None:
            return self._parts.reload.ask()
        nothing = self._loop.create_future()
        nothing.set_result(None)
        return nothing

    def loop_fault(self, problem: BaseException | None) -> None:
        """Log what the event loop would print to standard error, which may block, and may quote a request."""
        self._parts.observer.fault(problem if isinstance(problem, Exception) else RuntimeError())

    # Start.

    async def start(self) -> None:
        """Open the listeners and begin to ask Core. Raises StartError.

        If the port for clients is shared, return only once the gateway is ready.
        """
        await _check_authority(self._parts)
        config, listeners = self.config, self._parts.front.listeners
        await _bind(self._parts)
        if listeners.reuse_port:
            self.health.listens_later()
            self.log.info("waiting to listen", admin=str(self.admin_address), pid=os.getpid())
        for work in self._parts.background.work:
            self._parts.background.tasks.run(work())
        if listeners.reuse_port:
            # From then on Linux sends some clients here, however many other processes are ready.
            await self.ready()
        await listeners.start("listen")
        await listeners.start("decide.listen")
        self.health.listens_now()
        if self._parts.notice:
            self.log.warning("observing", meaning=self._parts.notice)
        self.log.info(
            "listening",
            clients=", ".join(map(str, listeners.addresses("listen"))),
            admin=str(self.admin_address),
            **({"decide": str(self.decide_address)} if self.decide_address else {}),
            tls=list(self._parts.certificates.acceptors),
            pid=os.getpid(),
            upstream=config.upstream.url,
            store=config.keys.shown_store,
            routes=len(config.routes.routes),
            policy_sha256=config.sha256,
            version=version(),
            build=build_kind(),
        )
        self._parts.audit.recorder.started(version(), config.sha256)

    async def ready(self) -> None:
        """Return once Core was seen secure and accepted the master key. Raises StartError if it is unsafe."""
        await self._parts.core.watch.verified()

    # End.

    async def drain(self, delay: float | None = None) -> int:
        """Stop as responses end; return the exit code: 0, or 1 if something in flight was cut.

        New connections are taken for `delay` seconds more, by default for `drain.delay`.
        """
        config, front, pool = self.config.drain, self._parts.front, self._parts.core.pool
        delay = config.delay if delay is None else delay
        self.health.drain()
        front.clients.drain()
        self.log.info("draining", delay=delay, timeout=config.timeout)
        await asyncio.sleep(delay)
        deadline = self._loop.time() + config.timeout
        await front.listeners.drain("listen", config.timeout)
        # Behind a header comes a first request, which gets its response as any other.
        seconds = min(LAST_SECONDS, deadline - self._loop.time())
        self._cut += await front.listeners.headers_read("listen", seconds)
        front.clients.shut()
        self._cut += await front.clients.emptied(deadline - self._loop.time())
        await self._drain_ingresses(deadline)
        self._cut += await pool.settle(deadline - self._loop.time())
        await _end(self._parts, self._cut)
        return self._stopped()

    async def _drain_ingresses(self, deadline: float) -> None:
        """Stop as the decisions that are under way are made."""
        front = self._parts.front
        if front.ingresses is None:
            return
        front.ingresses.drain()
        await front.listeners.drain("decide.listen", max(0.0, deadline - self._loop.time()))
        front.ingresses.shut()
        self._cut += await front.ingresses.emptied(deadline - self._loop.time())

    async def cut_off(self) -> int:
        """Stop at once; return the exit code: 0, or 1 if something in flight was cut."""
        front = self._parts.front
        for setting in ("listen", "decide.listen"):
            front.listeners.close(setting)
        self._cut += await front.listeners.headers_read("listen", 0)
        self._cut += await front.clients.emptied(0)
        if front.ingresses is not None:
            self._cut += await front.ingresses.emptied(0)
        self._cut += await self._parts.core.pool.settle(0)
        # Redis, for one, may be what hangs.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CUT_OFF_SECONDS):
                await _end(self._parts, self._cut)
        return self._stopped()

    async def close(self) -> None:
        """Stop at once; wait for nothing but what is already being written."""
        await _end(self._parts, self._cut)
        self._parts.telemetry.log.close()

    def _stopped(self) -> Exit:
        """Log the end, and return the exit code."""
        self.log.info("stopped", cut=self._cut)
        self._parts.telemetry.log.close()
        return Exit.FAILED if self._cut else Exit.OK


def _first(addresses: Sequence[ListenAddress]) -> Address:
    return next(address for address in addresses if isinstance(address, Address))


async def _check_authority(parts: GatewayParts) -> None:
    try:
        await parts.authority.check()
    except UnusableAuthorityError as problem:
        raise StartError(str(problem), Exit.DEPENDENCY) from problem
    except GatewayError as failure:
        # As with the store: requests get 503 until it responds.
        parts.telemetry.log.events.warning(failure.reason, authority=parts.live.config.keys.authority)


async def _bind(parts: GatewayParts) -> None:
    """Open the private listeners, and take the addresses for clients. Raises StartError."""
    config, front = parts.live.config, parts.front
    await front.listeners.open_private("admin", config.admin, front.admin)
    if config.health is not None:
        await front.listeners.open_private("health", config.health, front.health)
    if config.decide.listen is not None and front.ingresses is not None:
        connect = front.ingresses.connect
        await front.listeners.bind("decide.listen", [config.decide.listen], connect, ACCEPTED_DECISIONS)
    mode = int(config.listen_mode, 8)
    await front.listeners.bind("listen", config.listen, front.clients.connect, mode=mode)


async def _end(parts: GatewayParts, cut: int) -> None:
    for setting in ("listen", "decide.listen"):
        parts.front.listeners.close(setting)
    await parts.front.clients.emptied(0)
    if parts.front.ingresses is not None:
        await parts.front.ingresses.emptied(0)
    await parts.background.tasks.stop()
    parts.core.pool.abort()
    await parts.front.listeners.close_all()
    parts.core.probe_pool.abort()
    parts.audit.recorder.stopped(cut)
    await parts.audit.writer.finish()
    await parts.keys.last_used.write()
    await parts.authority.close()
    await parts.keys.store.close()
    parts.core.watch.close()
    if parts.tracing is not None:
        await parts.tracing.close()
