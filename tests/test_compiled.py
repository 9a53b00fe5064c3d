"""The modules of the list in pyproject.toml are compiled in a compiled build, and in no other.

Rules kept here:
- With `--compiled` (`python3 -m tests --compiled`) the installed gateway has to be a compiled one.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from typing import Any

import pytest

from gateway.server.version import build_kind
from tests.running import ROOT, Running

COMPILED: Mapping[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "blnk-gateway"
]["compiled"]
LISTED = sorted(COMPILED["modules"])


@pytest.fixture
def kind(pytestconfig: pytest.Config) -> str:
    """The kind of build that is tested."""
    return "compiled" if pytestconfig.getoption("--compiled") else "interpreted"


def is_compiled(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    return isinstance(spec.loader, ExtensionFileLoader)


@pytest.mark.parametrize("path", LISTED)
def test_a_listed_module_is_compiled_if_the_build_is(path: str, kind: str) -> None:
    """No module has fallen back, and none is compiled by accident."""
    module = path.removesuffix(".py").replace("/", ".")
    assert is_compiled(module) == (kind == "compiled")


def test_the_list_has_each_module_once_in_order() -> None:
    assert COMPILED["modules"] == sorted(set(COMPILED["modules"]))


@pytest.mark.parametrize("path", LISTED)
def test_no_listed_module_says_that_it_is_not_compiled(path: str) -> None:
    assert "Not compiled:" not in (ROOT / path).read_text(encoding="utf-8")


def test_processes_that_tests_start_run_the_same_build(kind: str) -> None:
    """The command and `python -m gateway` say which build it is, also in the folder of the checkout."""
    commands = ([str(Path(sys.executable).with_name("blnk-gateway"))], [sys.executable, "-m", "gateway"])
    for command in commands:
        done = subprocess.run(
            [*command, "--version"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout.endswith(f" ({kind})\n")


async def test_the_start_line_and_the_metrics_say_which_build_runs(gateway: Running, kind: str) -> None:
    lines = map(json.loads, (await gateway.logged("listening")).splitlines())
    started = next(line for line in lines if line["event"] == "listening")
    page = gateway.gateway.metrics.exposition("")[0].decode()
    assert started["build"] == build_kind() == kind
    assert f"blnk_gateway_build_info{{build={json.dumps(kind)}," in page


async def test_the_process_is_measured_in_either_build(gateway: Running) -> None:
    """The page has the metrics of the process: a compiled module has no other process."""
    page, _ = gateway.gateway.metrics.exposition("")
    named = {line.split()[2] for line in page.decode().splitlines() if line.startswith("# TYPE process_")}
    assert named == {
        "process_cpu_seconds_total",
        "process_max_fds",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
    }
