"""Make the tests' virtual environment and run the benchmark in it: `python3 -m tests.bench`."""

from __future__ import annotations

import sys

from tests.bench.processes import find
from tests.tool import refuse, run_tool

PACKAGES = {"nginx": "nginx-light", "wrk": "wrk"}  # program -> Debian package


def main() -> int:
    if sys.platform != "linux":
        return refuse("bench", "needs Linux, for /proc and CPU affinity")
    return run_tool("bench", [package for program, package in PACKAGES.items() if find(program) is None])


if __name__ == "__main__":
    sys.exit(main())
