"""Starts the stand-in ledger and a gateway before it, walks through them, and stays up.

Rules kept here:
- Nothing outside this process is needed or kept: keys in memory, loopback addresses, a log in a folder that
  goes with the process.
- A port that somebody answers on is left to them, even where the system would let it be shared.
- What goes wrong is a text and an exit code, never a traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TextIO

import aiohttp
from aiohttp import web
from rich.console import Console

from gateway.config import Config, ConfigError, Secret, parse_config
from gateway.demo.ledger import StandInLedger
from gateway.demo.printer import Addresses, DemoPrinter
from gateway.demo.walkthrough import Walkthrough
from gateway.server.build import build
from gateway.server.errors import StartError
from gateway.server.exit_codes import Exit
from gateway.server.gateway import Gateway

SHIPPED = "gateway.yaml"

_HOST = "127.0.0.1"
_PORT = 5001  # of the configuration that ships
_PROGRAM = "blnk-gateway"
_ANSWER_SECONDS = 10.0


def run(once: bool) -> int:
    """Walk through the gateway; then stay up until Ctrl-C, unless `once`. Returns the exit code."""
    try:
        # As it was called, which may be by a path; `python -m gateway` cannot be told from its file.
        program = sys.argv[0] if Path(sys.argv[0]).name == _PROGRAM else _PROGRAM
        return asyncio.run(demo(Console(), once=once, program=program))
    except KeyboardInterrupt:
        return Exit.FAILED
    except OSError as problem:
        # Standard output takes no more, so the console is of no use.
        with contextlib.suppress(OSError):
            sys.stderr.write(f"blnk-gateway: {problem.strerror or problem}\n")
        return Exit.FAILED


def stand_in(master: Secret) -> web.Application:
    """An empty ledger behind this master key."""
    return StandInLedger(master.reveal(), lambda: datetime.now(UTC), lambda: str(uuid.uuid4())).application()


async def demo(
    console: Console,
    *,
    once: bool,
    port: int = _PORT,
    program: str = _PROGRAM,
    ledger: Callable[[Secret], web.Application] = stand_in,
) -> int:
    """As run, told on this console and in front of this ledger.

    Clients connect at `port` of loopback, or at a free one if that is taken. `program` is how a person calls
    the command line.
    """
    teller = DemoPrinter(console, program)
    master = Secret(secrets.token_urlsafe(24))
    try:
        async with _served(ledger(master)) as upstream:
            return await _show(teller, upstream, master, once=once, port=port)
    except ConfigError as problem:
        teller.problem(f"The configuration that ships is not good:\n{problem}")
        return Exit.USAGE
    except StartError as problem:
        teller.problem(f"The gateway cannot start: {problem}")
        return problem.exit_code


async def _show(teller: DemoPrinter, upstream: str, master: Secret, *, once: bool, port: int) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="blnk-gateway-demo-") as folder,
        Path(folder, "gateway.log").open("w", encoding="utf-8") as log,
    ):
        async with (
            _gateway(upstream, master, log, port) as gateway,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS)) as session,
        ):
            at = Addresses(f"http://{gateway.address}", f"http://{gateway.admin_address}")
            story = Walkthrough(session, at.clients, master)
            teller.beginning(at, master, port if port not in (0, gateway.address.port) else None)
            failed = await _walk(teller, story, at.clients)
            if not once:
                teller.invitation(at, master, story.live_key, log.name)
            teller.next_steps()
            if not once:
                teller.staying()
                await _until_stopped()
    return Exit.FAILED if failed else Exit.OK


async def _walk(teller: DemoPrinter, story: Walkthrough, base: str) -> int:
    """Tell every step; how many came out otherwise."""
    failed = 0
    async for step in story.steps():
        teller.step(base, step)
        failed += not step.holds
    teller.ending(failed)
    return failed


async def _until_stopped() -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()


@asynccontextmanager
async def _served(ledger: web.Application) -> AsyncIterator[str]:
    """The ledger on a free port; its URL."""
    runner = web.AppRunner(ledger, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, _HOST, 0).start()
        yield f"http://{_HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _gateway(upstream: str, master: Secret, log: TextIO, port: int) -> AsyncIterator[Gateway]:
    """A gateway that has accepted the ledger. Raises StartError, ConfigError."""
    gateway = await _start_on(port, upstream, master, log)
    try:
        try:
            await asyncio.wait_for(gateway.ready(), _ANSWER_SECONDS)
        except TimeoutError:
            raise StartError("the stand-in ledger does not answer", Exit.DEPENDENCY) from None
        yield gateway
    finally:
        await gateway.close()


async def _start_on(port: int, upstream: str, master: Secret, log: TextIO) -> Gateway:
    if not await _is_answered(port):
        # Somebody may hold the port without answering.
        with contextlib.suppress(StartError):
            return await _start(_config(port, upstream, master), log)
    return await _start(_config(0, upstream, master), log)


async def _start(config: Config, log: TextIO) -> Gateway:
    gateway = build(config, log)
    try:
        await gateway.start()
    except StartError:
        await gateway.close()
        raise
    return gateway


async def _is_answered(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(_HOST, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _config(port: int, upstream: str, master: Secret) -> Config:
    """The configuration that ships, with what a demo changes of it."""
    shipped = resources.files("gateway").joinpath(SHIPPED).read_bytes()
    environ = {
        "BLNK_MASTER_KEY": master.reveal(),
        "BLNK_GATEWAY_LISTEN": f"{_HOST}:{port}",
        "BLNK_GATEWAY_ADMIN": f"{_HOST}:0",
        "BLNK_GATEWAY_UPSTREAM__URL": upstream,
        "BLNK_GATEWAY_KEYS__STORE": "memory://",
        "BLNK_GATEWAY_LOG__FORMAT": "console",
    }
    return parse_config(shipped, Path(SHIPPED), environ, secrets=True)
