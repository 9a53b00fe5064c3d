"""Write the sections of `tests/README.md` that tools generate, each between two markers."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.running import ROOT

_PAGE = 110
_README = ROOT / "tests" / "README.md"


@dataclass(frozen=True, slots=True)
class Section:
    """A section under `heading` that `command` writes; its markers contain `name`."""

    name: str
    heading: str
    command: str

    def write(self, text: str, say: Callable[[str], None]) -> None:
        """Write into the README; if there is none, say so with `say`."""
        if _README.exists():
            self.write_into(_README, text)
        else:
            say(f"there is no {_README.relative_to(ROOT)} to write the table into")

    def text_in(self, file: Path) -> str:
        """Return what is between the markers of a file; empty if it has none."""
        _, _, rest = file.read_text(encoding="utf-8").partition(f"{self._begin}\n")
        return rest.partition(f"\n{self._end}")[0]

    @property
    def _begin(self) -> str:
        return f"<!-- {self.name}: begin, written by {self.command} -->"

    @property
    def _end(self) -> str:
        return f"<!-- {self.name}: end -->"

    def write_into(self, file: Path, text: str) -> None:
        """Write the text between the markers of a file; if it has none, add a section at its end."""
        begin, end = self._begin, self._end
        written = file.read_text()
        block = f"{begin}\n{text}\n{end}"
        before, begun, rest = written.partition(begin)
        _, ended, after = rest.partition(end)
        if begun and ended:
            file.write_text(before + block + after)
        else:
            file.write_text(f"{written.rstrip()}\n\n## {self.heading}\n\n{block}\n")


def paragraph(text: str) -> str:
    """Return the text wrapped to the width of the page."""
    return textwrap.fill(text, _PAGE, break_long_words=False, break_on_hyphens=False)
