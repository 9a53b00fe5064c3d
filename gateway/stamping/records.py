"""The edits that stamp one record: its `meta_data` gets the caller's key id and loses any other stamp.

A record is what a route creates or changes in Core: the whole body, or an item of a batch.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Final

from gateway.policy.routes import Stamp
from gateway.stamping import json_text
from gateway.stamping.decoders import RECORD
from gateway.stamping.edits import Edit, inserted, removed
from gateway.stamping.errors import BadBodyError
from gateway.stamping.json_text import Span
from gateway.stamping.reserved_names import (
    OF_META_DATA,
    OF_RECORD,
    STAMP,
    Found,
    find,
    find_in_steps,
    has_escaped_letter,
    keep_last,
    spellings,
)

_META_DATA: Final = b'"meta_data"'
_COLON: Final = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")


def edit_record(text: bytes, at: int, how: Stamp, member: bytes) -> list[Edit]:
    """Return the edits of a small record; `member` is the stamp, `at` is added to each place."""
    text = json_text.readable(text)
    edits = _edit_plain(text, at, how, member)
    if edits is not None:
        return edits
    found = find(text, OF_RECORD)
    span, edits = keep_last(text, found.members, "meta_data")
    if span is None:
        edits = _add_meta_data(text, 0, how, member)
    else:
        edits += _edit_meta_data(text[span.start : span.end], span.start, how, member)
    return [(at + start, at + end, new) for start, end, new in edits]


def edit_plain_record(text: bytes, how: Stamp, member: bytes) -> list[Edit] | None:
    """Return what `edit_record` does, without looking at each name; None if a name has to be looked at."""
    return _edit_plain(json_text.readable(text), 0, how, member)


def _edit_plain(text: bytes, at: int, how: Stamp, member: bytes) -> list[Edit] | None:
    """Return the edits of a readable record whose one reserved name, if any, is meta_data; else None."""
    value = bytes(RECORD.decode(text).meta_data)
    if has_escaped_letter(text) or value.find(STAMP) >= 0:
        return None
    if not value:
        return None if spellings(text) else _add_meta_data(text, at, how, member)
    start = _behind_first_name(text)
    # The first `"meta_data"` may be a text, or the name of something else. Then no colon follows, or other
    # bytes, or there is another spelling around them.
    if start is None or not text.startswith(value, start):
        return None
    if spellings(text[:start] + text[start + len(value) :]) > 1:
        return None
    return _edit_unstamped(value, at + start, how, member)


def edit_record_in_steps(
    text: bytes, span: Span, how: Stamp, member: bytes
) -> Generator[None, None, list[Edit]]:
    """Return the edits of a record of any size, which is at `span` of a text that was checked."""
    found = yield from find_in_steps(text, span, OF_RECORD)
    value, edits = keep_last(text, found.members, "meta_data")
    if value is None:
        if how is Stamp.CREATE:
            edits.append(inserted(span.end - 1, b'"meta_data":{%b}' % member, behind=found.others))
    elif not json_text.is_large(value):
        edits += _edit_meta_data(text[value.start : value.end], value.start, how, member)
    elif text[value.start : value.start + 1] != b"{":
        raise BadBodyError("meta_data must be a JSON object")
    else:
        stamps = yield from find_in_steps(text, value, OF_META_DATA)
        edits += _replace_stamps(text, value, stamps, how, member)
    return edits


def _add_meta_data(text: bytes, at: int, how: Stamp, member: bytes) -> list[Edit]:
    """Return the edits of a record without meta_data; a record without a quote has no member at all."""
    if how is not Stamp.CREATE:
        return []
    return [inserted(at + text.rindex(b"}"), b'"meta_data":{%b}' % member, behind=b'"' in text)]


def _edit_meta_data(value: bytes, at: int, how: Stamp, member: bytes) -> list[Edit]:
    """Return the edits of a small meta_data that was sent."""
    if not value.startswith(b"{") or (value.find(STAMP) < 0 and not has_escaped_letter(value)):
        return _edit_unstamped(value, at, how, member)
    stamps = find(value, OF_META_DATA)
    edits = _replace_stamps(value, Span(0, len(value)), stamps, how, member)
    return [(at + start, at + end, new) for start, end, new in edits]


def _replace_stamps(text: bytes, meta_data: Span, stamps: Found, how: Stamp, member: bytes) -> list[Edit]:
    """Return the edits that remove the client's stamps and add the caller's."""
    edits = removed(text, stamps.members)
    if how is not Stamp.MERGE:
        edits.append(inserted(meta_data.end - 1, member, behind=stamps.others))
    return edits


def _edit_unstamped(value: bytes, at: int, how: Stamp, member: bytes) -> list[Edit]:
    """Return the edits of a meta_data that was sent, and that holds no stamp."""
    if value == b"null":
        return [(at, at + len(value), b"{%b}" % member)] if how is Stamp.CREATE else []
    if not value.startswith(b"{"):
        raise BadBodyError("meta_data must be a JSON object")
    if how is Stamp.MERGE:
        return []
    return [inserted(at + len(value) - 1, member, behind=value.find(b'"') >= 0)]


def _behind_first_name(text: bytes) -> int | None:
    """Return where the value behind the first `"meta_data"` begins; None if no colon follows."""
    match = _COLON.match(text, text.index(_META_DATA) + len(_META_DATA))
    return None if match is None else match.end()
