"""Prints lines for people: coloured on a terminal, plain text on a pipe.

Rules kept here:
- Lines are never wrapped, so that they can be copied.
- A character that the stream cannot encode is escaped, and one that is not printable.
"""

from __future__ import annotations

from gateway.cli.safe_text import encodable, safe_text

Part = tuple[str, str]
"""A text and its style, such as `bold red`; an empty style is plain."""


class Printer:
    """Prints lines on standard output."""

    def __init__(self) -> None:
        # Imported here, so that commands without colours do not load it.
        from rich.console import Console
        from rich.text import Text

        self._console = Console(highlight=False)
        self._text = Text

    def line(self, *parts: Part) -> None:
        """Print one line."""
        line = self._text()
        for text, style in parts:
            line.append(encodable(safe_text(text), self._console.encoding), style=style)
        self._console.print(line, soft_wrap=True)
