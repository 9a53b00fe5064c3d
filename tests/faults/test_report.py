"""Where the table of faults is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.report import write_into

SECTION = """# T

## Faults

<!-- faults: begin, written by python3 -m tests.faults -->
{}
<!-- faults: end -->
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# T\n", SECTION.format("new")),
        (SECTION.format("old") + "\n## More\n", SECTION.format("new") + "\n## More\n"),
        (SECTION.format("new"), SECTION.format("new")),
    ],
    ids=["no section yet", "an older table", "the same table"],
)
def test_the_table_stands_between_its_markers(tmp_path: Path, before: str, after: str) -> None:
    """A section with both markers is made where there is none; nothing else of the file changes."""
    file = tmp_path / "README.md"
    file.write_text(before)
    write_into(file, "new")
    assert file.read_text() == after
