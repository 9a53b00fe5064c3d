"""Files are read whole, but at most one byte more than they may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.bounded_file import read_bounded
from gateway.config.errors import UnreadableConfigError
from gateway.config.yaml_document import MAX_BYTES
from gateway.policy.problems import Problem


def test_one_byte_more_than_the_bound_is_read(tmp_path: Path) -> None:
    """One more byte is read, so that the caller can tell that the file is too large."""
    file = tmp_path / "gateway.yaml"
    file.write_bytes(b"x" * (MAX_BYTES + 100))
    assert len(read_bounded(file)) == MAX_BYTES + 1


@pytest.mark.parametrize(
    ("name", "reason", "absent"),
    [
        ("missing.yaml", "No such file or directory", True),
        ("", "Is a directory", False),
        ("\0", "this is not a path", False),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    tmp_path: Path, name: str, reason: str, absent: bool
) -> None:
    path = tmp_path / name
    with pytest.raises(UnreadableConfigError) as refused:
        read_bounded(path)
    assert refused.value.problems == (Problem(0, f"cannot be read: {reason}", str(path)),)
    assert refused.value.absent is absent
