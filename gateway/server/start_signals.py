"""Handles signals while the program is being loaded.

Rules kept here:
- No import that takes time, not even `typing`: until this module runs, a signal has its default effect.
- `serve` exits with 0 on SIGTERM and Ctrl-C, as it does later. It installs handlers for that, because a
  process with the id 1, as in a container, has no default ones (pid_namespaces(7)).
- SIGHUP, which makes `serve` read its configuration again, does not end it: the configuration is about to be
  read anyway.
- Any other command ends on Ctrl-C without a traceback, and on SIGHUP, as when its terminal is closed.
- An ignored signal stays ignored, such as Ctrl-C for a command in the background of a script.
"""

from __future__ import annotations

import os
import signal


class SignalsWhileLoading:
    """Handles signals while the command that `arguments` name is loaded; `arguments` begin with its name."""

    def __init__(self, arguments: list[str]) -> None:
        self._serves = arguments[:1] == ["serve"]
        self._before = signal.getsignal(signal.SIGINT)

    def __enter__(self) -> None:
        """Install the handlers; those of `serve` stay until it installs its own."""
        if self._serves:
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, _exit)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        elif self._before is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __exit__(self, *_: object) -> None:
        """Let Ctrl-C end any other command as Python does."""
        if not self._serves:
            signal.signal(signal.SIGINT, self._before)


def _exit(_: int, __: object) -> None:
    # Nothing has begun that would need an end. An exception could be lost in the middle of an import.
    os._exit(0)
