"""The `blnk-gateway` command, also as `python -m gateway`."""

from __future__ import annotations

import sys

from gateway.server.start_signals import Loading


def main() -> None:
    """Load what the command needs, and run it."""
    with Loading(sys.argv[1:]):
        from gateway.cli import main as run
    run()


if __name__ == "__main__":
    main()
