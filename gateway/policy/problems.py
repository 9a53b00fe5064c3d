"""One thing that is wrong with a file or an environment variable: where it is, and what to write instead."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Problem:
    """One line of a report to the author of a file.

    `line` counts from 1; 0 means the source as a whole. `source` is the file or the environment variable.
    It is empty while the reader of one file collects its problems.
    """

    line: int
    text: str
    source: str = ""

    def in_source(self, source: str) -> Problem:
        """Return the same problem with the name of its file or variable."""
        return replace(self, source=source)

    def __str__(self) -> str:
        """Return `gateway.yaml:12: text`, the form that editors and terminals link."""
        return f"{self.source}:{self.line}: {self.text}" if self.line else f"{self.source}: {self.text}"
