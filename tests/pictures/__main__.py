"""Make the tests' virtual environment and the pictures of documents in it: `python3 -m tests.pictures`."""

from __future__ import annotations

import shutil
import sys

from tests.tool import run_tool


def main() -> int:
    has_browser = shutil.which("chromium") or shutil.which("chromium-browser")
    needs_browser = sys.argv[1:] != ["demo"]
    missing = () if has_browser or not needs_browser else ("chromium", "fonts-dejavu-core")
    return run_tool("pictures", missing)


if __name__ == "__main__":
    sys.exit(main())
