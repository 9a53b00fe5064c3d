"""Write the snapshot of the public surface anew: `python3 -m tests.surface`."""

from __future__ import annotations

import sys

from tests.tool import run_tool

if __name__ == "__main__":
    sys.exit(run_tool("surface", ()))
