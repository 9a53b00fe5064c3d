"""`python3 -m tests` says what it will do, and passes its arguments to pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests.__main__ import LIVE_CORE, beginning
from tests.core.live import REQUIRED
from tests.running import ROOT

WHOLE = "running the whole suite: about ten minutes on two cores; the first output comes after some seconds"
SKIPPED = (
    "tests against a live Blnk Core are skipped; to run them: set BLNK_CORE_URL and BLNK_CORE_MASTER_KEY"
)
CORE = {"BLNK_CORE_URL": "http://127.0.0.1:5100", "BLNK_CORE_MASTER_KEY": "key"}


@pytest.mark.parametrize(
    ("arguments", "environ", "lines"),
    [
        ([], {}, [WHOLE, SKIPPED]),
        ([], CORE | {"BLNK_CORE_MASTER_KEY": ""}, [WHOLE, SKIPPED]),
        ([], CORE, [WHOLE]),
        (
            ["-k", "x"],
            {},
            ["running pytest; it prints nothing for some seconds while it collects tests"],
        ),
    ],
)
def test_how_long_it_takes_and_what_is_skipped_is_printed_first(
    arguments: list[str], environ: Mapping[str, str], lines: list[str]
) -> None:
    assert beginning(arguments, environ) == lines


def test_the_variables_of_a_live_core_are_those_that_its_tests_ask_for() -> None:
    assert LIVE_CORE == REQUIRED


@pytest.mark.parametrize("dashes", [(), ("--",)])
def test_options_of_pytest_are_taken_with_and_without_dashes(dashes: tuple[str, ...]) -> None:
    """Options reach pytest with and without `--`; PATH is empty, so that no npm packages are installed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests", *dashes, "-k", "nothing-is-called-so", "tests/policy/test_scopes.py"],
        cwd=ROOT,
        # PYTHONSAFEPATH is set for the compiled build, and would hide the package of the tests.
        env={name: value for name, value in os.environ.items() if name not in ("CI", "PYTHONSAFEPATH")}
        | {"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert " deselected in " in done.stdout
    assert "tests: running pytest; " in done.stderr
