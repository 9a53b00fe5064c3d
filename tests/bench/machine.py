"""The machine and the programs of a run, so that its figures can be judged later."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.processes import find

_VERSIONS = {
    "nginx": ("nginx", "-v"),
    "wrk": ("wrk", "-v"),
    "haproxy": ("haproxy", "-v"),
    "envoy": ("envoy", "--version"),
    "traefik": ("traefik", "version"),
    "caddy": ("caddy", "version"),
    "redis-server": ("redis-server", "--version"),
}
_PACKAGES = ("aiohttp", "uvloop", "redis", "hiredis", "msgspec")
_NUMBER = re.compile(r"\d+\.\d+(\.\d+)?")


def described() -> dict[str, Any]:
    """Return kernel, processor, Python, versions of programs and packages, and the load average now."""
    return {
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "programs": {name: found for name in _VERSIONS if (found := _version(name))},
        "packages": {name: version(name) for name in _PACKAGES},
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def summary(machine: dict[str, Any]) -> str:
    """Return one line about the machine."""
    return (
        f"{machine['kernel']}, {machine['cores']} cores of {machine['cpu']}, Python {machine['python']}, "
        f"load average {machine['load_average'][0]:.1f}"
    )


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.processor() or "unknown"


def _version(name: str) -> str:
    """Return the version that a program prints first; empty if it is not installed."""
    program, *options = _VERSIONS[name]
    path = find(program)
    if path is None:
        return ""
    told = subprocess.run([path, *options], check=False, capture_output=True, text=True)
    numbers = _NUMBER.search((told.stdout + told.stderr).partition("BoringSSL")[0])
    return numbers[0] if numbers else "unknown"
