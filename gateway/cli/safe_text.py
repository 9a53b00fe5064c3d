"""Texts that control no terminal: lines for people, and JSON.

Rules kept here:
- Every character that is not printable is escaped: controls (C0, C1), marks that change the direction of a
  text, and other invisible ones. Line feeds and tabs of a text for people stay.
- JSON stays JSON of the same value, whatever the encoding of the stream is.
"""

from __future__ import annotations

import json
import re
from typing import Final

import msgspec

from gateway.policy.explanation import printable

# Printable ASCII is never looked at: most texts have nothing else.
_PERHAPS: Final = re.compile(r"[^\t\n -~]")
_PERHAPS_IN_JSON: Final = re.compile(r"[^\n -~]")


def safe_text(text: str) -> str:
    """Return a text for people with what is not printable escaped as in Python."""
    return _PERHAPS.sub(lambda found: printable(found[0]), text)


def safe_json(value: object, *, indent: int = 0) -> bytes:
    """Return a value as JSON, on one line or indented by so many blanks, with escapes such as `\\u009b`."""
    text = msgspec.json.encode(value)
    if indent:
        text = msgspec.json.format(text, indent=indent)
    return _PERHAPS_IN_JSON.sub(_escaped, text.decode()).encode()


def _escaped(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]
