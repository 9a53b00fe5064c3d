"""What a signal does while the program is still being loaded.

Rules kept here:
- Nothing that takes time is imported, not even `typing`: until this runs, a signal ends the process.
- `serve` ends on SIGTERM and Ctrl-C as it does later, with 0. It sets handlers of its own, for a process with
  the id 1, as in a container, has no default ones (pid_namespaces(7)).
- SIGHUP, which asks `serve` to read its configuration, does not end it: the configuration is read anyway.
- Any other command ends on Ctrl-C without a traceback, and on SIGHUP, as when its terminal is closed.
- What is ignored, as Ctrl-C is in the background of a script, stays so.
"""

from __future__ import annotations

import os
import signal


class Loading:
    """Handles signals while what `arguments` ask for, a command and its options, is loaded."""

    def __init__(self, arguments: list[str]) -> None:
        self._serves = arguments[:1] == ["serve"]
        self._before = signal.getsignal(signal.SIGINT)

    def __enter__(self) -> None:
        """Begin; what `serve` sets stays until it serves."""
        if self._serves:
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, _end)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        elif self._before is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __exit__(self, *_: object) -> None:
        """Let Ctrl-C end any other command as Python does."""
        if not self._serves:
            signal.signal(signal.SIGINT, self._before)


def _end(_: int, __: object) -> None:
    # Nothing was begun. An exception could be lost in the middle of an import.
    os._exit(0)
