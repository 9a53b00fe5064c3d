"""Describes one setting: how it is parsed, what it means, and its default or an example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.config.values import Raw
from gateway.policy.report_only import KeyDates


@dataclass(frozen=True, slots=True)
class Setting:
    """Describes one setting; a setting with an example has no default and must be given."""

    parse: Callable[[Raw], Any]
    doc: str
    example: str
    default: Any

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
