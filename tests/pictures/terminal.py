"""Draws lines of a terminal as SVG.

Rules kept here:
- The picture follows the reader's light or dark mode, and has no script, no font and no link to elsewhere.
- Every character is text, so that a reader can search and copy it.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final
from xml.etree import ElementTree as ET

from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

_FONT, _CHARACTER, _ROW = 13, 7.83, 19
_SIDE, _TOP = 16, 18
_STYLE: Final = """
    .page { fill: #f6f8fa; stroke: #d1d9e0 }
    text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace }
    text { fill: #1f2328; white-space: pre }
    .bold { font-weight: 600 } .dim { fill: #59636e } .green { fill: #116329 } .red { fill: #b3261e }
    @media (prefers-color-scheme: dark) {
      .page { fill: #151b23; stroke: #3d444d }
      text { fill: #f0f6fc } .dim { fill: #9198a1 } .green { fill: #57d364 } .red { fill: #ff8f86 }
    }
"""
_COLOURS: Final = {1: "red", 2: "green"}
"""The names of the terminal's colours; a program that uses another one has to add it, and its CSS."""
_SVG: Final = "{http://www.w3.org/2000/svg}"


def lines_of(printed: str) -> list[Text]:
    """Return what a program has printed on a terminal, line by line, with its styles."""
    return list(AnsiDecoder().decode(printed))


def drawn(lines: Sequence[Text], title: str) -> str:
    """Return the lines as SVG; `title` says what a reader who cannot see it has to know."""
    width = round(2 * _SIDE + _CHARACTER * max(len(line) for line in lines))
    height = 2 * _TOP + _ROW * len(lines)
    rows = [
        f'  <text x="{_SIDE}" y="{_TOP + _FONT + _ROW * number}">{_spans(line)}</text>'
        for number, line in enumerate(lines)
        if line.plain.strip()
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" aria-labelledby="title">',
            f'  <title id="title">{escape(title)}</title>',
            f"  <style>{_STYLE}  </style>",
            f'  <rect class="page" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6"/>',
            *rows,
            "</svg>\n",
        ]
    )


def text_of(picture: str) -> list[str]:
    """Return the lines of text that a picture shows."""
    return ["".join(line.itertext()) for line in ET.fromstring(picture).iter(f"{_SVG}text")]  # noqa: S314 - ours


def _spans(line: Text) -> str:
    return "".join(map(_span, line.render(Console(color_system=None, width=200))))


def _span(segment: Segment) -> str:
    style = segment.style
    names = []
    if style is not None:
        names = [name for name, has in (("bold", style.bold), ("dim", style.dim)) if has]
        names += [_COLOURS[style.color.number]] if style.color is not None and style.color.number else []
    text = escape(segment.text, quote=False)
    return f'<tspan class="{" ".join(names)}">{text}</tspan>' if names else text
