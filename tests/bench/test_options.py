"""The command line: what it takes, and what it says about what it does not take."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.bench.options import SECTIONS, parse


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["speed"],
            "unknown section speed; known are peers, sizes, processes, features, flat, latency, soak",
        ),
        (["--peers", "nginx,apache"], "unknown peer 'apache'; known are nginx, lua, haproxy, envoy"),
        (["--gateway", "before"], "'before': write NAME=COMMAND, as 'before=/path/to/blnk-gateway'"),
        (["--gateway", "before="], "'before=': write NAME=COMMAND"),
        (["--gateway", "a='b"], '"a=\'b": write NAME=COMMAND'),
        (["--gateway", "gateway=b"], "there is a gateway named 'gateway' already"),
        (["--rounds", "0"], "argument --rounds: '0': write a whole number of 1 or more"),
        (["--seconds", "1.5"], "argument --seconds: '1.5': write a whole number of 1 or more"),
        (["--minutes", "nan"], "argument --minutes: 'nan': write a number above 0"),
        (["--quick", "peers"], "--quick has a measurement of its own: name no section with it"),
        (["sizes", "--svg", "a.svg"], "--svg shows the section peers: name it too"),
        (["--quick", "--svg", "a.svg"], "--svg shows the section peers: name it too"),
        (["--json", "/no/such/folder/a.json"], "--json: there is no folder /no/such/folder"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ends with 2 and says which argument is wrong, and what to write."""
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert error in capsys.readouterr().err


def test_without_sections_all_but_the_long_one_run() -> None:
    """The soak takes as long as all others together."""
    assert parse([]).sections == ("peers", "sizes", "processes", "features", "flat", "latency")


def test_sections_run_in_the_order_in_which_they_are_named() -> None:
    """Each is named on the command line."""
    assert parse(["soak", "peers"]).sections == ("soak", "peers")


def test_further_gateways_have_a_command_of_words() -> None:
    """A command may have arguments, so that an interpreter can be named."""
    last = parse(["--gateway", "before=python3 -m 'a b'"]).gateways[-1]
    assert (last.name, last.command) == ("before", ("python3", "-m", "a b"))


def test_the_help_has_every_section_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """Help goes to standard output, with exit code 0."""
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert [name for name in (*SECTIONS, "examples:", "exit codes:") if name not in told] == []


def test_the_command_names_wrong_arguments_without_a_traceback() -> None:
    """Exit code 2, as for every wrong argument."""
    command = [sys.executable, "-m", "tests.bench.run", "speed"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
    assert "unknown section speed" in ended.stderr
