"""Write the files of the chart that follow other files."""

from __future__ import annotations

import sys

from tests.deploy.synced import CHART, expected


def main() -> int:
    for path, content in expected().items():
        file = CHART / path
        if file.read_text(encoding="utf-8") != content:
            file.write_text(content, encoding="utf-8")
            sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
