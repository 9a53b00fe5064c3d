"""Breaks lines so that they fit a terminal, and so that a shell joins them again.

Rules kept here:
- A word without a place to break stays in one line.
- A body is broken only between the members of its JSON, where line breaks have no meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_BREAKS: Final = re.compile(r'(?<=,)(?=["{\[])|(?<=:)(?=\{)')
_CONTINUED: Final = " \\"


def command_lines(words: Iterable[str], width: int) -> list[str]:
    """Return a shell command of these words as lines of at most `width` characters."""
    lines = [""]
    for word in words:
        room = width - len(_CONTINUED)
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines[-1] += _CONTINUED
            lines.append("")
        first, *more = json_lines(word, room)
        lines[-1] += f" {first}" if lines[-1] else first
        lines += more
    return lines


def json_lines(text: str, width: int) -> list[str]:
    """Return compact JSON, or a text with JSON in it, as lines of at most `width` characters."""
    lines = [""]
    for part in _BREAKS.split(text):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return lines
