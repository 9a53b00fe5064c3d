"""A second reading of request targets as Core reads them, and of the line of gateway.yaml that matches.

Slow and simple on purpose, over bytes: the gateway's own reading is compared with it.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from tests.test_matrix import LINES, Line

# net/url decodes these once; gin then splits the result at every slash.
_VISIBLE = re.compile(rb"[!-~]*")
# Go takes any byte in a query except those that end or break the request line.
_QUERY = re.compile(rb"[!-~\x80-\xff]*")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NEVER_IN_A_SEGMENT = re.compile(rb"[\x00-\x1f\x7f/\\]")


def segments_of(target: bytes) -> tuple[bytes, ...]:
    """Return the segments that Core routes by: the path decoded once, then split."""
    return tuple(unquote_to_bytes(target.partition(b"?")[0])[1:].split(b"/"))


def is_clear(target: bytes) -> bool:
    """Return whether every server reads the target alike, so that the gateway takes it."""
    path, _, query = target.partition(b"?")
    if not path.startswith(b"/") or not _VISIBLE.fullmatch(path) or not _QUERY.fullmatch(query):
        return False
    if b"#" in path or b"\\" in path or _BAD_ESCAPE.search(path):
        return False
    segments = [unquote_to_bytes(segment) for segment in path[1:].split(b"/")]
    if b"" in segments[:-1] or b"." in segments or b".." in segments:
        return False
    return not any(map(_NEVER_IN_A_SEGMENT.search, segments))


def line_of(method: str, segments: tuple[bytes, ...]) -> Line | None:
    """Return the line that Core's router would take: the first literal wins, from the left."""
    found = [line for line in LINES if line.method == method and _takes(line, segments)]
    return max(found, key=lambda line: [not part.startswith("{") for part in _parts(line)], default=None)


def _takes(line: Line, segments: tuple[bytes, ...]) -> bool:
    parts = _parts(line)
    return len(parts) == len(segments) and all(
        bool(segment) if part.startswith("{") else part.encode() == segment
        for part, segment in zip(parts, segments, strict=True)
    )


def _parts(line: Line) -> list[str]:
    return line.pattern[1:].split("/")
