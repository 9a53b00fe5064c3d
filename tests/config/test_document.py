"""YAML with lines: what it may hold, and that every shape of file is read or refused, never a traceback."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.document import (
    MAX_BYTES,
    Broken,
    Entry,
    Mapping,
    Scalar,
    Sequence,
    read_document,
)
from gateway.policy.routes import Problem

ALIAS = 'a value that begins with * is an alias to YAML: quote it, as "*:read"'
ANCHOR = "a value that begins with & is an anchor to YAML: quote it"
TAG = "a value that begins with ! is a tag to YAML: quote it"
CONTROL = "a control character or a line break stands here: write it on one line"
NULL = "no value stands here: write one, or take the line out"
BOOL = "YAML reads this as true or false: write true or false, or quote it"
INT = "YAML reads this as a number of another kind: write plain digits, at most 18, or quote it"
FLOAT = "YAML reads this as a fraction: write a whole number, or quote it"
DATE = "YAML reads this as a date: quote it"


def test_strings_integers_and_booleans_are_read_with_their_lines() -> None:
    document, problems = read_document(b"a: x y\nb: 12\nc: true\nd: 'false'\ne:\n  f: [1, g:h]\n")
    assert problems == ()
    assert document == Mapping(
        (
            Entry("a", Scalar("x y", 1), 1),
            Entry("b", Scalar(12, 2), 2),
            Entry("c", Scalar(True, 3), 3),
            Entry("d", Scalar("false", 4), 4),
            Entry("e", Mapping((Entry("f", Sequence((Scalar(1, 6), Scalar("g:h", 6)), 6), 6),), 6), 5),
        ),
        1,
    )


def test_a_byte_order_mark_is_skipped() -> None:
    assert read_document(b"\xef\xbb\xbfa: b") == (Mapping((Entry("a", Scalar("b", 1), 1),), 1), ())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", NULL),
        ("~", NULL),
        ("null", NULL),
        ("yes", BOOL),
        ("Off", BOOL),
        ("True", BOOL),
        ("017", INT),
        ("0x1F", INT),
        ("1_000", INT),
        ("+5", INT),
        ("190:20:30", INT),
        ("1234567890123456789", INT),
        ("1.5", FLOAT),
        (".inf", FLOAT),
        ("190:20:30.15", FLOAT),
        ("2026-11-23", DATE),
        ("=", "YAML gives this a meaning of its own: quote it"),
        ("*:read", ALIAS),
        ("*alias", ALIAS),
        ("!!str x", TAG),
        ("!x", TAG),
        ("! x", TAG),
        ('"a\\0b"', CONTROL),
        ('"\\ud800"', CONTROL),
        ("|\n  two\n  lines", CONTROL),
    ],
)
def test_other_kinds_of_value_are_refused_with_their_line(value: str, text: str) -> None:
    document, problems = read_document(f"first: 1\nsecond: {value}\n".encode())
    assert problems == (Problem(2, text),)
    assert document == Mapping((Entry("first", Scalar(1, 1), 1), Entry("second", Broken(2), 2)), 1)


def test_an_anchor_is_refused_and_its_value_read_on() -> None:
    document = Mapping((Entry("a", Scalar("x", 1), 1),), 1)
    assert read_document(b"a: &anchor x") == (document, (Problem(1, ANCHOR),))


def test_every_problem_is_reported_at_once() -> None:
    text = b"a: *:read\nb: [&x y, 1.5]\na: 2\n3: 4\n<<: {c: d}\n? [e]\n: f\n---\ng: h\n"
    assert read_document(text)[1] == (
        Problem(1, ALIAS),
        Problem(2, ANCHOR),
        Problem(8, "a second document begins here: keep one to a file"),
        Problem(2, FLOAT),
        Problem(3, "this key stands on line 1 already: keep one of the two"),
        Problem(4, "a key must be text: quote it"),
        Problem(5, "merge keys are refused: write the entries out"),
        Problem(6, "a key must be text: quote it"),
    )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", Problem(1, "the file is empty: begin with 'listen:'")),
        (b"# nothing\n\n", Problem(1, "the file is empty: begin with 'listen:'")),
        (b"\n- a\n", Problem(2, "settings are expected here: write 'key: value' lines")),
        (b"text", Problem(1, "settings are expected here: write 'key: value' lines")),
        (b"a: b\nc: \xff", Problem(2, "this is not UTF-8: save the file as UTF-8 text")),
        (b"a: b\nc: \x00", Problem(2, "a control character stands here: take it out")),
        (b'a: b\nc: "\\UFFFFFFFF"', Problem(2, "this is not YAML: a bad escape")),
        (b"%YAML " + b"9" * 5000 + b".1\n--- a", Problem(1, "this is not YAML: a bad escape")),
        (b"a: b\nc: [d", Problem(2, "this is not YAML: expected ',' or ']', but got '<stream end>'")),
        (b"a: b\n\tc: d", Problem(2, "this is not YAML: found character '\\t' that cannot start any token")),
        (b"a: !s3cret!x y", Problem(1, "this is not YAML: found undefined tag handle")),
        (b"\n" + b"[" * 100_000, Problem(2, "this is not YAML: nested more than 8 levels deep")),
        (b"- " * 100_000, Problem(1, "this is not YAML: nested more than 8 levels deep")),
        (
            b"a:\n" + b"- x\n" * 100_000,
            Problem(99_999, "this is not YAML: more than 100000 values stand here"),
        ),
        (b" " * (MAX_BYTES + 1), Problem(1, "the file is larger than 1 MiB: this is no gateway.yaml")),
    ],
    ids=lambda value: value.text if isinstance(value, Problem) else "",
)
def test_what_is_no_document_is_refused_with_its_line(data: bytes, problem: Problem) -> None:
    assert read_document(data) == (Mapping((), 1), (problem,))


def test_a_tagged_document_is_refused_once() -> None:
    assert read_document(b"!!map {a: b}") == (Mapping((), 1), (Problem(1, TAG),))


@given(
    st.binary(max_size=200)
    | st.text(alphabet=" \n:-[]{}*&!|>'\"\\#%@`?,a1.\t\x00\x85\u2028\U0001f600").map(str.encode)
)
def test_any_bytes_give_a_document_or_problems(data: bytes) -> None:
    document, problems = read_document(data)
    assert document.entries or problems or data.strip() == b"{}"
    assert all(1 <= problem.line <= data.count(b"\n") + data.count(b"\r") + 9 for problem in problems)
