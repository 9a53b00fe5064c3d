"""Parses request targets; a target that could be read in two ways is refused as ambiguous.

Rules kept here:
- A target is never repaired: the bytes matched are the bytes forwarded.
- Segments are percent-decoded once. Core decodes once too, and takes an encoded slash for a separator.
- A target that two parsers could read differently is refused: empty interior segments, `.` and `..`, an
  encoded slash, a backslash, control bytes, bad escapes, '#', bytes outside ASCII, any form but origin-form
  (RFC 9112 section 3.2.1).
- A trailing slash makes another path: its last segment is empty.
- The query is not checked, except for bytes that would end the request line.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.policy.values import Ambiguous, Target

# Visible ASCII but '#', '%', '?' and '\': nothing to decode, nothing to refuse.
_plain: Final = re.compile(r"/[!\"$&->@-\[\]-~]*").fullmatch
_not_visible_ascii: Final = re.compile(r"[^!-~]").search
_breaks_the_request_line: Final = re.compile(r"[\x00-\x20\x7f]").search
_bad_escape: Final = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_control: Final = re.compile(r"[\x00-\x1f\x7f]").search


def parse_target(raw: str) -> Target | Ambiguous:
    """Parse `raw`, a request target as text with one character for each byte."""
    path, _, query = raw.partition("?")
    if query and _breaks_the_request_line(query):
        return Ambiguous("control byte or blank in the query")
    if _plain(path) and "//" not in path and "/." not in path:
        return Target(raw, path, tuple(path[1:].split("/")), query)
    return _parse_unusual(raw, path, query)


def _parse_unusual(raw: str, path: str, query: str) -> Target | Ambiguous:
    if not path.startswith("/"):
        return Ambiguous("not in origin-form")
    if _not_visible_ascii(path):
        return Ambiguous("control byte, blank or byte outside ASCII in the path")
    if "\\" in path or "#" in path:
        return Ambiguous("backslash or '#' in the path")
    if _bad_escape(path):
        return Ambiguous("bad escape in the path")
    segments = tuple(map(_decode, path[1:].split("/")))
    if "" in segments[:-1]:
        return Ambiguous("empty segment")
    if "." in segments or ".." in segments:
        return Ambiguous("dot segment")
    if any("/" in segment or "\\" in segment for segment in segments):
        return Ambiguous("encoded slash or backslash")
    if any(map(_control, segments)):
        return Ambiguous("encoded control byte")
    return Target(raw, path, segments, query)


def _decode(segment: str) -> str:
    return unquote_to_bytes(segment).decode("utf-8", "surrogateescape")
