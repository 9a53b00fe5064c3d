"""Defines the exit codes of every command."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """The result of a command for the shell that ran it."""

    OK = 0
    """Success, or yes."""
    FAILED = 1
    """Failure, or no: a wrong configuration, a taken port, not ready, cut requests."""
    USAGE = 2
    """A wrong option or argument, or a file that cannot be read."""
    DEPENDENCY = 3
    """Core, the key store or the gateway itself is unreachable, or unsafe to use."""
