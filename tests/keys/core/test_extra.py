"""`keys.authority: core` without the optional packages that it needs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gateway.server.exit_codes import Exit
from tests.keys.records import KEY_ID
from tests.running import MASTER_KEY, ROOT

MISSING = (
    "keys.authority: core needs the packages asyncpg and bcrypt in the gateway's environment: "
    "python3 -m pip --python .venv install asyncpg bcrypt"
)
WITHOUT = "import sys; sys.modules[{package!r}] = None; from gateway.__main__ import main; main()"

ENVIRON = {
    "BLNK_MASTER_KEY": MASTER_KEY,
    "BLNK_GATEWAY_KEYS__STORE": "memory://",
    "BLNK_GATEWAY_LISTEN": "127.0.0.1:0",
    "BLNK_GATEWAY_ADMIN": "127.0.0.1:0",
}


def run(package: str, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a Python that lacks a package."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BLNK_")}
    environment |= {f"BLNK_GATEWAY_KEYS__{name}": value for name, value in settings.items()}
    return subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT.format(package=package),
            *command,
            "--config",
            str(ROOT / "gateway.yaml"),
        ],
        env=ENVIRON | environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("package", ["asyncpg", "bcrypt"])
def test_serve_names_the_missing_packages(package: str) -> None:
    """The command prints one line and exits with 2; without `authority: core` it needs neither package."""
    ended = run(package, "serve", AUTHORITY="core", CORE_DATABASE="postgres://u:pass-word@127.0.0.1:1/blnk")
    assert (ended.returncode, ended.stderr) == (
        Exit.USAGE,
        f"blnk-gateway: {MISSING}\n",
    )


@pytest.mark.parametrize("package", ["asyncpg", "bcrypt"])
def test_check_names_the_missing_packages(package: str) -> None:
    settings = {"AUTHORITY": "core", "CORE_DATABASE": "postgres://u:pass-word@127.0.0.1:1/blnk"}
    ended = run(package, "check", "--env", **settings)
    assert (ended.returncode, ended.stdout) == (Exit.FAILED, f"{ROOT / 'gateway.yaml'}: {MISSING}\n")
    assert run(package, "check", **settings).returncode == Exit.OK


def test_a_command_names_the_missing_packages() -> None:
    """The command names them before it connects to anything, also before it connects to the store."""
    settings = {
        "AUTHORITY": "core",
        "CORE_DATABASE": "postgres://u:pass-word@127.0.0.1:1/blnk",
        "STORE": "redis://127.0.0.1:1/0",
    }
    ended = run("asyncpg", "keys", "revoke", KEY_ID + "1", **settings)
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        Exit.USAGE,
        "",
        f"{MISSING}\n",
    )
