"""A file of policy tests: what it may contain, and every refusal with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import ConfigError, UnreadableConfigError
from gateway.config.policy_test_reader import load_policy_tests, read_policy_tests
from gateway.config.yaml_document import MAX_BYTES
from gateway.policy.expectations import PolicyTest
from gateway.policy.principals import MASTER
from gateway.policy.problems import Problem
from gateway.policy.routes import Stamp
from gateway.policy.verdicts import NO_KEY, PolicyRequest, key_with, read_request

KEY = "A_b-0" * 8 + "xyz="  # the shape of a key
EXAMPLE = "- {as: [ledgers:read], do: GET /ledgers, expect: allow}"
CALLER = (
    "as: write the scopes of a key, as [ledgers:read] or [] for a key without any; "
    "or master, or none for no key"
)
SCOPE = "as: a scope is a resource of Core or *, and read, write, delete or *, as ledgers:read"
METHODS = "do: the method is one of DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, TRACE, in capitals"
RESPONSES = (
    "expect: write one of allow, 401 AUTH_MISSING_API_KEY, 401 AUTH_INVALID_API_KEY, 400 GEN_BAD_REQUEST, "
    "403 AUTH_INSUFFICIENT_PERMISSIONS, 403 AUTH_UNKNOWN_RESOURCE, 403 AUTH_MASTER_KEY_REQUIRED, "
    "404 GEN_NOT_FOUND, 403 GATEWAY_NOT_DECIDED"
)
SHIPPED = (Path(__file__).parents[2] / "deploy" / "policy-tests.yaml").read_bytes()


def asked(line: str) -> PolicyRequest:
    request = read_request(*line.split(" ", 1))
    assert isinstance(request, PolicyRequest)
    return request


def test_each_line_is_a_test() -> None:
    data = b"""\xef\xbb\xbf---
# the caller
- {as: [ledgers:read, "*:write"], do: "GET /ledgers?limit=1", expect: allow}
- as: master
  do: GET /hooks
  expect: allow
  route: GET /hooks
  stamp: none
  name: hooks
