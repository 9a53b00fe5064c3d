"""The command that runs policy tests: test."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from gateway.cli.arguments import refuse_option
from gateway.cli.console import EXIT_CODES, config_option, fail, load
from gateway.cli.printing import Printer
from gateway.config import ConfigError
from gateway.config.policy_test_reader import load_policy_tests
from gateway.policy.expectations import PolicyTest, PolicyTestResult, run_test
from gateway.policy.explanation import name_of
from gateway.server.exit_codes import Exit


@click.command("test", epilog=EXIT_CODES)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--junit",
    "report",
    type=click.Path(path_type=Path),
    help="Also write the results into this file, as JUnit XML.",
)
@config_option
def run_policy_tests(files: tuple[str, ...], report: Path | None, path: Path) -> None:
    """Test the policy: who may do what, and with which response others are refused.

    A FILE is a YAML list with one test a line. A pattern such as 'policies/**/*.yaml' stands for the files
    that it matches. The code that decides about requests decides about the tests, too. No secret, no Redis
    and no Core is needed.

    \b
      - {as: [ledgers:read], do: GET /ledgers, expect: allow}
      - {as: [transactions:write], do: POST /transactions/bulk, expect: allow, stamp: bulk}
      - {as: [], do: GET /ledgers, expect: 403 AUTH_INSUFFICIENT_PERMISSIONS}
      - {as: none, do: GET /ledgers, expect: 401 AUTH_MISSING_API_KEY}
      - {as: master, do: GET /hooks, expect: allow, route: GET /hooks, name: hooks need the master key}

    \b
      as      the scopes of a key; [] for a key without scopes; master; none for no key
      do      a method and a path
      expect  allow, or the status and code of the refusal
      at      decide: an ingress asks at decide.listen; by default listen
      route   the line of routes that matches the request; none for no line
      stamp   the stamp of the body: none, create, bulk, replace or merge
      name    the name of the test; by default the method and path

    Exit codes here: 0 every test passes, 1 a test fails (or the configuration is refused), 2 a test file is
    refused or cannot be read.

    \b
    Examples:
      blnk-gateway test deploy/policy-tests.yaml
      blnk-gateway test --config gateway.yaml 'policies/*.yaml' --junit report.xml
    """
    tests = _load_all(_matching(files))
    config = load(path, secrets=False)
    policy = config.policy
    results = {file: [run_test(test, policy) for test in in_file] for file, in_file in tests.items()}
    if report is not None:
        _write_junit(report, results)
    failed = _print_results(results, path)
    sys.exit(Exit.FAILED if failed else Exit.OK)


def _matching(patterns: Iterable[str]) -> list[str]:
    """Return the files that are named or matched, each once; exit with 2 if a pattern matches none."""
    files: dict[str, None] = {}
    for pattern in patterns:
        # The name of a file may look like a pattern.
        is_file = os.path.lexists(pattern) or not glob.has_magic(pattern)
        matched = [pattern] if is_file else _expanded(pattern)
        if not matched:
            refuse_option("FILE", "the pattern matches no file")
        files.update(dict.fromkeys(matched))
    return list(files)


def _expanded(pattern: str) -> list[str]:
    # Path.glob accepts no absolute pattern.
    return sorted(file for file in glob.glob(pattern, recursive=True) if Path(file).is_file())  # noqa: PTH207


def _load_all(files: Iterable[str]) -> dict[str, tuple[PolicyTest, ...]]:
    """Return the tests of every file; print every problem of all files and exit with 2 if there is one."""
    tests: dict[str, tuple[PolicyTest, ...]] = {}
    problems = []
    for file in files:
        try:
            tests[file] = load_policy_tests(Path(file))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        fail("\n".join(problems), Exit.USAGE)
    return tests


def _write_junit(report: Path, results: Mapping[str, list[PolicyTestResult]]) -> None:
    from gateway.cli.junit import junit

    try:
        report.write_bytes(junit(results))
    except OSError as error:
        fail(f"{report}: cannot be written: {error.strerror}", Exit.USAGE)


def _print_results(results: Mapping[str, list[PolicyTestResult]], config: Path) -> int:
    """Print every test that fails, and a summary; return how many fail."""
    printer = Printer()
    failures = [(file, one) for file, in_file in results.items() for one in in_file if not one.holds]
    for file, result in failures:
        _print_failure(printer, file, result, config)
    total = sum(map(len, results.values()))
    if failures:
        printer.line((f"{len(failures)} of {total} policy tests failed", "bold red"))
    else:
        printer.line((f"{total} policy tests passed", "bold green"))
    return len(failures)


def _print_failure(printer: Printer, file: str, result: PolicyTestResult, config: Path) -> None:
    test, route = result.test, result.route
    printer.line((f"{file}:{test.line}: {test.name}", "bold"), (f"  as {name_of(test.caller, 0.0)}", ""))
    for one in result.mismatches:
        printer.line((f"  {one.what:10}expected  ", "dim"), (one.expected, "green"))
        printer.line(("            got       ", "dim"), (one.got, "red"))
    if route is not None:
        printer.line(("  matched   ", "dim"), (f"{route.name}  {config}:{route.line}", "cyan"))
