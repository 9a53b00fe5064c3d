"""Markdown tables that can also be read as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; text is aligned to the left, figures to the right."""

    title: str
    is_text: bool = False


def markdown(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table whose cells are padded to the width of their column."""
    cells = [[column.title for column in columns], *(list(row) for row in rows)]
    widths = [max(3, *(len(row[place]) for row in cells)) for place in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if column.is_text else cell.rjust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    def rule(column: Column, width: int) -> str:
        return "-" * (width + 2) if column.is_text else "-" * (width + 1) + ":"

    yield line(cells[0])
    yield f"|{'|'.join(map(rule, columns, widths))}|"
    yield from map(line, cells[1:])
