"""Tables can be read in the source and on the page."""

from __future__ import annotations

from tests.bench.tables import Column, markdown


def test_cells_are_as_wide_as_their_column() -> None:
    """Text is aligned to the left, figures to the right, in the source as on the page."""
    columns = [Column("name", is_text=True), Column("us")]
    assert list(markdown(columns, [["a longer name", "1.0"], ["b", "10.0"]])) == [
        "| name          |   us |",
        "|---------------|-----:|",
        "| a longer name |  1.0 |",
        "| b             | 10.0 |",
    ]
