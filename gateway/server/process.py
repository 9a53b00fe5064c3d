"""The process of one gateway, from start to end: signals, exit codes.

Rules kept here:
- On SIGTERM or Ctrl-C a gateway that does not listen yet ends at once; one that listens drains.
- On a second SIGTERM or Ctrl-C, during the drain, it ends at once.
- On SIGHUP it reads its configuration again.
- systemd is told of each of these, and of a start that fails, if it asks for it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from gateway.config import Config
from gateway.server.build import build
from gateway.server.descriptors import raise_limit
from gateway.server.errors import StartError
from gateway.server.exit_codes import Exit
from gateway.server.gateway import Gateway
from gateway.server.loop import new_loop
from gateway.server.parts import Options
from gateway.server.systemd import Announcer, NotifySocket
from gateway.telemetry import open_sink

ONE_SIGNAL_SECONDS: Final = 0.1
"""Signals within this time count as one: timeout(1) sends SIGTERM to its process, and again to the group."""


class StopSignals:
    """The requests to stop that came by SIGTERM and Ctrl-C.

    Attributes:
        asked: is set by the first.
        again: is set by a later one.
        on_terminal: True if the first was a Ctrl-C.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.asked = asyncio.Event()
        self.again = asyncio.Event()
        self.on_terminal = False
        self._loop = loop
        self._asked_at = 0.0
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._take, number)

    def _take(self, number: signal.Signals) -> None:
        now = self._loop.time()
        if not self.asked.is_set():
            self._asked_at = now
            self.on_terminal = number == signal.SIGINT and _has_terminal()
            self.asked.set()
        elif now - self._asked_at >= ONE_SIGNAL_SECONDS:
            self.again.set()


def run(config: Config, options: Options) -> int:
    """Run a gateway until SIGTERM or Ctrl-C, and return the exit code.

    It follows the source of the options, and reads it at once on SIGHUP.
    """
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_run(config, options))


async def _run(config: Config, options: Options) -> int:
    loop = asyncio.get_running_loop()
    stop = StopSignals(loop)
    try:
        gateway = build(config, sys.stdout, replace(options, open_files=raise_limit()))
    except StartError as problem:
        return _fail(problem)
    loop.set_exception_handler(lambda _, context: gateway.loop_fault(context.get("exception")))
    async with _announced(gateway, options.notify) as announcer:
        loop.add_signal_handler(signal.SIGHUP, _reload, gateway, announcer)
        return await _served(gateway, stop, announcer)


async def _served(gateway: Gateway, stop: StopSignals, announcer: Announcer | None) -> int:
    """Serve until a signal, and return the exit code."""
    try:
        if not await _done_before(stop.asked, gateway.start()):
            _say_stopping(announcer)
            await gateway.close()
            return Exit.OK
        if await _done_before(stop.asked, gateway.ready()):
            await stop.asked.wait()
    except StartError as problem:
        _say_stopping(announcer)
        await gateway.close()
        return _fail(problem)
    _say_stopping(announcer)
    return await _drained(gateway, stop)


def _say_stopping(announcer: Announcer | None) -> None:
    if announcer is not None:
        announcer.stopping()


@asynccontextmanager
async def _announced(gateway: Gateway, target: NotifySocket | None) -> AsyncIterator[Announcer | None]:
    """Tell systemd the state of the gateway, up to the end, if there is a target."""
    if target is None:
        yield None
        return
    announcer = Announcer(target, gateway.health, time.monotonic_ns)
    following = asyncio.ensure_future(announcer.run())
    try:
        yield announcer
    finally:
        following.cancel()
        announcer.close()


def _reload(gateway: Gateway, announcer: Announcer | None) -> None:
    if announcer is None:
        gateway.reload()
        return
    announcer.reloading()
    gateway.reload().add_done_callback(lambda _: announcer.reloaded())


async def _drained(gateway: Gateway, stop: StopSignals) -> int:
    """Finish what is in flight, until a second signal; return the exit code."""
    # Nobody who presses Ctrl-C has a load balancer that must see it first.
    delay = 0.0 if stop.on_terminal else gateway.config.drain.delay
    draining = asyncio.ensure_future(gateway.drain(delay))
    if await _done_before(stop.again, draining):
        return draining.result()
    return await gateway.cut_off()


async def _done_before(event: asyncio.Event, work: Coroutine[Any, Any, Any] | asyncio.Future[Any]) -> bool:
    """Return True once `work` is done; if `event` is set first, cancel the work and return False.

    Raises what the work raises.
    """
    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if working.done():
        working.result()
        return True
    working.cancel()
    await asyncio.wait({working})
    return False


def _has_terminal() -> bool:
    try:
        return os.isatty(sys.stdin.fileno())
    except (AttributeError, OSError, ValueError):
        # It is closed, or is no file.
        return False


def _fail(problem: StartError) -> int:
    # Standard error may be full or closed as well; the process exits with its code all the same.
    sink = open_sink(sys.stderr)
    sink.put(f"blnk-gateway: {problem}\n".encode("utf-8", "backslashreplace"))
    sink.close(patience=1.0)
    return problem.exit_code
