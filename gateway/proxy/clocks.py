"""The clocks that requests are measured by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clocks:
    """The time: `unix` in Unix seconds, `monotonic` in seconds that never step."""

    unix: Callable[[], float]
    monotonic: Callable[[], float]
