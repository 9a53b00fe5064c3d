"""Edits of a JSON body by place: every byte that no edit touches is sent as it was received."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from gateway.stamping.json_text import Member

Edit = tuple[int, int, bytes]
"""A place in the body, from and to, and the bytes that replace it."""

# Work of one step that takes next to no time for each edit.
_EDITS_AT_ONCE: Final = 1_000


def inserted(place: int, member: bytes, *, behind: bool) -> Edit:
    """Return the edit that adds a member at the end of an object; `behind` says whether it has others."""
    return place, place, b"," + member if behind else member


def removed(text: bytes, members: list[Member]) -> list[Edit]:
    """Return the edits that remove members.

    Each is removed with the comma before it; the first of an object with the comma behind it.
    """
    edits: list[Edit] = []
    gone = 0
    for member in members:
        start = max(member.lead, gone)
        gone = member.value.end if text[start : start + 1] == b"," else member.after
        edits.append((start, gone, b""))
    return edits


def pieces_of(body: bytes | memoryview, at: int, edits: list[Edit]) -> list[bytes | memoryview]:
    """Return what the body becomes, from `at` to the end of the last of the edits."""
    pieces: list[bytes | memoryview] = []
    for start, end, new in edits:
        pieces += body[at:start], new
        at = end
    return pieces


def pieces_in_steps(body: bytes, edits: list[Edit]) -> Generator[None, None, list[bytes | memoryview]]:
    """Return what the whole body becomes, in order; sorts the edits."""
    edits.sort()
    view, at = memoryview(body), 0
    pieces: list[bytes | memoryview] = []
    for first in range(0, len(edits), _EDITS_AT_ONCE):
        some = edits[first : first + _EDITS_AT_ONCE]
        pieces += pieces_of(view, at, some)
        at = some[-1][1]
        yield
    pieces.append(view[at:])
    return pieces
