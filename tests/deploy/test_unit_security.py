"""The hardening of the unit for systemd: its score, and a gateway that runs with what it leaves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.addresses import free_ports
from tests.core_stand_in import StandInCore
from tests.deploy.systemd import UNIT
from tests.raw_client import RawClient
from tests.redis_server import RedisServer
from tests.running import MASTER_KEY
from tests.serving import serving

pytestmark = pytest.mark.systemd

CONFINED = Path(__file__).with_name("confined.py")
TOLERATED = 1.5
"""The exposure of the unit, of 10: 1.1 with systemd 252; each version judges a little differently."""


def analyze(*arguments: str | Path) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze is installed")
    done = subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
    )
    return done.stdout


def calls(*sets: str) -> set[str]:
    """Return the system calls in sets such as `@chown`, and in the sets that they contain."""
    found: set[str] = set()
    for name in sets:
        lines = [line.strip() for line in analyze("syscall-filter", name).splitlines()[1:]]
        found.update(line for line in lines if line and line[0] not in "@#")
        found |= calls(*(line for line in lines if line.startswith("@")))
    return found


def left() -> Iterator[str]:
    """Yield the system calls that the filters of the unit allow."""
    allowed, refused = re.findall(r"^SystemCallFilter=(.+)$", UNIT.read_text(), re.MULTILINE)
    yield from sorted(
        (calls(*allowed.split()) - calls(*refused.removeprefix("~").split())) | calls("@default")
    )


def test_systemd_sees_little_exposure() -> None:
    text = analyze("security", "--offline=true", "--no-pager", UNIT)
    exposure = re.search(r"Overall exposure level for .*: ([0-9.]+)", text)
    assert exposure is not None
    assert float(exposure[1]) <= TOLERATED


@pytest.mark.redis
async def test_the_gateway_needs_nothing_that_the_unit_refuses(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """With these system calls, and without memory that is written and executed, it serves and drains."""
    (port,) = free_ports(1)
    names = tmp_path / "calls"
    names.write_text("\n".join(left()))
    assert refused_by(names) == "1"
    settings = {"KEYS__STORE": redis_server.url, "LISTEN": f"127.0.0.1:{port}", "DRAIN__DELAY": "0s"}
    confined = (sys.executable, str(CONFINED), str(names))
    async with (
        StandInCore(MASTER_KEY) as core,
        serving(core.url, settings, command=confined, options=["--reuse-port"]) as running,
    ):
        clients, admin = await running.listening()
        async with await RawClient.connect(clients) as client:
            stamped = await client.ask("POST", "/ledgers", key=MASTER_KEY, body=b'{"name":"a"}')
        async with await RawClient.connect(admin) as client:
            page = (await client.ask("GET", "/metrics", host=str(admin))).body.decode()
        running.terminate()
        ended = await running.ended()
    assert (stamped.status, ended.code, ended.stderr) == (200, 0, "")
    assert "process_start_time_seconds" in page


def refused_by(names: Path) -> str:
    """Return what a confined process prints that tries to change its priority."""
    tries = "import os\ntry: os.nice(1)\nexcept PermissionError as refused: print(refused.errno)"
    done = subprocess.run(
        [sys.executable, str(CONFINED), str(names), sys.executable, "-c", tries],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
