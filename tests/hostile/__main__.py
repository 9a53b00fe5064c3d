"""Make the tests' virtual environment and attack a gateway in it: `python3 -m tests.hostile`."""

from __future__ import annotations

import shutil
import sys

from tests.tool import refuse, run_tool


def main() -> int:
    if sys.platform != "linux":
        return refuse("hostile", "needs Linux: it reads /proc, and calls from 127.0.0.2 and others")
    installed = shutil.which("redis-server") or shutil.which("valkey-server")
    return run_tool("hostile", () if installed else ("redis-server",))


if __name__ == "__main__":
    sys.exit(main())
