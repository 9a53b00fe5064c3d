"""`serve` as a process whose log is not written: it responds, reloads, drains and exits as with any other."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.config import Address
from tests.core_stand_in import REFUSAL, StandInCore, held, responding
from tests.pipes import KINDS, opened
from tests.raw_client import PATIENCE, RawClient, Response, request
from tests.running import MASTER_KEY, ROOT
from tests.serving import SERVE
from tests.wire.asserting import READ

READABLE = "  GET /ledgers:          ledgers:read\n"
CLOSED = "  GET /ledgers: deny\n"


@dataclass(slots=True)
class Process:
    """`serve` in front of a Core, with standard streams that are the test's."""

    process: asyncio.subprocess.Process
    file: Path
    clients: Address
    admin: Address

    async def ask(self, target: str = READ) -> int:
        """Return the status of a request with the master key."""
        return (await _call(self.clients, request("GET", target, key=MASTER_KEY))).status

    async def look(self, path: str) -> Response:
        """Return a response of the admin listener."""
        return await _call(self.admin, request("GET", path).replace(b"gateway.test", b"127.0.0.1"))

    async def ready(self) -> None:
        """Wait until it serves."""
        async with asyncio.timeout(3 * PATIENCE):
            while True:
                try:
                    if (await self.look("/health/ready")).status == 200:
                        return
                except OSError:
                    assert self.process.returncode is None, "ended"
                await asyncio.sleep(0.05)

    async def closes(self) -> None:
        """Make another policy live, by SIGHUP, under which the route is closed."""
        self.file.write_text(self.file.read_text().replace(READABLE, CLOSED))
        self.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(PATIENCE):
            while await self.ask() != 403:
                await asyncio.sleep(0.02)

    async def dropped(self) -> float:
        """Return the count of lines that were not written."""
        page = (await self.look("/metrics")).body.decode()
        name = "blnk_gateway_log_lines_dropped_total "
        return next(float(line.removeprefix(name)) for line in page.splitlines() if line.startswith(name))


async def _call(address: Address, data: bytes) -> Response:
    async with await RawClient.connect(address) as client:
        return await client.call(data)


