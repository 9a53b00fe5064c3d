"""Signals to `serve`: while it loads, as the first process of a container, twice, from a terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.server.process import ONE_SIGNAL_SECONDS
from tests.core_stand_in import StandInCore, held, never
from tests.raw_client import RawClient, request
from tests.running import MASTER_KEY
from tests.serving import SERVE, Serving, serving
from tests.wire.asserting import READ

AT_ONCE = 5.0  # seconds, for a busy machine
LONG = {"DRAIN__DELAY": "60s", "DRAIN__TIMEOUT": "60s"}
FIRST_PROCESS = ("unshare", "--fork", "--pid", "--mount-proc", "--kill-child")
"""Runs a command with the process id 1, for which signals have no default action."""
NO_NAMESPACES = os.geteuid() != 0 or shutil.which("unshare") is None or sys.platform != "linux"

# Sends the process a signal as it begins to import a module, and says so.
_LOADING = """
import os, sys

class Signalling:
    def find_spec(name, *_):
        if name == {module!r}:
            sys.meta_path.remove(Signalling)
            os.kill(os.getpid(), {number:d})

sys.meta_path.insert(0, Signalling)
"""
EARLY, LATE = "click", "gateway.server.build"

loads = pytest.mark.parametrize("module", [EARLY, LATE])


def loading(module: str, number: signal.Signals) -> str:
    return _LOADING.format(module=module, number=number) + SERVE


class TestLoading:
    @loads
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_a_signal_to_end_ends_it_with_0(
        self, upstream: StandInCore, module: str, number: signal.Signals
    ) -> None:
        """A signal to end during the start ends it with 0 and no output."""
        async with serving(upstream.url, {}, script=loading(module, number)) as process:
            ended = await process.ended()
        assert (ended.code, ended.events, ended.stderr) == (0, [], "")

    @loads
    async def test_sighup_does_not_end_it(self, upstream: StandInCore, module: str) -> None:
        """SIGHUP during the start is ignored, since the configuration is being read anyway."""
        async with serving(upstream.url, {}, script=loading(module, signal.SIGHUP)) as process:
            await process.event("ready")

    @pytest.mark.skipif(NO_NAMESPACES, reason="needs root and unshare, on Linux")
    @loads
    async def test_the_first_process_of_a_container_ends_too(
        self, upstream: StandInCore, module: str
    ) -> None:
        """The first process of a container ends too, although SIGTERM without a handler is ignored there."""
        script = loading(module, signal.SIGTERM)
        async with serving(upstream.url, {}, command=FIRST_PROCESS, script=script) as process:
            ended = await process.ended()
        assert (ended.code, ended.events, ended.stderr) == (0, [], "")

    @pytest.mark.skipif(NO_NAMESPACES, reason="needs root and unshare, on Linux")
    async def test_the_first_process_of_a_container_drains_and_reloads(self, upstream: StandInCore) -> None:
        """The first process of a container drains and reloads once it serves."""
        script = loading(EARLY, signal.SIGHUP)
        settings = {"DRAIN__DELAY": "0s"}
        async with serving(upstream.url, settings, command=FIRST_PROCESS, script=script) as process:
            await process.event("ready")
            first = child_of(process)
            os.kill(first, signal.SIGHUP)
            await process.event("reloaded")
            os.kill(first, signal.SIGTERM)
            ended = await process.ended()
        assert (ended.code, ended.stderr) == (0, "")

    def test_sighup_ends_any_other_command(self) -> None:
        """SIGHUP ends any other command, since its terminal was closed."""
        script = loading(EARLY, signal.SIGHUP)
        done = subprocess.run(
            [sys.executable, "-c", script, "keys", "list"], check=False, capture_output=True, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGHUP, b"", b"")


def child_of(process: Serving) -> int:
    pid = process.process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.fixture
def terminal() -> Iterator[int]:
    """Return the side of a terminal that a program reads from."""
    ours, theirs = pty.openpty()
    yield theirs
    os.close(theirs)
    os.close(ours)


class TestEnd:
    async def test_before_it_listens_sigterm_ends_it_at_once(self, upstream: StandInCore) -> None:
        """SIGTERM ends it at once while it waits for Core's database, which accepts and says nothing."""
        arrived = asyncio.Event()

        async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived.set()
            await reader.read()
            writer.close()

        silent = await asyncio.start_server(listens, "127.0.0.1", 0)
        database = f"postgres://u:p@127.0.0.1:{silent.sockets[0].getsockname()[1]}/blnk"
        settings = LONG | {"KEYS__AUTHORITY": "core", "KEYS__CORE_DATABASE": database}
        async with silent, serving(upstream.url, settings) as process, asyncio.timeout(4 * AT_ONCE):
            await arrived.wait()
            process.terminate()
            async with asyncio.timeout(AT_ONCE):
                ended = await process.ended()
        assert (ended.code, ended.stderr) == (0, "")
        assert [event["event"] for event in ended.events if event["event"] == "listening"] == []

    @pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
    async def test_a_second_signal_ends_the_drain_at_once(
        self, upstream: StandInCore, second: signal.Signals
    ) -> None:
        """A second signal ends the drain at once; with nothing in flight the exit code is 0."""
        async with serving(upstream.url, LONG) as process:
            await process.event("ready")
            process.terminate()
            await process.event("draining")
            await asyncio.sleep(2 * ONE_SIGNAL_SECONDS)
            process.process.send_signal(second)
            async with asyncio.timeout(AT_ONCE):
                ended = await process.ended()
        assert (ended.code, ended.stderr) == (0, "")
        assert (ended.events[-1]["event"], ended.events[-1]["cut"]) == ("stopped", 0)

    async def test_a_second_signal_cuts_what_is_in_flight(self, upstream: StandInCore) -> None:
        """A second signal cuts what is in flight: exit 1."""
        upstream.behaviour = never
        async with serving(upstream.url, LONG | {"DRAIN__DELAY": "0s"}) as process:
            address, _ = await process.listening()
            await process.event("ready")
            async with await RawClient.connect(address) as client:
                await client.send(request("GET", READ, key=MASTER_KEY))
                await upstream.arrived()
                process.terminate()
                await process.event("draining")
                await asyncio.sleep(2 * ONE_SIGNAL_SECONDS)
                process.terminate()
                async with asyncio.timeout(AT_ONCE):
                    ended = await process.ended()
        assert (ended.code, ended.stderr) == (1, "")
        assert [event["cut"] for event in ended.events if event["event"] == "stopped"] == [1]

    async def test_one_signal_that_is_sent_twice_counts_once(self, upstream: StandInCore) -> None:
        """`timeout` sends SIGTERM to the process and to its group, which counts once: nothing is cut."""
        release = asyncio.Event()
        upstream.behaviour = held(release)
        async with serving(upstream.url, LONG | {"DRAIN__DELAY": "0s"}) as process:
            address, _ = await process.listening()
            await process.event("ready")
            async with await RawClient.connect(address) as client:
                await client.send(request("GET", READ, key=MASTER_KEY))
                await upstream.arrived()
                process.terminate()
                process.process.send_signal(signal.SIGINT)
                await process.event("draining")
                release.set()
                assert (await client.response()).status == 200
            ended = await process.ended()
        assert (ended.code, ended.stderr) == (0, "")

    async def test_ctrl_c_on_a_terminal_does_not_wait_for_load_balancers(
        self, upstream: StandInCore, terminal: int
    ) -> None:
        """Ctrl-C on a terminal skips `drain.delay`, which is for load balancers."""
        async with serving(upstream.url, LONG, stdin=terminal) as process:
            await process.event("ready")
            process.process.send_signal(signal.SIGINT)
            assert (await process.event("draining"))["delay"] == 0
            async with asyncio.timeout(AT_ONCE):
                ended = await process.ended()
        assert (ended.code, ended.stderr) == (0, "")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_without_a_terminal_the_delay_is_kept(
        self, upstream: StandInCore, number: signal.Signals
    ) -> None:
        """SIGINT without a terminal keeps the delay, since a supervisor may send it."""
        async with serving(upstream.url, LONG, stdin=asyncio.subprocess.DEVNULL) as process:
            await process.event("ready")
            process.process.send_signal(number)
            assert (await process.event("draining"))["delay"] == 60
