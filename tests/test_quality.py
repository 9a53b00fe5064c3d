"""The code is linted, formatted and typed; CI checks it with the suite itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.running import ROOT


@pytest.mark.parametrize(
    "check",
    [("ruff", "check"), ("ruff", "format", "--check"), ("mypy", "--strict")],
    ids=["lint", "format", "types"],
)
def test_the_whole_tree_is_clean(check: tuple[str, ...]) -> None:
    """Each tool reports nothing, with the configuration of pyproject.toml."""
    done = subprocess.run(
        [sys.executable, "-m", *check, *(["."] if check[0] == "ruff" else [])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout if done.returncode else "") == (0, "")
