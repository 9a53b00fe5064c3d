"""Make the tests' virtual environment and measure shared limits in it: `python3 -m tests.limits`."""

from __future__ import annotations

import shutil
import sys

from tests.tool import run_tool


def main() -> int:
    installed = shutil.which("redis-server") or shutil.which("valkey-server")
    return run_tool("limits", () if installed else ("redis-server",))


if __name__ == "__main__":
    sys.exit(main())
