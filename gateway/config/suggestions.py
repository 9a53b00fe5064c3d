"""Suggests the word that the author of a file probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(word: str, known: Iterable[str]) -> str:
    """Return the known word that is most like `word`; empty if none is like it."""
    # Bounded: the comparison is quadratic in the length of a word, which comes from the file.
    return next(iter(difflib.get_close_matches(word[:64], known, n=1, cutoff=0.7)), "")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'stamp'?` with the closest known word; empty if none is like `word`."""
    close = closest(word, known)
    return f"; did you mean '{close}'?" if close else ""
