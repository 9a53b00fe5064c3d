"""aiohttp's C parser of requests, with the gateway's settings.

Rules kept here:
- The parser is never paused. It calls `resume_reading` from inside its own callback, so it gets a stand-in
  that does nothing, and the body is taken from its payload after each segment.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp.http_parser import HttpRequestParser

from gateway.wire.request_heads import MAX_HEADERS, MAX_LINE

# Larger than any segment, so that the parser never pauses inside one.
_NO_PAUSE: Final = 1 << 30
Parsed = tuple[Any, Any]
"""The parser's message, and its payload; aiohttp gives neither a documented type."""


class _NotPausable:
    """The protocol that the parser is given."""

    _reading_paused = False
    connected = True

    def pause_reading(self) -> None:
        """Do nothing: the body is taken after each segment."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Do nothing: nothing was paused."""


def new_parser(loop: asyncio.AbstractEventLoop) -> Any:
    """Return a parser for the requests of one connection."""
    return HttpRequestParser(
        _NotPausable(),  # type: ignore[arg-type]  # the parser and its payloads use no more of it
        loop,
        _NO_PAUSE,
        max_line_size=MAX_LINE,
        max_headers=MAX_HEADERS,
        max_field_size=MAX_LINE,
        auto_decompress=False,
    )


def bytes_left(parsed: Parsed | None) -> int:
    """Return how many bytes are to come of a body that is framed by its length; 0 for any other."""
    if parsed is None or parsed[0].chunked:
        return 0
    message, payload = parsed
    return int(message.headers["Content-Length"]) - int(payload.total_bytes)