@asynccontextmanager
async def serve(
    upstream: StandInCore,
    folder: Path,
    ports: Callable[[], int],
    stdout: int,
    *,
    stderr: int = asyncio.subprocess.PIPE,
    before: Callable[[], None] | None = None,
) -> AsyncIterator[Process]:
    """Start a process whose log goes to the descriptor `stdout`; `before` runs in it first."""
    file = folder / "gateway.yaml"
    file.write_text((ROOT / "gateway.yaml").read_text())
    assert READABLE in file.read_text()
    addresses = [Address("127.0.0.1", ports()) for _ in range(2)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BLNK_")}
    environment |= {
        "BLNK_MASTER_KEY": MASTER_KEY,
        "BLNK_GATEWAY_LISTEN": str(addresses[0]),
        "BLNK_GATEWAY_ADMIN": str(addresses[1]),
        "BLNK_GATEWAY_UPSTREAM__URL": upstream.url,
        "BLNK_GATEWAY_KEYS__STORE": "memory://",
        "BLNK_GATEWAY_DRAIN__DELAY": "0s",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", SERVE, "serve", "--config", str(file)),
        cwd=ROOT,
        env=environment,
        stdout=stdout,
        stderr=stderr,
        preexec_fn=before,
    )
    try:
        yield Process(process, file, *addresses)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ended(process: Process) -> tuple[int | None, bytes]:
    """Wait for the end; return the exit code and standard error."""
    async with asyncio.timeout(PATIENCE):
        _, err = await process.process.communicate()
    return process.process.returncode, err


@contextmanager
def unread(kind: str) -> Iterator[int]:
    with opened(KINDS[kind]) as pipe:
        pipe.fill()
        yield pipe.stream.fileno()


@contextmanager
def non_blocking() -> Iterator[int]:
    with unread("pipe") as descriptor:
        os.set_blocking(descriptor, False)
        yield descriptor


@contextmanager
def gone() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@contextmanager
def full() -> Iterator[int]:
    with Path("/dev/full").open("wb") as device:
        yield device.fileno()


@contextmanager
def stopped() -> Iterator[int]:
    """Return a terminal whose reader was stopped, filled up."""
    with opened(KINDS["terminal"]) as terminal, ExitStack() as stack:
        streams = [
            (os.POSIX_SPAWN_DUP2, terminal.reader, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        ]
        reader = os.posix_spawnp("cat", ["cat"], os.environ, file_actions=streams)
        stack.callback(os.waitpid, reader, 0)
        stack.callback(os.kill, reader, signal.SIGKILL)
        os.kill(reader, signal.SIGSTOP)
        os.waitpid(reader, os.WUNTRACED)
        terminal.fill()
        yield terminal.stream.fileno()


STREAMS = {
    "a pipe that nobody reads": lambda: unread("pipe"),
    "a terminal that nobody reads": lambda: unread("terminal"),
    "a terminal with a stopped reader": stopped,
    "a full pipe that is non-blocking": non_blocking,
    "a reader that has gone": gone,
    "a full disk": full,
}


@pytest.mark.parametrize("stream", STREAMS)
async def test_it_answers_reloads_and_drains_all_the_same(
    stream: str, upstream: StandInCore, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    with STREAMS[stream]() as stdout:
        async with serve(upstream, tmp_path, unused_tcp_port_factory, stdout) as process:
            await process.ready()
            statuses = {await process.ask() for _ in range(200)}
            await process.closes()
            alive = (await process.look("/health/alive")).status
            release = asyncio.Event()
            upstream.script(held(release))
            last = asyncio.create_task(process.ask("/ledgers/x"))
            await upstream.arrived(len(upstream.requests) + 1)
            process.process.send_signal(signal.SIGTERM)
            release.set()
            assert (statuses, alive, await last) == ({200}, 200, 200)
            assert await ended(process) == (0, b"")


async def test_it_starts_with_standard_output_closed(
    upstream: StandInCore, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    """A process started with `serve >&-` runs, and its log's descriptor never becomes a client's."""
    stdout = os.open(os.devnull, os.O_WRONLY)
    async with serve(
        upstream, tmp_path, unused_tcp_port_factory, stdout, before=lambda: os.close(1)
    ) as process:
        os.close(stdout)
        await process.ready()
        await process.closes()
        process.process.terminate()
        assert await ended(process) == (0, b"")


async def test_a_disk_that_has_room_again_takes_whole_lines(
    upstream: StandInCore, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    """A disk that has room again gets whole lines: lost lines are counted, and only one is cut."""
    log = tmp_path / "log"
    with log.open("ab") as stdout:
        async with serve(
            upstream, tmp_path, unused_tcp_port_factory, stdout.fileno(), before=limited(2500)
        ) as process:
            await process.ready()
            for number in range(20):
                await process.ask(f"/nowhere/{number}")
            async with asyncio.timeout(PATIENCE):
                while not (lost := await process.dropped()):
                    await asyncio.sleep(0.05)
            size = log.stat().st_size
            resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            await process.ask("/nowhere/last")
            process.process.terminate()
            assert await ended(process) == (0, b"")
    torn, *rest = log.read_bytes()[:size].splitlines()[-1:] + log.read_bytes()[size + 1 :].splitlines()
    with pytest.raises(ValueError, match=r"Unterminated|Expecting|Invalid"):
        json.loads(torn)
    assert json.loads(rest[-3])["path"] == "/nowhere/last"
    assert [json.loads(line)["event"] for line in rest[-2:]] == ["draining", "stopped"]
    assert (size, lost >= 1) == (2500, True)


def limited(size: int) -> Callable[[], None]:
    """Let no file grow beyond `size` bytes, which stands for a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("stream", ["a pipe that nobody reads", "a reader that has gone", "a full disk"])
async def test_a_start_that_fails_exits_by_its_code_whoever_reads_why(
    stream: str, upstream: StandInCore, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    """A start that fails exits by its code even if nobody reads the reason: a refused master key is 3."""
    upstream.probe_behaviour = responding("401 Unauthorized", REFUSAL)
    with STREAMS[stream]() as stderr:
        async with serve(
            upstream, tmp_path, unused_tcp_port_factory, asyncio.subprocess.PIPE, stderr=stderr
        ) as process:
            assert (await ended(process))[0] == 3
