"""Finds the members of a JSON object whose names decide where the stamp goes and who wrote it.

Rules kept here:
- Core's decoder (Go's encoding/json) folds member names, so another spelling of a reserved name is refused.
- It merges repeated members, so of a reserved name that is sent twice only the last member is kept.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.stamping import json_text
from gateway.stamping.edits import Edit, removed
from gateway.stamping.errors import BadBodyError
from gateway.stamping.json_text import Member, Span

STAMP_NAME: Final = "BLNK_GENERATED_BY"
STAMP: Final = b'"%b"' % STAMP_NAME.encode()
MAX_REPEATED: Final = 1_000
"""Members of reserved names that one object may have; all but the last of each are removed."""

# A name of ASCII letters and underscores that is written with escapes has one of these.
_ESCAPED_LETTER: Final = re.compile(rb"\\u00[4-7]")


@dataclass(frozen=True, slots=True)
class ReservedNames:
    """The reserved names of one kind of object, and the bytes that show that one of them may be there.

    `folds` says whether Core also takes other spellings of them.
    """

    names: frozenset[str]
    folds: bool
    hints: tuple[bytes, ...]

    def holds(self, name: str) -> bool:
        """Return whether `name` is reserved. Raises BadBodyError for another spelling of a reserved name."""
        if name in self.names:
            return True
        if self.folds and _folded(name) in self.names:
            raise BadBodyError("Ambiguous spelling of a reserved field")
        return False

    def may_occur(self, text: bytes) -> bool:
        """Return whether a name in `text` can be reserved, or another spelling of a reserved name."""
        if has_escaped_letter(text):
            return True
        lowered = text.lower() if self.folds else text
        return any(hint in lowered for hint in self.hints)


_META_DATA: Final = b"meta_data"
# No rune beyond ASCII folds to a letter of meta_data; U+017F folds to an s.
OF_RECORD: Final = ReservedNames(frozenset({"meta_data"}), folds=True, hints=(_META_DATA,))
OF_BATCH: Final = ReservedNames(
    frozenset({"transactions", "meta_data"}),
    folds=True,
    hints=(b"transactions", _META_DATA, "\u017f".encode(), rb"\u017f"),
)
# Core takes names in meta_data only as they are spelled.
OF_META_DATA: Final = ReservedNames(frozenset({STAMP_NAME}), folds=False, hints=(STAMP,))


class Found(NamedTuple):
    """The reserved members of an object, and whether it has others."""

    members: list[Member]
    others: bool


def find(text: bytes, reserved: ReservedNames) -> Found:
    """Return the reserved members of the small object `text`."""
    members = json_text.members(text)
    found = [member for member in members if reserved.holds(member.name)]
    _bound(found)
    return Found(found, others=len(members) > len(found))


def find_in_steps(text: bytes, span: Span, reserved: ReservedNames) -> Generator[None, None, Found]:
    """Return the reserved members of an object of a text that was checked."""
    parts = yield from json_text.parts_in_steps(text, span)
    found: list[Member] = []
    for part in parts.spans:
        if json_text.is_large(part):
            members = [(yield from json_text.member_in_steps(text, part))]
        elif reserved.may_occur(some := text[part.start : part.end]):
            members = json_text.members(b"{%b}" % some, part.start - 1)
        else:
            members = []
        if members and part.start > span.start + 1:
            members[0] = members[0]._replace(lead=part.start - 1)
        if members and part.end < span.end - 1:
            members[-1] = members[-1]._replace(after=part.end + 1)
        found += [member for member in members if reserved.holds(member.name)]
        _bound(found)
        yield
    return Found(found, others=parts.elements > len(found))


def keep_last(text: bytes, members: list[Member], name: str) -> tuple[Span | None, list[Edit]]:
    """Return the value of the last member called `name`, and the edits that remove all repeated members."""
    last = {member.name: member for member in members}
    repeated = [member for member in members if last[member.name] is not member]
    return last[name].value if name in last else None, removed(text, repeated)


def has_escaped_letter(text: bytes) -> bool:
    """Return whether an ASCII letter or an underscore may be written as an escape in `text`."""
    return text.find(b"\\") >= 0 and _ESCAPED_LETTER.search(text) is not None


def spellings(text: bytes) -> int:
    """Return how often meta_data, in any spelling, stands in a text that has no escaped letter."""
    return text.lower().count(_META_DATA)


def _bound(members: list[Member]) -> None:
    if len(members) > MAX_REPEATED:
        raise BadBodyError("Too many repetitions of a reserved field")


def _folded(name: str) -> str:
    """Return the name as encoding/json's foldName compares it, as far as ASCII names are concerned."""
    return name.replace("\u017f", "s").lower()
