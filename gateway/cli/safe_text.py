"""Texts that control no terminal: lines for people, and JSON.

Rules kept here:
- Every character that is not printable is escaped: controls (C0, C1), marks that change the direction of a
  text, and other invisible ones. Line feeds and tabs of a text for people stay.
- A character that the stream cannot encode is escaped. JSON for a stream that is not UTF-8 is ASCII: bytes of
  UTF-8 are controls in other encodings. It stays JSON of the same value.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Final

import msgspec

from gateway.policy.explanation import printable

# Printable ASCII is never looked at: most texts have nothing else.
_PERHAPS: Final = re.compile(r"[^\t\n -~]")
_PERHAPS_IN_JSON: Final = re.compile(r"[^\n -~]")
_UTF_8: Final = codecs.lookup("utf-8").name


def safe_text(text: str) -> str:
    """Return a text for people with what is not printable escaped as in Python."""
    return _PERHAPS.sub(lambda found: printable(found[0]), text)


def encodable(text: str, encoding: str) -> str:
    """Return a text for people with escapes in place of what the encoding has not."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


def safe_json(value: object, encoding: str, *, indent: int = 0) -> bytes:
    """Return a value as JSON, on one line or indented by so many blanks, with escapes such as `\\u009b`."""
    text = msgspec.json.encode(value)
    if indent:
        text = msgspec.json.format(text, indent=indent)
    utf_8 = codecs.lookup(encoding).name == _UTF_8
    return _PERHAPS_IN_JSON.sub(_escaped if utf_8 else _in_ascii, text.decode()).encode()


def _escaped(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else _in_ascii(found)


def _in_ascii(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]
