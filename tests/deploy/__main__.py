"""Write the files of the chart that follow other files: `python3 -m tests.deploy`."""

from __future__ import annotations

import sys

from tests.tool import run_tool

if __name__ == "__main__":
    sys.exit(run_tool("deploy", ()))
