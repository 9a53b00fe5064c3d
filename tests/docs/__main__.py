"""Make the tests' virtual environment and write the generated tables: `python3 -m tests.docs`."""

from __future__ import annotations

import sys

from tests.tool import run_tool

if __name__ == "__main__":
    sys.exit(run_tool("docs", ()))
