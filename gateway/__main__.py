"""Runs the `blnk-gateway` command, also as `python -m gateway`."""

from __future__ import annotations

import sys

from gateway.server.start_signals import SignalsWhileLoading


def main() -> None:
    """Load the command, and run it."""
    with SignalsWhileLoading(sys.argv[1:]):
        from gateway.cli import main as run
    run()


if __name__ == "__main__":
    main()
