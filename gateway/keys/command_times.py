"""Times and failures of a key store's commands, by their kind."""

from __future__ import annotations

import enum
from typing import Final

from gateway.durations import Durations

_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class CommandKind(enum.Enum):
    """The purpose of a command."""

    LOOK_UP = "look_up"
    """Read the records of keys that clients sent."""
    CHANGE = "change"
    """Change records: all commands of one change together, acknowledgements of replicas included."""
    FOLLOW = "follow"
    """Read the changes."""


class CommandTimes:
    """The commands of one kind: how long the responses took, and how many commands failed."""

    def __init__(self) -> None:
        self.responses = Durations(_BOUNDS)
        self.failures = 0


class StoreTimes:
    """The commands of a store by kind."""

    def __init__(self) -> None:
        self.by_kind: dict[CommandKind, CommandTimes] = {kind: CommandTimes() for kind in CommandKind}

    def responded(self, kind: CommandKind, seconds: float) -> None:
        """Count a command that the store responded to."""
        self.by_kind[kind].responses.add(seconds)

    def failed(self, kind: CommandKind) -> None:
        """Count a command that failed."""
        self.by_kind[kind].failures += 1
