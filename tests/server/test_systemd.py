"""The state of `serve` as systemd hears it: a real process and a real datagram socket."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.admin.health import Health
from gateway.server.exit_codes import Exit
from gateway.server.systemd import Announcer, NotifySocket
from tests.core_stand_in import StandInCore, held
from tests.raw_client import PATIENCE
from tests.serving import SERVE, serving

WATCHDOG_SECONDS = 0.4
BLOCKED_SECONDS = 1.0
# A signal that blocks the event loop, as a fault in the gateway could.
BLOCKABLE = f"import signal, time; signal.signal(signal.SIGUSR1, lambda *_: time.sleep({BLOCKED_SECONDS})); "


class Systemd:
    """The receiver of the notifications, with the time of each."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.received: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(address.replace("@", "\0"))

    @property
    def messages(self) -> list[str]:
        return [message for _, message in self.received if message != "WATCHDOG=1"]

    def close(self) -> None:
        self._socket.close()

    async def next(self) -> str:
        """Return the next message."""
        async with asyncio.timeout(2 * PATIENCE):
            data = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
        self.received.append((time.monotonic(), data.decode()))
        return self.received[-1][1]

    async def until(self, message: str) -> None:
        """Receive up to this message."""
        while await self.next() != message:
            pass

    async def until_time(self, seconds: float) -> None:
        """Receive for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    await self.next()

    def fill(self) -> None:
        """Let other messages wait, as many as the system keeps."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    other.sendto(b"full", self.address.replace("@", "\0"))

    def waiting(self) -> list[str]:
        """Return the messages that wait to be received."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self._socket.recv(4096).decode())
        return found


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    name = f"{tmp_path}/notify"
    receiver = Systemd(name if request.param == "path" else f"@{name}")
    yield receiver
    receiver.close()


def environment(systemd: Systemd, **more: str) -> tuple[str, ...]:
    """Return the command that starts a process as systemd does."""
    variables = {"NOTIFY_SOCKET": systemd.address, **more}
    return "env", *(f"{name}={value}" for name, value in variables.items())


async def test_a_process_is_ready_when_core_has_accepted_it_and_reloads_and_stops_in_words(
    upstream: StandInCore, systemd: Systemd
) -> None:
    """READY comes once /health/ready would be 200; then a reload, refused or not, and the end are told."""
    release = asyncio.Event()
    upstream.probe_behaviour = held(release)
    settings = {"DRAIN__DELAY": "0s", "ADMIN": "127.0.0.1:0"}
    async with serving(upstream.url, settings, command=environment(systemd)) as process:
        await process.listening()
        assert await systemd.next() == "STATUS=not ready: Core has not been asked yet"
        await asyncio.sleep(0.5)
        assert systemd.waiting() == []
        release.set()
        assert [await systemd.next(), await systemd.next()] == ["READY=1", "STATUS=ready"]
        before = time.monotonic_ns() // 1000
        process.process.send_signal(signal.SIGHUP)
        reloading = await systemd.next()
        found = re.fullmatch("RELOADING=1\nMONOTONIC_USEC=([0-9]+)", reloading)
        assert found is not None, reloading
        assert before <= int(found[1]) <= time.monotonic_ns() // 1000
        assert await systemd.next() == "READY=1"
        process.terminate()
        assert await systemd.next() == "STOPPING=1"
        ended = await process.ended()
    assert (ended.code, ended.stderr) == (0, "")
    assert set(systemd.waiting()) <= {"STATUS=not ready: draining"}


@pytest.mark.parametrize("systemd", ["path"], indirect=True)
async def test_a_start_that_fails_is_told(upstream: StandInCore, systemd: Systemd) -> None:
    """A process that ends because Core refuses the master key says that it stops."""
    upstream.master_key = "another"
    async with serving(upstream.url, {}, command=environment(systemd)) as process:
        await systemd.until("STOPPING=1")
        ended = await process.ended()
    assert ended.code == Exit.DEPENDENCY


@pytest.mark.parametrize("systemd", ["path"], indirect=True)
async def test_the_watchdog_is_fed_until_the_event_loop_is_blocked(
    upstream: StandInCore, systemd: Systemd
) -> None:
    """The watchdog is fed twice in its time, also in a drain, and not while the event loop is blocked."""
    command = environment(systemd, WATCHDOG_USEC=str(int(WATCHDOG_SECONDS * 1e6)))
    script = BLOCKABLE + SERVE
    settings = {"DRAIN__DELAY": "60s"}
    async with serving(upstream.url, settings, command=command, script=script) as process:
        await systemd.until("READY=1")
        await _fed_for(systemd, 2 * WATCHDOG_SECONDS)
        process.terminate()
        await systemd.until("STOPPING=1")
        await _fed_for(systemd, 2 * WATCHDOG_SECONDS)
        process.process.send_signal(signal.SIGUSR1)
        await asyncio.sleep(WATCHDOG_SECONDS / 4)
        systemd.waiting()
        await asyncio.sleep(WATCHDOG_SECONDS)
        assert systemd.waiting() == []
        await systemd.until("WATCHDOG=1")


async def _fed_for(systemd: Systemd, seconds: float) -> None:
    systemd.received.clear()
    await systemd.until_time(seconds)
    times = [at for at, message in systemd.received if message == "WATCHDOG=1"]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) >= 3
    assert max(gaps) < WATCHDOG_SECONDS


async def test_a_lost_dependency_is_told_and_ready_is_not_sent_again(systemd: Systemd) -> None:
    """What is degraded stands in STATUS, on one line."""
    health = Health(version="1")
    announcer = Announcer(NotifySocket(systemd.address), health, time.monotonic_ns)
    following = asyncio.create_task(announcer.run())
    assert await systemd.next() == "STATUS=not ready: Core has not been asked yet"
    announcer.reloading()
    announcer.reloaded()
    health.core_verified()
    assert [await systemd.next(), await systemd.next()] == ["READY=1", "STATUS=ready"]
    health.degrade("store", "the connection\nwas refused")
    assert await systemd.next() == "STATUS=degraded: store: the connection was refused"
    health.restore("store")
    assert await systemd.next() == "STATUS=ready"
    announcer.stopping()
    announcer.reloading()
    announcer.reloaded()
    following.cancel()
    assert systemd.waiting() == ["STOPPING=1"]
    announcer.close()


async def test_a_socket_that_takes_nothing_holds_nothing_up_and_loses_no_ready(systemd: Systemd) -> None:
    """While systemd reads nothing, the newest messages wait, and are sent once it reads."""
    health = Health(version="1")
    announcer = Announcer(NotifySocket(systemd.address), health, time.monotonic_ns)
    systemd.fill()
    health.core_verified()
    following = asyncio.create_task(announcer.run())
    await asyncio.sleep(0)
    assert set(systemd.waiting()) == {"full"}
    await systemd.until("READY=1")
    following.cancel()
    announcer.close()


async def test_a_socket_that_nobody_reads_ends_nothing(tmp_path: Path) -> None:
    """A socket that is not there, or whose name is too long, makes no difference."""
    for name in ("absent", "x" * 200):
        announcer = Announcer(NotifySocket(f"{tmp_path}/{name}"), Health(version="1"), time.monotonic_ns)
        announcer.stopping()
        announcer.close()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": ""}, None),
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, None),
        ({"NOTIFY_SOCKET": "/run/n"}, NotifySocket("/run/n")),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "10000000"}, NotifySocket("@n", 10.0)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "7"}, NotifySocket("@n", 5e-6)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "8"}, NotifySocket("@n")),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "-5"}, NotifySocket("@n")),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "soon"}, NotifySocket("@n")),
    ],
)
def test_the_environment_says_where_systemd_listens(
    variables: dict[str, str], expected: NotifySocket | None
) -> None:
    """The variables of systemd are read as sd_notify(3) and sd_watchdog_enabled(3) say."""
    assert NotifySocket.of(variables, 7) == expected
