"""A phase of a connection, with the time that it may take.

Not compiled: mypyc makes no enum whose members have an `__init__`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any


class TimedPhase(enum.Enum):
    """A phase of a connection, and the seconds that it may take by the limits of its side."""

    def __init__(self, label: str, seconds: Callable[[Any], float]) -> None:
        self.label = label
        self.seconds = seconds
        self.number = len(type(self).__members__)


def seconds_of(phases: type[TimedPhase], limits: object) -> tuple[float, ...]:
    """Return how many seconds each phase may take, by its number."""
    return tuple(phase.seconds(limits) for phase in phases)
