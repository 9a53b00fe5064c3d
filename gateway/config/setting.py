"""Describes one setting: how it is parsed, what it means, and its default or an example."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.config.values import Raw
from gateway.policy.report_only import KeyDates

_LINK: Final = re.compile(r"\[([^]]+)\]\([^)]+\)")


@dataclass(frozen=True, slots=True)
class Setting:
    """Describes one setting; a setting with an example has no default and must be given.

    `doc` is Markdown for the page of settings: a link in it is relative to the folder of that page.
    """

    parse: Callable[[Raw], Any]
    doc: str
    example: str
    default: Any

    @property
    def plain_doc(self) -> str:
        """Return the meaning without the addresses of links, for readers who are elsewhere."""
        return _LINK.sub(r"\1", self.doc)

    @property
    def many(self) -> bool:
        """Return True for a list."""
        return isinstance(self.default, tuple)

    @property
    def mapped(self) -> bool:
        """Return True for a mapping; its parser gets `key=value` texts."""
        return isinstance(self.default, KeyDates)


def described(parse: Callable[[Raw], Any], doc: str, example: str = "") -> Mapping[str, Any]:
    """Return the metadata of a field that is a setting."""
    return {"parse": parse, "doc": doc, "example": example}
