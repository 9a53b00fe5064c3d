"""Reads a file of ours whole, but never much more of it than such a file may hold."""

from __future__ import annotations

from pathlib import Path

from gateway.config.errors import UnreadableConfigError
from gateway.config.yaml_document import MAX_BYTES
from gateway.policy.problems import Problem


def read_bounded(path: Path) -> bytes:
    """Return the bytes of the file; of a file over `MAX_BYTES` only the first `MAX_BYTES` + 1.

    Raises:
        UnreadableConfigError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "this is not a path"
        problem = Problem(0, f"cannot be read: {reason}", str(path))
        raise UnreadableConfigError((problem,), absent=isinstance(error, FileNotFoundError)) from None
