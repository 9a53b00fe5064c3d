"""The command that checks a configuration, or what responds at Core's address: check."""

from __future__ import annotations

import enum
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click

from gateway.cli.arguments import refuse_option
from gateway.cli.console import EXIT_CODES, config_option, missing_file_advice, output_option, say
from gateway.cli.keys.store import authority_of
from gateway.config import Config, ConfigError, UnreadableConfigError, load_config
from gateway.keys.authority import CORE_PACKAGES_MISSING
from gateway.policy.coverage import Remark
from gateway.policy.problems import Problem
from gateway.server.exit_codes import Exit


class _Severity(enum.Enum):
    """The effect of a diagnostic on the result of `check`."""

    PROBLEM = "problem"
    """The configuration is refused."""
    WARNING = "warning"
    """The configuration is accepted, but not with --strict."""
    NOTE = "note"
    """The configuration is accepted."""
    UNSAFE = "error"
    """A dependency is unsafe to use as it is configured."""


@dataclass(frozen=True, slots=True)
class _Diagnostic:
    """A message about a line of the file; the line 0 stands for none."""

    severity: _Severity
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        """Return the line that editors and terminals link to the file; a problem has no word in front."""
        severity = "" if self.severity is _Severity.PROBLEM else f"{self.severity.value}: "
        return str(Problem(self.line, severity + self.text, self.path))

    @property
    def members(self) -> dict[str, object]:
        """Return the members of its JSON object."""
        return {
            "level": self.severity.value,
            "path": self.path,
            "line": self.line or None,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class _Report:
    """The result of a check; without a configuration the file was refused."""

    code: Exit
    diagnostics: tuple[_Diagnostic, ...]
    config: Config | None = None


@click.command(epilog=EXIT_CODES)
@config_option
@click.option("--coverage", is_flag=True, help="Warn of routes of Core that no route covers.")
@click.option("--strict", is_flag=True, help="Exit with 1 on a warning, too.")
@click.option(
    "--env",
    is_flag=True,
    help="Also check variables, files, packages and ports, and connect to Core and the key store.",
)
@click.option(
    "--reach", metavar="URL", help="Check instead whether a Core responds at this address; exit with 1 if so."
)
@output_option
def check(path: Path, *, coverage: bool, strict: bool, env: bool, reach: str | None, output: str) -> None:
    """Print every problem of a configuration with its line, and warn of likely mistakes.

    The command warns of a secret in plain text, or $NAME in place of one; of a report-only mode that has
    ended; of routes that cross; of a deny that a more specific route bypasses; and of a scope that routes of
    Core require and these routes do not. Without --env it needs no secret, and connects to nothing.

    With --env it connects to Core and the key store, as serve does. If one is unreachable, it warns and says
    why, because serve waits for both. If Core is unsafe to use, it exits with 3. It also warns of ports that
    are taken on this machine, and of a limit of open files that is too low for the configured connections.

    With --reach it reads no file. Run it on a machine of a client, with the address of Core: if a Core
    responds there, clients can bypass the gateway. Exit codes with --reach: 0 no Core responds, 1 a Core
    responds, 3 it is not known what responds.

    \b
    Examples:
      blnk-gateway check
      blnk-gateway check --config deploy/gateway.yaml --coverage --strict
      BLNK_MASTER_KEY=... blnk-gateway check --env
      blnk-gateway check --output json
      blnk-gateway check --reach http://core.internal:5001
    """
    if reach is not None:
        sys.exit(_check_reach(reach, output))
    report = _check_file(path, coverage=coverage, strict=strict, env=env)
    if output == "json":
        say(json.dumps(_members(path, report), indent=2))
    else:
        _print_report(path, report)
    sys.exit(report.code)


def _check_file(path: Path, *, coverage: bool, strict: bool, env: bool) -> _Report:
    try:
        config = load_config(path, os.environ, secrets=env)
    except UnreadableConfigError as error:
        (problem,) = error.problems
        text = problem.text + missing_file_advice(error)
        return _Report(Exit.USAGE, (_Diagnostic(_Severity.PROBLEM, problem.source, problem.line, text),))
    except ConfigError as error:
        return _Report(Exit.FAILED, tuple(_of_problems(_Severity.PROBLEM, error.problems)))
    found = [
        *_of_problems(_Severity.WARNING, config.warnings),
        *(_of_remark(path, remark) for remark in _remarks(config, coverage=coverage, env=env)),
    ]
    missing = _missing_packages(config) if env else []
    found += (_Diagnostic(_Severity.PROBLEM, str(path), 0, text) for text in missing)
    if env and not missing:
        found += _of_dependencies(path, config)
    in_order = tuple(sorted(found, key=lambda diagnostic: diagnostic.line))
    return _Report(_code(in_order, strict=strict), in_order, config)


def _missing_packages(config: Config) -> list[str]:
    """Return what to install for each part of the configuration whose packages are missing."""
    from gateway.telemetry.traces import TRACING_PACKAGES_MISSING, tracing_is_installed

    found = []
    if not all(map(find_spec, authority_of(config).packages)):
        found.append(CORE_PACKAGES_MISSING)
    if config.tracing.endpoint and not tracing_is_installed():
        found.append(TRACING_PACKAGES_MISSING)
    return found


def _code(found: Iterable[_Diagnostic], *, strict: bool) -> Exit:
    severities = {diagnostic.severity for diagnostic in found}
    if _Severity.UNSAFE in severities:
        return Exit.DEPENDENCY
    refused = _Severity.PROBLEM in severities or (strict and _Severity.WARNING in severities)
    return Exit.FAILED if refused else Exit.OK


def _of_dependencies(path: Path, config: Config) -> Iterator[_Diagnostic]:
    """Connect to Core, the key store and Core's database; yield the result for each."""
    from gateway.cli.env_checks import check_dependencies
    from gateway.cli.signals import run_until_signal
    from gateway.server.core_check import Finding

    severities = {
        Finding.SAFE: _Severity.NOTE,
        Finding.UNREACHABLE: _Severity.WARNING,
        Finding.UNSAFE: _Severity.UNSAFE,
    }
    for status in run_until_signal(check_dependencies(config)):
        yield _Diagnostic(severities[status.finding], str(path), 0, f"{status.setting}: {status.text}")


def _of_problems(severity: _Severity, problems: Iterable[Problem]) -> Iterator[_Diagnostic]:
    return (_Diagnostic(severity, problem.source, problem.line, problem.text) for problem in problems)


def _of_remark(path: Path, remark: Remark) -> _Diagnostic:
    severity = _Severity.WARNING if remark.warns else _Severity.NOTE
    return _Diagnostic(severity, str(path), remark.line, remark.text)


def _remarks(config: Config, *, coverage: bool, env: bool) -> Iterator[Remark]:
    from gateway.cli.host_limits import describe_missing_files, describe_taken_ports
    from gateway.config.presets import core_table
    from gateway.policy.coverage import shadowed, uncovered, unused_scopes

    core = core_table()
    yield from shadowed(config.routes, core)
    yield from unused_scopes(config.routes, core)
    if config.limits.body > config.upstream.max_body:
        text = "limits.body is larger than upstream.max_body, the size of the largest body that Core gets"
        yield Remark(0, text, warns=True)
    if coverage:
        yield from uncovered(config.routes, core)
    # Without --env the file may be for another machine.
    yield from (Remark(0, text, warns=env) for text in describe_missing_files(config))
    if env:
        yield from (Remark(0, text, warns=True) for text in describe_taken_ports(config))


def _print_report(path: Path, report: _Report) -> None:
    """Print every diagnostic and the result; a file that cannot be read is reported on stderr."""
    for diagnostic in report.diagnostics:
        say(str(diagnostic), err=report.code is Exit.USAGE)
    if report.config is None:
        return
    if report.code is Exit.OK:
        say(f"{path}: ok, {len(report.config.routes.routes)} routes")
    elif all(diagnostic.severity in (_Severity.WARNING, _Severity.NOTE) for diagnostic in report.diagnostics):
        warnings = sum(diagnostic.severity is _Severity.WARNING for diagnostic in report.diagnostics)
        say(f"{path}: refused by --strict, {warnings} {'warning' if warnings == 1 else 'warnings'}")


def _members(path: Path, report: _Report) -> dict[str, object]:
    """Return the members of the JSON object with the report."""
    return {
        "file": str(path),
        "ok": report.code is Exit.OK,
        "routes": report.config and len(report.config.routes.routes),
        "policy_sha256": report.config and report.config.sha256,
        "findings": [diagnostic.members for diagnostic in report.diagnostics],
    }


def _check_reach(url: str, output: str) -> Exit:
    from gateway.cli.reach import ResponderKind, identify_responder

    try:
        found = identify_responder(url)
    except ValueError:
        refuse_option("--reach", "write http://host:port or https://host:port")
    code = {ResponderKind.CORE: Exit.FAILED, ResponderKind.UNKNOWN: Exit.DEPENDENCY}.get(
        found.responder, Exit.OK
    )
    if output == "json":
        say(json.dumps({"url": url, "who": found.responder.name.lower(), "text": found.text}, indent=2))
    else:
        say(f"{url}: {found.text}", err=code is Exit.DEPENDENCY)
    return code
