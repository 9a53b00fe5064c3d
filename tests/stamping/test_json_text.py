"""A large JSON text is checked and split in steps exactly as it would be when read whole."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import example, given

from gateway.stamping.json_text import (
    BLOCK,
    MAX_DEPTH,
    UNREADABLE,
    Span,
    TooManyError,
    check_in_steps,
    decode_in_steps,
    is_large,
    member_in_steps,
    parts_in_steps,
)
from tests.conftest import examples
from tests.stamping.test_reference import LARGE_BODIES, LARGE_VALUES, arrays


def finished(steps: Generator[None, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def read(text: bytes) -> Any:
    """Return the JSON value, with members of objects as pairs and numbers of any length."""
    return json.loads(text, object_pairs_hook=list, parse_int=str)


def is_object(text: bytes) -> bool:
    try:
        finished(check_in_steps(text))
    except UNREADABLE:
        return False
    return True


@pytest.mark.parametrize("length", range(BLOCK - 8, BLOCK + 8))
@pytest.mark.parametrize("text", [rb"\u0041", rb"\\", rb"\"", rb"\ud83d", rb"\\\"", "\u20ac".encode(), b"],"])
def test_a_step_may_end_in_any_part_of_a_string(text: bytes, length: int) -> None:
    """A step that ends inside a string splits no escape, and the text after it is read correctly."""
    for body in (b'{"%b%b":[1,{}]}', b'{"a":"%b%b","b":2}'):
        sent = body % (b"x" * length, text)
        assert is_object(sent)
        assert not is_object(sent[:-1])
        assert not is_object(sent.replace(text, text + b'"'))


@pytest.mark.parametrize("wrong", [rb"\u00", rb"\x", b"\n", b"\x00", rb"\ud8", b'"'])
def test_what_is_wrong_far_inside_a_string_is_found(wrong: bytes) -> None:
    """An error in a string is found even if whole steps before and after it are inside the same string."""
    around = b"x" * (3 * BLOCK)
    assert not is_object(b'{"a":"%b%b%b"}' % (around, wrong, around))


@pytest.mark.parametrize(
    ("number", "sound"),
    [
        (b"7" * 20_000, True),
        (b"0" * 20_000, False),
        (b"1" + b"0" * 20_000, True),
        (b"1" * 20_000 + b".", False),
        (b"1." + b"0" * 20_000 + b"e" + b"0" * 20_000, True),
        (b"1" + b" " * 20_000 + b"1", False),
    ],
)
def test_a_long_number_is_read_as_one(number: bytes, sound: bool) -> None:
    """A leading zero or a second number is found although most digits of a long number are skipped."""
    assert is_object(b'{"a":%b}' % number) is sound
    assert is_object(b'{"a":[0,%b,0]}' % number) is sound


@pytest.mark.parametrize(
    "text",
    [b"[1,]", b"[,1]", b"[1,,1]", b'{"a":1,}', b'{,"a":1}', b'{"a":1]', b"[1}", b"[1],", b",[1]", b"]"],
)
def test_commas_and_brackets_out_of_place_are_found(text: bytes) -> None:
    """Cutting the text at commas hides no misplaced comma or bracket."""
    for around in (b'{"a":%b}', b'{"a":[%b]}', b'{"a":[0,%b,0]}'):
        assert not is_object(around % text)
        assert not is_object(around % (b" " * 2 * BLOCK + text))


@pytest.mark.parametrize(
    "text", [b"", b" ", b"1", b"null", b'"{}"', b"[{}]", b"{}{}", b"{},", b"\xef\xbb\xbf{}"]
)
def test_only_one_object_is_one(text: bytes) -> None:
    """Only blanks may come before and after the object."""
    assert is_object(b" {} ")
    assert not is_object(text)


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
def test_how_deep_a_text_may_be_nested(depth: int) -> None:
    """Nesting is counted across steps."""
    text = b'{"x":"%b","a":%b%b}' % (b"x" * 2 * BLOCK, b"[" * (depth - 1), b"]" * (depth - 1))
    assert is_object(text) is (depth == MAX_DEPTH)


@pytest.mark.parametrize("text", [b"\xff", b"\xed\xa0\x80", b"\xe2\x82", b"x" * (1 << 18) + b"\xe2\x82"])
def test_what_is_not_utf_8_is_found(text: bytes) -> None:
    """Invalid UTF-8 is found even where a step or the text ends inside a character."""
    sound = b"x" * ((1 << 18) - 1) + "\u20ac".encode() * 3
    finished(decode_in_steps(sound))
    with pytest.raises(UnicodeDecodeError):
        finished(decode_in_steps(sound + text))


def units(name: str) -> list[int]:
    r"""Return the name in UTF-16 units, after the replacements that `readable` makes for surrogates."""
    text = name.replace(r"\ud", r"\uf").replace(r"\uD", r"\uF")
    coded = text.encode("utf-16-be", "surrogatepass")
    pairs = zip(coded[::2], coded[1::2], strict=True)
    return [(high | 0x20 if 0xD8 <= high < 0xE0 else high) << 8 | low for high, low in pairs]


@examples(60)
@given(body=LARGE_BODIES)
@example(body=rb'{"\\ud83d":"' + b"x" * 5000 + b'"}')
def test_the_parts_of_an_object_are_its_members(body: bytes) -> None:
    """The members come in order, and a large one is one part."""
    try:
        pairs = read(body)
    except ValueError:
        return
    span = Span(body.index(b"{"), body.rindex(b"}") + 1)
    parts = finished(parts_in_steps(body, span))
    members = [read(b"{%b}" % body[part.start : part.end]) for part in parts.spans]
    assert [pair for part in members for pair in part] == pairs
    assert parts.elements == len(pairs)
    for part, pairs_read in zip(parts.spans, members, strict=True):
        if is_large(part):
            member = finished(member_in_steps(body, part))
            value = read(body[member.value.start : member.value.end])
            assert [(units(member.name), value)] == [(units(name), value) for name, value in pairs_read]


@examples(60)
@given(array=arrays(LARGE_VALUES))
def test_the_parts_of_an_array_are_its_elements(array: str) -> None:
    """The elements come in order, and one element more than the limit is refused."""
    text = array.encode()
    try:
        elements = read(text)
    except ValueError:
        return
    parts = finished(parts_in_steps(text, Span(0, len(text))))
    found = [read(b"[%b]" % text[s.start : s.end]) for s in parts.spans]
    assert [element for part in found for element in part] == elements
    if len(elements) > 1:
        assert finished(parts_in_steps(text, Span(0, len(text)), len(elements))) == parts
        with pytest.raises(TooManyError):
            finished(parts_in_steps(text, Span(0, len(text)), len(elements) - 1))