- {as: none, do: GET /ledgers, expect: 401 AUTH_MISSING_API_KEY}
- {as: [], do: GET /ledgers, expect: 403 AUTH_INSUFFICIENT_PERMISSIONS}
"""
    reader = key_with(["ledgers:read", "*:write"])
    tests = (
        PolicyTest("GET /ledgers?limit=1", reader, asked("GET /ledgers?limit=1"), "allow", line=3),
        PolicyTest("hooks", MASTER, asked("GET /hooks"), "allow", "GET /hooks", Stamp.NONE, 4),
        PolicyTest("GET /ledgers", NO_KEY, asked("GET /ledgers"), "401 AUTH_MISSING_API_KEY", line=10),
        PolicyTest(
            "GET /ledgers", key_with(()), asked("GET /ledgers"), "403 AUTH_INSUFFICIENT_PERMISSIONS", line=11
        ),
    )
    assert read_policy_tests(data) == (tests, ())


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, f"the file is empty: write a list of tests, as '{EXAMPLE}'"),
        ("# nothing\n", 1, f"the file is empty: write a list of tests, as '{EXAMPLE}'"),
        ("tests: 1", 1, f"a list of tests is expected here: write '{EXAMPLE}'"),
        ("\nword", 2, f"a list of tests is expected here: write '{EXAMPLE}'"),
        ("[]", 1, f"a list of tests is expected here: write '{EXAMPLE}'"),
        ("*x", 1, 'a value that begins with * is an alias to YAML: quote it, as "*:read"'),
        ("- a: [", 1, "a value is missing here, or a bracket is never closed"),
        ("- word", 1, f"a test is expected here: write '{EXAMPLE}'"),
        ("- ~", 1, "the value is missing: write one, or remove the line"),
        ("- {do: GET /, expect: allow}", 1, f"'as' is missing: write all of '{EXAMPLE}'"),
        ("- {as: none, expect: allow}", 1, f"'do' is missing: write all of '{EXAMPLE}'"),
        ("- {as: none, do: GET /}", 1, f"'expect' is missing: write all of '{EXAMPLE}'"),
        (
            "- as: none\n  do: GET /\n  expect: allow\n  stmap: none",
            4,
            "a test has as, do, expect, at, route, stamp, name; did you mean 'stamp'?",
        ),
        ("- {as: ledgers:read, do: GET /, expect: allow}", 1, CALLER),
        ("- {as: {a: b}, do: GET /, expect: allow}", 1, CALLER),
        ("- {as: true, do: GET /, expect: allow}", 1, CALLER),
        (
            "- {as: [*:read], do: GET /, expect: allow}",
            1,
            'a value that begins with * is an alias to YAML: quote it, as "*:read"',
        ),
        ("- {as: ~, do: GET /, expect: allow}", 1, "the value is missing: write one, or remove the line"),
        (
            "- {as: none, do: GET /?x=1, expect: allow}",
            1,
            "'{' opens a mapping here: by line 1 a comma or its '}' is missing, or a value needs quotes",
        ),
        (
            "- as:\n  - ledger:read\n  do: GET /\n  expect: allow",
            2,
            f"{SCOPE}; did you mean 'ledgers:read'?",
        ),
        ("- {as: [[x]], do: GET /, expect: allow}", 1, SCOPE),
        (f"- {{as: ['{KEY}'], do: GET /, expect: allow}}", 1, SCOPE),
        (
            "- {as: none, do: GET, expect: allow}",
            1,
            "do: write a method, one blank and a path, as GET /ledgers",
        ),
        ("- {as: none, do: get /, expect: allow}", 1, "do: write the method in capitals: GET"),
        ("- {as: none, do: GETT /, expect: allow}", 1, METHODS),
        (
            "- {as: none, do: GET  /, expect: allow}",
            1,
            "do: begin the path with '/', and percent-encode everything in it but visible ASCII",
        ),
        (
            f"- {{as: none, do: GET /{KEY}, expect: allow}}",
            1,
            "do: this is a key, or a text that looks like one: remove it",
        ),
        ("- {as: none, do: 1, expect: allow}", 1, "do: write text, in quotes where YAML reads otherwise"),
        ("- {as: none, do: ~, expect: allow}", 1, "the value is missing: write one, or remove the line"),
        ("- {as: none, do: GET /, expect: allow, at: admin}", 1, "at: write one of listen, decide"),
        ("- {as: none, do: GET /, expect: 404}", 1, RESPONSES),
        ("- {as: none, do: GET /, expect: [allow]}", 1, RESPONSES),
        ("- {as: none, do: GET /, expect: alow}", 1, f"{RESPONSES}; did you mean 'allow'?"),
        ("- {as: none, do: GET /, expect: ~}", 1, "the value is missing: write one, or remove the line"),
        (
            "- {as: none, do: GET /, expect: allow, stamp: creat}",
            1,
            "stamp: write one of none, create, bulk, replace, merge; did you mean 'create'?",
        ),
        (
            "- {as: none, do: GET /, expect: 404 GEN_NOT_FOUND, stamp: none}",
            1,
            "stamp: a refused request gets no stamp: remove it",
        ),
        (
            "- {as: none, do: GET /, expect: allow, name: ''}",
            1,
            "name: write text, in quotes where YAML reads otherwise",
        ),
        (
            "- {as: none, do: GET /, expect: allow, route: [x]}",
            1,
            "route: write text, in quotes where YAML reads otherwise",
        ),
    ],
)
def test_each_problem_has_its_line_and_what_to_write(text: str, line: int, problem: str) -> None:
    assert read_policy_tests(text.encode()) == ((), (Problem(line, problem),))


def test_every_problem_is_reported_at_once_by_line() -> None:
    text = (
        b"- {as: x, do: x, expect: x}\n- word\n- {as: none, do: GET /, expect: allow}\n- {as: none, as: none}"
    )
    tests, problems = read_policy_tests(text)
    assert [test.line for test in tests] == [3]
    assert [problem.line for problem in problems] == [1, 1, 1, 2, 4, 4, 4]


@pytest.mark.parametrize(
    ("data", "line", "problem"),
    [
        (b"\n\xff", 2, "this is not UTF-8: save the file as UTF-8 text"),
        (
            b" " * (MAX_BYTES + 1),
            1,
            "the file is larger than 1 MiB: split it, several files run at once",
        ),
    ],
)
def test_a_file_that_is_no_text_is_refused(data: bytes, line: int, problem: str) -> None:
    assert read_policy_tests(data) == ((), (Problem(line, problem),))


def test_a_file_is_read_whole_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "tests.yaml"
    file.write_text(f"{EXAMPLE}\n")
    assert [test.name for test in load_policy_tests(file)] == ["GET /ledgers"]
    file.write_text(f"{EXAMPLE}\n- word\n")
    with pytest.raises(ConfigError) as refused:
        load_policy_tests(file)
    assert str(refused.value) == f"{file}:2: a test is expected here: write '{EXAMPLE}'"


@pytest.mark.parametrize(
    ("name", "reason"), [("absent.yaml", "No such file or directory"), ("nul\0", "this is not a path")]
)
def test_an_unreadable_file_is_not_taken_for_a_bad_one(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UnreadableConfigError) as unreadable:
        load_policy_tests(tmp_path / name)
    assert str(unreadable.value) == f"{tmp_path / name}: cannot be read: {reason}"


@given(
    start=st.integers(0, len(SHIPPED)),
    length=st.integers(0, 60),
    inserted=st.binary(max_size=6) | st.text(alphabet=" \n\t:-[]{}*&!|>'\"#%", max_size=6).map(str.encode),
)
def test_a_damaged_file_gives_tests_or_problems(start: int, length: int, inserted: bytes) -> None:
    """A damaged file gives tests or problems; to be quick, only 1,000 bytes around the damage are read."""
    data = SHIPPED[max(start - 500, 0) : start] + inserted + SHIPPED[start + length : start + length + 500]
    tests, problems = read_policy_tests(data)
    assert tests or problems
