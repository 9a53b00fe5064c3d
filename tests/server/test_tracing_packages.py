"""`tracing.endpoint` without the optional packages that it needs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gateway.server.exit_codes import Exit
from tests.running import MASTER_KEY, ROOT

FILE = str(ROOT / "gateway.yaml")
MISSING = (
    "tracing.endpoint needs the packages opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http in the "
    "gateway's environment: python3 -m pip --python .venv install opentelemetry-sdk "
    "opentelemetry-exporter-otlp-proto-http"
)
WITHOUT = "import sys; sys.modules[{package!r}] = None; from gateway.__main__ import main; main()"
PACKAGES = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def run(package: str, *command: str, endpoint: str = "http://127.0.0.1:1/v1/traces") -> tuple[int, str]:
    """Run a command in a Python that lacks a package; return its exit code and what it prints."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BLNK_")}
    environ |= {
        "BLNK_MASTER_KEY": MASTER_KEY,
        "BLNK_GATEWAY_KEYS__STORE": "memory://",
        "BLNK_GATEWAY_LISTEN": "127.0.0.1:0",
        "BLNK_GATEWAY_ADMIN": "127.0.0.1:0",
        "BLNK_GATEWAY_TRACING__ENDPOINT": endpoint,
    }
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(package=package), *command, "--config", FILE],
        env=environ,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_serve_names_the_missing_packages(package: str) -> None:
    assert run(package, "serve") == (Exit.USAGE, f"blnk-gateway: {MISSING}\n")


@pytest.mark.parametrize("package", PACKAGES)
def test_check_names_the_missing_packages(package: str) -> None:
    """As all that depends on the machine, with --env only: a file may be for another one."""
    assert run(package, "check", "--env") == (Exit.FAILED, f"{FILE}: {MISSING}\n")
    assert run(package, "check")[0] == Exit.OK
