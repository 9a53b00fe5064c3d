"""The edits that stamp a batch: each item of `transactions` is stamped as a record."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from gateway.policy.routes import Stamp
from gateway.stamping import json_text
from gateway.stamping.edits import Edit
from gateway.stamping.errors import BadBodyError, TooManyItemsError
from gateway.stamping.json_text import Span
from gateway.stamping.records import edit_record, edit_record_in_steps
from gateway.stamping.reserved_names import OF_BATCH, find, find_in_steps, keep_last

MAX_ITEMS: Final = 10_000
_NO_ARRAY: Final = "transactions must be an array of objects"


def edit_batch(text: bytes, member: bytes) -> list[Edit]:
    """Return the edits of a small batch, in order; `member` is the stamp."""
    array, edits = keep_last(text, find(text, OF_BATCH).members, "transactions")
    if array is None:
        return []
    items = text[array.start : array.end]
    if not items.startswith(b"["):
        raise BadBodyError(_NO_ARRAY)
    spans = json_text.elements(items, array.start)
    if len(spans) > MAX_ITEMS:
        raise TooManyItemsError
    for span in spans:
        edits += _edit_item(text, span, member)
    return sorted(edits)


def edit_batch_in_steps(text: bytes, span: Span, member: bytes) -> Generator[None, None, list[Edit]]:
    """Return the edits of a batch of any size, which is at `span` of a text that was checked."""
    found = yield from find_in_steps(text, span, OF_BATCH)
    array, edits = keep_last(text, found.members, "transactions")
    if array is None:
        return []
    if text[array.start : array.start + 1] != b"[":
        raise BadBodyError(_NO_ARRAY)
    try:
        parts = yield from json_text.parts_in_steps(text, array, MAX_ITEMS)
    except json_text.TooManyError as error:
        raise TooManyItemsError from error
    for part in parts.spans:
        if json_text.is_large(part):
            item = yield from json_text.trimmed_in_steps(text, part)
            if text[item.start : item.start + 1] != b"{":
                raise BadBodyError(_NO_ARRAY)
            edits += yield from edit_record_in_steps(text, item, Stamp.CREATE, member)
            continue
        for small in json_text.elements(b"[%b]" % text[part.start : part.end], part.start - 1):
            edits += _edit_item(text, small, member)
            yield
    return edits


def _edit_item(text: bytes, span: Span, member: bytes) -> list[Edit]:
    item = text[span.start : span.end]
    if not item.startswith(b"{"):
        raise BadBodyError(_NO_ARRAY)
    return edit_record(item, span.start, Stamp.CREATE, member)
