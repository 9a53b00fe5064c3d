"""Tools write their tables between the markers of a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sections import Section, paragraph

SECTION = Section("lags", "How long", "python3 -m tests.lags")
WRITTEN = """# T

## How long

<!-- lags: begin, written by python3 -m tests.lags -->
{}
<!-- lags: end -->
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# T\n", WRITTEN.format("new")),
        (WRITTEN.format("old") + "\n## More\n", WRITTEN.format("new") + "\n## More\n"),
        (WRITTEN.format("new"), WRITTEN.format("new")),
    ],
    ids=["no section yet", "an older table", "the same table"],
)
def test_the_table_is_written_between_its_markers(tmp_path: Path, before: str, after: str) -> None:
    """A missing section is added with both markers; nothing else in the file changes."""
    file = tmp_path / "README.md"
    file.write_text(before)
    SECTION.write_into(file, "new")
    assert file.read_text() == after


def test_a_paragraph_fits_the_page() -> None:
    """No line is longer than the page, and no word is lost or broken."""
    text = " ".join(f"word-{number}" for number in range(100))
    lines = paragraph(text).splitlines()
    assert [line for line in lines if len(line) > 110] == []
    assert " ".join(lines) == text
