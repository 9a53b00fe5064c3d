"""The refusal of a page of the private listeners."""

from __future__ import annotations

from gateway.errors import Code


class PageError(Exception):
    """The page cannot be shown; the code and the text say why, by default in the words of the catalogue."""

    def __init__(self, code: Code, message: str = "") -> None:
        super().__init__(message or code.message)
        self.code = code
