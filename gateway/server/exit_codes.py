"""The one table of exit codes, for every command."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """What a command tells the shell that ran it."""

    OK = 0
    """It worked, or the answer is yes."""
    FAILED = 1
    """The answer is no: a problem in the configuration, a taken port, not ready, requests that were cut."""
    USAGE = 2
    """A wrong option or argument, or a file that cannot be read."""
    DEPENDENCY = 3
    """Core, the key store or the gateway itself is unreachable, or unsafe to work with."""
