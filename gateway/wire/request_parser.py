"""Segments in, requests out.

Rules kept here:
- At most AT_ONCE requests are read at once: 8 KiB can hold 300, each of which takes forty times its bytes.
- What is read at once is judged whole: a good request is refused with a malformed one behind it.
- A head is read once it is whole. Of one that is not, each byte is checked once.
- Empty lines before a head count as its beginning, in its size and for its time.
- Bytes behind the last request of a connection are refused if they are read with it: they may be a body that
  the request does not announce. Later ones are not fed.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.wire.body_framing import NO_BODY, ChunkedBody, FramedBody, SizedBody
from gateway.wire.errors import BadFramingError, HeadTooLargeError
from gateway.wire.grammar import head_end
from gateway.wire.request_head import MAX_HEAD, RequestHead, check_begun, read_head

_CR: Final = 13
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)*")

AT_ONCE: Final = 8
"""The most requests that are read at once."""

Parsed = tuple[RequestHead, FramedBody]


class RequestReader:
    """Reads the requests of one connection."""

    __slots__ = ("_body", "_ended", "_held", "_skipped", "_unread")

    def __init__(self) -> None:
        # The body that comes, and what came of a line or a head that is not whole.
        self._body: FramedBody | None = None
        self._held = b""
        # Bytes of the empty lines before a head that is not whole.
        self._skipped = 0
        self._ended = False
        # What was fed behind AT_ONCE requests.
        self._unread = b""

    @property
    def held(self) -> int:
        """Bytes that are held of a head, or of the framing of a body, that is not whole."""
        return len(self._held)

    @property
    def head_begun(self) -> bool:
        """True if a part of a head has come, or an empty line before one."""
        return self._body is None and bool(self._held or self._skipped)

    def feed(self, data: bytes) -> list[Parsed]:
        """Return the requests whose heads end in `data`; their bodies hold what came of them.

        What `take_unread` returns then has to be fed again, before anything else. Raises BadFramingError or
        HeadTooLargeError; then nothing more may be fed.
        """
        new = len(self._held)
        text = self._held + data if new else data
        self._held = self._unread = b""
        requests: list[Parsed] = []
        at = 0
        while at < len(text):
            if self._body is not None:
                at = self._read_body(self._body, text, at, new)
                continue
            at = self._skip_empty_lines(text, at)
            if self._ended:
                if at < len(text):
                    raise BadFramingError
                break
            if len(requests) == AT_ONCE:
                self._unread = text[at:]
                break
            end = head_end(text, at, new)
            if end < 0:
                self._held = text[at:]
                check_begun(self._held, max(new - at, 0))
                break
            requests.append(self._begin(read_head(text[at:end])))
            at = end
        return requests

    def take_unread(self) -> bytes:
        """Return what was fed and was not read, because it is behind AT_ONCE requests."""
        unread, self._unread = self._unread, b""
        return unread

    def close(self) -> None:
        """Drop what is held; nothing may be fed any more."""
        self._body = None
        self._held = self._unread = b""

    def _skip_empty_lines(self, text: bytes, at: int) -> int:
        """Return the index behind the empty lines at `at` (RFC 9112 section 2.2)."""
        if text[at] != _CR:
            return at
        found = _EMPTY_LINES.match(text, at)
        end = at if found is None else found.end()
        self._skipped += end - at
        if self._skipped > MAX_HEAD:
            raise HeadTooLargeError
        return end

    def _begin(self, head: RequestHead) -> Parsed:
        self._skipped = 0
        self._ended = not head.keep_alive
        if head.length == 0:
            return head, NO_BODY
        self._body = ChunkedBody() if head.length is None else SizedBody(head.length)
        return head, self._body

    def _read_body(self, body: FramedBody, text: bytes, at: int, new: int) -> int:
        """Return the index behind what belongs to the body; what is not whole is held."""
        at = body.read(text, at, new)
        if body.complete:
            self._body = None
            return at
        self._held = text[at:]
        return len(text)
