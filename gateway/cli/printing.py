"""Lines for people: in colours on a terminal, plain text on a pipe.

Rules kept here:
- Lines are never broken: what is shown can be copied.
- What the stream cannot encode is shown escaped.
"""

from __future__ import annotations

Part = tuple[str, str]
"""A text and its style, such as `bold red`; an empty style is plain."""


class Printer:
    """Prints lines on standard output."""

    def __init__(self) -> None:
        # Imported here, so that no other command carries it.
        from rich.console import Console
        from rich.text import Text

        self._console = Console(highlight=False)
        self._text = Text

    def line(self, *parts: Part) -> None:
        """Print one line."""
        encoding = self._console.encoding
        line = self._text()
        for text, style in parts:
            line.append(text.encode(encoding, "backslashreplace").decode(encoding), style=style)
        self._console.print(line, soft_wrap=True)
