"""Runs the demo: starts a stand-in ledger and a gateway in front of it, walks through them, keeps running.

Rules kept here:
- The demo needs and keeps nothing outside of its process: keys are in memory, addresses are on loopback, and
  the folder of the log is removed at the end.
- A port that another program serves is not used, even if the system would share it.
- A failure is a text and an exit code, never a traceback.
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
_PORT = 5001  # as in the packaged configuration
_PROGRAM = "blnk-gateway"
_RESPONSE_SECONDS = 10.0


def run(once: bool) -> int:
    """Walk through the gateway, then keep running until Ctrl-C unless `once`; return the exit code."""
    try:
        # The program as it was called, possibly by a path; `python -m gateway` cannot be recognised from its
        # file.
        program = sys.argv[0] if Path(sys.argv[0]).name == _PROGRAM else _PROGRAM
        return asyncio.run(demo(Console(), once=once, program=program))
    except KeyboardInterrupt:
        return Exit.FAILED
    except OSError as problem:
        # Standard output is closed, so the console cannot be used.
        with contextlib.suppress(OSError):
            sys.stderr.write(f"blnk-gateway: {problem.strerror or problem}\n")
        return Exit.FAILED


def stand_in(master: Secret) -> web.Application:
    """Return an empty ledger with this master key."""
    return StandInLedger(master.reveal(), lambda: datetime.now(UTC), lambda: str(uuid.uuid4())).application()


async def demo(
    console: Console,
    *,
    once: bool,
    port: int = _PORT,
    program: str = _PROGRAM,
    ledger: Callable[[Secret], web.Application] = stand_in,
) -> int:
    """Run the demo on this console and in front of this ledger; return the exit code.

    Clients connect to `port` on loopback, or to a free port if it is taken. `program` is the name of the
    program in the commands that are shown.
    """
    printer = DemoPrinter(console, program)
    master = Secret(secrets.token_urlsafe(24))
    try:
        async with _served(ledger(master)) as upstream:
            return await _show(printer, upstream, master, once=once, port=port)
    except ConfigError as problem:
        printer.print_problem(f"The packaged configuration is not valid:\n{problem}")
        return Exit.USAGE
    except StartError as problem:
        printer.print_problem(f"The gateway cannot start: {problem}")
        return problem.exit_code


async def _show(printer: DemoPrinter, upstream: str, master: Secret, *, once: bool, port: int) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="blnk-gateway-demo-") as folder,
        Path(folder, "gateway.log").open("w", encoding="utf-8") as log,
    ):
        async with (
            _gateway(upstream, master, log, port) as gateway,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_RESPONSE_SECONDS)) as session,
        ):
            at = Addresses(f"http://{gateway.address}", f"http://{gateway.admin_address}")
            walkthrough = Walkthrough(session, at.clients, master)
            printer.print_beginning(at, master, port if port not in (0, gateway.address.port) else None)
            failed = await _walk(printer, walkthrough, at.clients)
            if not once:
                printer.print_commands_to_try(at, master, walkthrough.live_key, log.name)
            printer.print_next_steps()
            if not once:
                printer.print_how_to_end()
                await _until_stopped()
    return Exit.FAILED if failed else Exit.OK


async def _walk(printer: DemoPrinter, walkthrough: Walkthrough, base: str) -> int:
    """Print every step; return how many were not as expected."""
    failed = 0
    async for step in walkthrough.steps():
        printer.print_step(base, step)
        failed += not step.as_expected
    printer.print_result(failed)
    return failed


async def _until_stopped() -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()


@asynccontextmanager
async def _served(ledger: web.Application) -> AsyncIterator[str]:
    """Serve the ledger on a free port; yield its URL."""
    runner = web.AppRunner(ledger, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, _HOST, 0).start()
        yield f"http://{_HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _gateway(upstream: str, master: Secret, log: TextIO, port: int) -> AsyncIterator[Gateway]:
    """Run a gateway and yield it once it has accepted the ledger. Raises StartError, ConfigError."""
    gateway = await _start_on(port, upstream, master, log)
    try:
        try:
            await asyncio.wait_for(gateway.ready(), _RESPONSE_SECONDS)
        except TimeoutError:
            raise StartError("the stand-in ledger does not respond", Exit.DEPENDENCY) from None
        yield gateway
    finally:
        await gateway.close()


async def _start_on(port: int, upstream: str, master: Secret, log: TextIO) -> Gateway:
    if not await _is_served(port):
        # Another program may hold the port without serving it.
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


async def _is_served(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(_HOST, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _config(port: int, upstream: str, master: Secret) -> Config:
    """Return the packaged configuration with the changes for a demo."""
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
