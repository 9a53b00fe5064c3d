"""What a signal does while the program is still being loaded.

Rules kept here:
- Nothing that takes time is imported.
- `serve` ends on SIGTERM and Ctrl-C as it does later, with 0. It sets handlers of its own, for a process with
  the id 1, as in a container, has no default ones (pid_namespaces(7)).
- SIGHUP, which asks `serve` to read its configuration, does not end it: the configuration is read anyway.
- Any other verb ends on Ctrl-C without a traceback, and on SIGHUP, as when its terminal is closed.
- What is ignored, as Ctrl-C is in the background of a script, stays so.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn


@contextlib.contextmanager
def loading(arguments: Sequence[str]) -> Iterator[None]:
    """Handle signals while what `arguments` ask for, a verb and its options, is loaded."""
    if arguments[:1] == ["serve"]:
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _end)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # They stay until it serves.
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before)


def _end(_: int, __: FrameType | None) -> NoReturn:
    # Nothing was begun. An exception could be lost in the middle of an import.
    os._exit(0)
