"""Write the generated tables into `deploy/reference.md`; runs in the tests' environment."""

from __future__ import annotations

import sys

from tests.docs.tables import REFERENCE, TABLES


def main() -> int:
    for table in TABLES:
        table.section.write_into(REFERENCE, table.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
