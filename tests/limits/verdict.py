"""The bound on what a shared limit lets through."""

from __future__ import annotations

TOLERANCE = 0.05
"""The part of the limit by which the rate of a whole run may differ from it."""
SETTLED_SECONDS = 1.2
"""The time after which the burst of a new key is used up: twice the limit passes in the first second."""
