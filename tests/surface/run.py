"""Write the snapshot of the public surface anew, and print what differs from the last one."""

from __future__ import annotations

import sys

from tests.surface.snapshot import SNAPSHOT, compare, public_surface, read_snapshot, written


def main() -> int:
    surface = public_surface()
    sys.stdout.write(compare(read_snapshot(), surface).text)
    SNAPSHOT.write_text(written(surface), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
