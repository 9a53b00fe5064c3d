"""Servers of the benchmark: how they start, fail and end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.processes import busy_seconds, cpu_seconds, memory_kb
from tests.bench.servers import Cores, Stage, StartError

CORES = Cores(0, 0)
SLEEP = "import time; print('started', flush=True); time.sleep(60)"
STAGED = f"""
import sys, time
from tests.bench.servers import Cores, Stage, end_on_sigterm
end_on_sigterm()
try:
    with Stage.opened(Cores(0, 0)) as stage:
        process = stage.run("sleeper", [sys.executable, "-c", {SLEEP!r}], 0, {{}})
        print(stage.folder, process.popen.pid, flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
"""
WORK = "while True: pass"


def test_a_server_that_ends_is_named_with_its_output() -> None:
    """Whoever configured it wrongly sees why."""
    with Stage.opened(CORES) as stage:
        command = [sys.executable, "-c", "print('no such option'); raise SystemExit(3)"]
        process = stage.run("nginx + Lua", command, 0, {})
        with pytest.raises(StartError) as failed:
            process.wait_until(lambda: False)
    assert str(failed.value) == "nginx + Lua ended with exit code 3. The end of its output:\nno such option\n"


def test_a_program_that_is_not_there_is_named() -> None:
    """As one whose path is mistyped in --gateway."""
    with Stage.opened(CORES) as stage, pytest.raises(StartError) as failed:
        stage.run("before", ["/no/such/gateway"], 0, {})
    assert str(failed.value) == "before: cannot run /no/such/gateway: No such file or directory"


def test_everything_ends_with_the_stage() -> None:
    """No process and no file is left."""
    with Stage.opened(CORES) as stage:
        process = stage.run("sleeper", [sys.executable, "-c", SLEEP], 0, {})
        process.wait_until(lambda: "started" in process.output.read_text())
        folder = stage.folder
    assert process.popen.poll() is not None
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_everything_ends_with_a_signal(number: signal.Signals) -> None:
    """A benchmark that is interrupted leaves no server that burns a core."""
    bench = subprocess.Popen([sys.executable, "-c", STAGED], stdout=subprocess.PIPE, text=True)
    assert bench.stdout is not None
    with bench.stdout:
        folder, pid = bench.stdout.readline().split()
        bench.send_signal(number)
        bench.wait(10)
    assert not Path(folder).exists()
    assert not Path(f"/proc/{pid}").exists()


def test_settings_of_this_environment_do_not_reach_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway runs as shipped, whatever the user has set."""
    monkeypatch.setenv("BLNK_GATEWAY_LISTEN", "0.0.0.0:1")
    show = "import os; print(sorted(name for name in os.environ if name.startswith('BLNK_')), flush=True)"
    with Stage.opened(CORES) as stage:
        process = stage.run("shower", [sys.executable, "-c", show], 0, {"BLNK_MASTER_KEY": "x"})
        process.popen.wait(10)
        assert process.output.read_text() == "['BLNK_MASTER_KEY']\n"


def test_the_time_of_a_process_is_that_of_its_core() -> None:
    """A process that always works has used about as much as its core has worked."""
    with Stage.opened(CORES) as stage:
        process = stage.run("worker", [sys.executable, "-c", WORK], 0, {})
        process.wait_until(lambda: cpu_seconds(process.popen.pid) > 0.1)
        before, core = cpu_seconds(process.popen.pid), busy_seconds(0)
        process.wait_until(lambda: cpu_seconds(process.popen.pid) - before > 0.2)
        spent, worked = cpu_seconds(process.popen.pid) - before, busy_seconds(0) - core
    # The core also works for others, and counts in hundredths of a second.
    assert worked >= spent - 0.05


def test_the_memory_of_a_process_is_read_in_kib() -> None:
    """A Python process holds megabytes; what it shares with others counts less in PSS."""
    with Stage.opened(CORES) as stage:
        process = stage.run("sleeper", [sys.executable, "-c", SLEEP], 0, {})
        process.wait_until(lambda: "started" in process.output.read_text())
        found = memory_kb(process.popen.pid)
    assert 1_000 < found["Pss"] <= found["Rss"] < 1_000_000


def test_no_place_is_taken_twice() -> None:
    """Names of servers may have blanks; their folders have none."""
    with Stage.opened(CORES) as stage:
        assert stage.folder_of("a name") == Path(stage.folder, "a-name")
        assert stage.folder_of("a name").is_dir()
