"""The `blnk-gateway` command, also as `python -m gateway`.

Rules kept here:
- Ctrl-C while the program is still being loaded ends it without a traceback.
"""

from __future__ import annotations

import signal


def main() -> None:
    """Load what the command needs, and run it."""
    before = signal.getsignal(signal.SIGINT)
    # Where it is ignored, as in the background of a script, it stays so.
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from gateway.cli import main as run

    signal.signal(signal.SIGINT, before)
    run()


if __name__ == "__main__":
    main()
