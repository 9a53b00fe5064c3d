"""YAML is read with line numbers, and every file is read or refused, never with a traceback."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.yaml_document import (
    MAX_BYTES,
    YamlEntry,
    YamlList,
    YamlMapping,
    YamlRefused,
    YamlScalar,
    read_document,
)
from gateway.policy.problems import Problem

ALIAS = 'a value that begins with * is an alias to YAML: quote it, as "*:read"'
ANCHOR = "a value that begins with & is an anchor to YAML: quote it"
TAG = "a value that begins with ! is a tag to YAML: quote it"
CONTROL = "there is a control character or a line break here: write the value on one line"
NULL = "the value is missing: write one, or remove the line"
INT = "YAML reads this as a number of another kind: write plain digits, at most 18, or quote it"
FLOAT = "YAML reads this as a fraction of another kind: write it as 0.5, or quote it"
DATE = "YAML reads this as a date: quote it"


def test_strings_integers_and_booleans_are_read_with_their_lines() -> None:
    document, problems = read_document(b"a: x y\nb: 12\nc: true\nd: 'false'\ne:\n  f: [1, g:h]\n")
    assert problems == ()
    assert document == YamlMapping(
        (
            YamlEntry("a", YamlScalar("x y", 1), 1),
            YamlEntry("b", YamlScalar(12, 2), 2),
            YamlEntry("c", YamlScalar(True, 3), 3),
            YamlEntry("d", YamlScalar("false", 4), 4),
            YamlEntry(
                "e",
                YamlMapping((YamlEntry("f", YamlList((YamlScalar(1, 6), YamlScalar("g:h", 6)), 6), 6),), 6),
                5,
            ),
        ),
        1,
    )


def test_a_byte_order_mark_is_skipped() -> None:
    assert read_document(b"\xef\xbb\xbfa: b") == (
        YamlMapping((YamlEntry("a", YamlScalar("b", 1), 1),), 1),
        (),
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", NULL),
        ("~", NULL),
        ("null", NULL),
        ("017", INT),
        ("0x1F", INT),
        ("1_000", INT),
        ("+5", INT),
        ("190:20:30", INT),
        ("1234567890123456789", INT),
        (".5", FLOAT),
        ("1.", FLOAT),
        ("1.5e+3", FLOAT),
        ("-1.5", FLOAT),
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
    assert document == YamlMapping(
        (YamlEntry("first", YamlScalar(1, 1), 1), YamlEntry("second", YamlRefused(2), 2)), 1
    )


@pytest.mark.parametrize(
    ("value", "truth"), [("yes", True), ("On", True), ("TRUE", True), ("no", False), ("Off", False)]
)
def test_every_word_for_true_and_false_is_a_truth_value(value: str, truth: bool) -> None:
    assert read_document(f"a: {value}".encode()) == (
        YamlMapping((YamlEntry("a", YamlScalar(truth, 1), 1),), 1),
        (),
    )


@pytest.mark.parametrize(("value", "number"), [("0.01", 0.01), ("12.50", 12.5)])
def test_a_plain_fraction_is_a_number(value: str, number: float) -> None:
    assert read_document(f"a: {value}".encode()) == (
        YamlMapping((YamlEntry("a", YamlScalar(number, 1), 1),), 1),
        (),
    )


def test_an_anchor_is_refused_and_its_value_read_on() -> None:
    document = YamlMapping((YamlEntry("a", YamlScalar("x", 1), 1),), 1)
    assert read_document(b"a: &anchor x") == (document, (Problem(1, ANCHOR),))


def test_every_problem_is_reported_at_once() -> None:
    text = b"a: *:read\nb: [&x y, .5]\na: 2\n3: 4\n<<: {c: d}\n? [e]\n: f\n---\ng: h\n"
    assert read_document(text)[1] == (
        Problem(1, ALIAS),
        Problem(2, ANCHOR),
        Problem(8, "a second document begins here: keep one to a file"),
        Problem(2, FLOAT),
        Problem(3, "this key is already on line 1: keep one of the two"),
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
        (b"a: b\nc: \x00", Problem(2, "there is a control character here: remove it")),
        (b'a: b\nc: "\\UFFFFFFFF"', Problem(2, "this is not YAML: a bad escape")),
        (b"%YAML " + b"9" * 5000 + b".1\n--- a", Problem(1, "this is not YAML: a bad escape")),
        (b"\n" + b"[" * 100_000, Problem(2, "this is nested more than 8 levels deep")),
        (b"- " * 100_000, Problem(1, "this is nested more than 8 levels deep")),
        (b"a:\n" + b"- x\n" * 100_000, Problem(99_999, "the file holds more than 100000 values")),
        (b" " * (MAX_BYTES + 1), Problem(1, "the file is larger than 1 MiB: this is not a gateway.yaml")),
    ],
    ids=lambda value: value.text if isinstance(value, Problem) else "",
)
def test_what_is_no_document_is_refused_with_its_line(data: bytes, problem: Problem) -> None:
    assert read_document(data) == (YamlMapping((), 1), (problem,))


TAB = "there is a tab here: use blanks instead"
INDENTED = "check the indentation of this line: the lines of one section begin in the same column"
COLON = (
    "a colon is not expected here: check the indentation of this line, and write a blank after the colon of "
    "each key"
)
UNCLOSED = "a quote opens here and is never closed: close it on this line"
NO_VALUE = "this line has no value: write 'key: value', with a blank after the colon"
FIRST = "a value cannot begin with this character: put the value in quotes"
ESCAPE = r"a backslash in double quotes begins an escape: write \\, or put the value in single quotes"
LINES = "'|' and '>' begin a text of several lines: put the value in quotes, on one line"


def closed_late(line: int) -> str:
    return f"a quote opens here and is closed in line {line}: close it on its own line"


def open_list(line: int) -> str:
    return f"'[' opens a list here: by line {line} a comma or its ']' is missing, or a value needs quotes"


def open_mapping(line: int) -> str:
    return (
        f"'{{' opens a mapping here: by line {line} a comma or its '}}' is missing, or a value needs quotes"
    )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("a: b\n\tc: d", Problem(2, TAB)),
        ("a:\n  b: c\n  \td: e\n", Problem(3, TAB)),
        ("a:\tb", Problem(1, TAB)),
        ("a: [b,\n\tc]", Problem(2, TAB)),
        ("  a: 1\nb: 2\n", Problem(2, INDENTED)),
        ("a:\n    b: 1\n  c: 2\n", Problem(3, INDENTED)),
        ("a:\n  b: {x: 1}\n    c: 2\n", Problem(3, INDENTED)),
        ("a:\n  b: 1\n  - c\n", Problem(3, INDENTED)),
        ("a:\n  - c\n  b: 1\n", Problem(3, INDENTED)),
        ("a: 1\n b: 2\n", Problem(2, COLON)),
        ("a:1\nb: 2\n", Problem(2, COLON)),
        ("a: b: c\n", Problem(1, "a value that holds ': ' needs quotes: put the whole value in quotes")),
        ('a: 1\nb: "x\nc: 2\n', Problem(2, UNCLOSED)),
        ("a: 'x\n---\nb: 1\n", Problem(1, UNCLOSED)),
        ('a: 1\nb: "x\nc: 2\nd: "y"\n', Problem(2, closed_late(4))),
        ("a: 'x'\nb: 'y\nc: 'z'\nd: 'w'\n", Problem(2, closed_late(3))),
        (
            "a: 'it's'\n",
            Problem(1, "text follows the end of a value: put all of it in one pair of quotes"),
        ),
        ("a: [b, c\nd: e\n", Problem(1, open_list(2))),
        ("a: b\nc: [d", Problem(2, open_list(2))),
        ("a: {b: c\nd: e\n", Problem(1, open_mapping(2))),
        ("a: {b: ${X}}\n", Problem(1, open_mapping(1))),
        ("a: [", Problem(1, "a value is missing here, or a bracket is never closed")),
        (
            "a: [b]]\n",
            Problem(
                1,
                "this bracket or comma closes nothing: remove it, or quote the value",
            ),
        ),
        ("a: 1\nb\nc: 2\n", Problem(2, NO_VALUE)),
        ("b: 2\na:1\n", Problem(2, NO_VALUE)),
        ("a: @x\n", Problem(1, FIRST)),
        ("a: `x\n", Problem(1, FIRST)),
        ('a: "C:\\dir"\n', Problem(1, ESCAPE)),
        ('a: "\\xzz"\n', Problem(1, ESCAPE)),
        ("a: - b\n", Problem(1, "a list cannot begin on the line of its key with '- ': write [a, b]")),
        ("a: ? b\n", Problem(1, "a value cannot begin with '? ': quote it")),
        ("a: |x\n  y\n", Problem(1, LINES)),
        ("a: >0\n  y\n", Problem(1, LINES)),
        ("a: b\n...\nc\n", Problem(3, "nothing may follow the end of the document")),
        (
            "%YAML x\n---\na: b\n",
            Problem(1, "a line that begins with % is a directive to YAML: remove it"),
        ),
        ("%\n---\na: b\n", Problem(1, "a line that begins with % is a directive to YAML: remove it")),
        ("a: !s3cret!x y", Problem(1, TAG)),
        ("a: !<x y\n", Problem(1, TAG)),
    ],
)  # fmt: skip
def test_bad_yaml_is_reported_at_the_line_of_the_mistake(data: str, problem: Problem) -> None:
    assert read_document(data.encode()) == (YamlMapping((), 1), (problem,))


def test_a_quoted_value_may_go_over_several_lines() -> None:
    document = YamlMapping(
        (YamlEntry("a", YamlScalar("x y", 1), 1), YamlEntry("b", YamlScalar("c", 3), 3)), 1
    )
    assert read_document(b"a: 'x\n  y'\nb: c\n") == (document, ())


def test_a_tagged_document_is_refused_once() -> None:
    assert read_document(b"!!map {a: b}") == (YamlMapping((), 1), (Problem(1, TAG),))


@given(
    st.binary(max_size=200)
    | st.text(alphabet=" \n:-[]{}*&!|>'\"\\#%@`?,a1.\t\x00\x85\u2028\U0001f600").map(str.encode)
)
def test_any_bytes_give_a_document_or_problems(data: bytes) -> None:
    document, problems = read_document(data)
    assert document.entries or problems or data.strip() == b"{}"
    assert all(1 <= problem.line <= data.count(b"\n") + data.count(b"\r") + 9 for problem in problems)
