"""A problem is one line of a report to the author of a file."""

from __future__ import annotations

import pytest

from gateway.policy.problems import Problem


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem(12, "write one value", "gateway.yaml"), "gateway.yaml:12: write one value"),
        (Problem(0, "cannot be read", "gateway.yaml"), "gateway.yaml: cannot be read"),
        (Problem(0, "no such setting", "BLNK_GATEWAY_X"), "BLNK_GATEWAY_X: no such setting"),
    ],
)
def test_a_problem_begins_with_its_place(problem: Problem, text: str) -> None:
    """A problem begins with `file:line`, which editors link; a variable and a whole file have no line."""
    assert str(problem) == text


def test_a_problem_gets_the_name_of_its_file_later() -> None:
    """The code that reads a file collects problems without knowing the name of the file."""
    assert Problem(3, "there is a tab here").in_source("keys.jsonl") == Problem(
        3, "there is a tab here", "keys.jsonl"
    )
