"""The command that runs policy tests: test."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from gateway.cli.console import EXIT_CODES, config_option, load, say
from gateway.cli.printing import Printer
from gateway.config import ConfigError
from gateway.config.policy_test_reader import load_policy_tests
from gateway.policy.expectations import PolicyTest, PolicyTestResult, run_test
from gateway.policy.explanation import name_of
from gateway.server.exit_codes import Exit


@click.command("test", epilog=EXIT_CODES)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--junit", "report", type=click.Path(path_type=Path), help="Write the outcomes here too, as JUnit XML."
)
@config_option
def run_policy_tests(files: tuple[str, ...], report: Path | None, path: Path) -> None:
    """Hold the policy to tests: who may do what, and by which answer.

    A FILE is a YAML list, one test a line; a pattern such as 'policies/**/*.yaml' stands for the files that
    it matches. The engine of the data path decides; no secret, no Redis and no Core is needed.

    \b
      - {as: [ledgers:read], do: GET /ledgers, expect: allow}
      - {as: [transactions:write], do: POST /transactions/bulk, expect: allow, stamp: bulk}
      - {as: [], do: GET /ledgers, expect: 403 AUTH_INSUFFICIENT_PERMISSIONS}
      - {as: none, do: GET /ledgers, expect: 401 AUTH_MISSING_API_KEY}
      - {as: master, do: GET /hooks, expect: allow, route: GET /hooks, name: hooks need the master key}

    \b
      as      the scopes of a key; [] for a key without any; master; none for no key
      do      a method and a path
      expect  allow, or the status and code of the refusal
      route   the line of routes that the request takes; none for no line
      stamp   what happens to the body: none, create, bulk, replace or merge
      name    how the test is called; without one, what it does

    Exit codes here: 0 every test holds, 1 one does not (or the configuration is refused), 2 a test file is
    refused or cannot be read.

    \b
    Examples:
      blnk-gateway test deploy/policy-tests.yaml
      blnk-gateway test --config gateway.yaml 'policies/*.yaml' --junit report.xml
    """
    tests = _load_all(_matching(files))
    config = load(path, secrets=False)
    policy = config.policy
    outcomes = {file: [run_test(test, policy) for test in of_file] for file, of_file in tests.items()}
    if report is not None:
        _write(report, outcomes)
    failed = _tell(outcomes, path)
    sys.exit(Exit.FAILED if failed else Exit.OK)


def _matching(patterns: Iterable[str]) -> list[str]:
    """The files that are meant, each once; exits where a pattern matches none."""
    files: dict[str, None] = {}
    for pattern in patterns:
        # A file may be called as if it were a pattern.
        named = [pattern] if os.path.lexists(pattern) or not glob.has_magic(pattern) else _expanded(pattern)
        if not named:
            raise click.BadParameter("the pattern matches no file", param_hint="FILE")
        files.update(dict.fromkeys(named))
    return list(files)


def _expanded(pattern: str) -> list[str]:
    # Path.glob takes no absolute pattern.
    return sorted(file for file in glob.glob(pattern, recursive=True) if Path(file).is_file())  # noqa: PTH207


def _load_all(files: Iterable[str]) -> dict[str, tuple[PolicyTest, ...]]:
    """The tests of every file; exits with every problem of all of them."""
    tests: dict[str, tuple[PolicyTest, ...]] = {}
    problems = []
    for file in files:
        try:
            tests[file] = load_policy_tests(Path(file))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        say("\n".join(problems), err=True)
        sys.exit(Exit.USAGE)
    return tests


def _write(report: Path, outcomes: Mapping[str, list[PolicyTestResult]]) -> None:
    from gateway.cli.junit import junit

    try:
        report.write_bytes(junit(outcomes))
    except OSError as error:
        say(f"{report}: cannot be written: {error.strerror}", err=True)
        sys.exit(Exit.USAGE)


def _tell(outcomes: Mapping[str, list[PolicyTestResult]], config: Path) -> int:
    """Print every test that does not hold and a summary; how many those are."""
    printer = Printer()
    failures = [(file, one) for file, of_file in outcomes.items() for one in of_file if not one.holds]
    for file, outcome in failures:
        _tell_failure(printer, file, outcome, config)
    total = sum(map(len, outcomes.values()))
    if failures:
        printer.line((f"{len(failures)} of {total} policy tests failed", "bold red"))
    else:
        printer.line((f"{total} policy tests passed", "bold green"))
    return len(failures)


def _tell_failure(printer: Printer, file: str, outcome: PolicyTestResult, config: Path) -> None:
    test, route = outcome.test, outcome.route
    printer.line((f"{file}:{test.line}: {test.name}", "bold"), (f"  as {name_of(test.caller, 0.0)}", ""))
    for one in outcome.mismatches:
        printer.line((f"  {one.what:10}expected  ", "dim"), (one.expected, "green"))
        printer.line(("            got       ", "dim"), (one.got, "red"))
    if route is not None:
        printer.line(("  matched   ", "dim"), (f"{route.name}  {config}:{route.line}", "cyan"))
