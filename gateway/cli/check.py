"""The command that checks a configuration, or who answers at Core's address: check."""

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

from gateway.cli.console import EXIT_CODES, advice, config_option, output_option, say
from gateway.config import Config, ConfigError, UnreadableConfigError, load_config
from gateway.keys.authority import CORE_PACKAGES, CORE_PACKAGES_MISSING
from gateway.policy.coverage import Remark
from gateway.policy.problems import Problem
from gateway.server.exit_codes import Exit


class _Level(enum.Enum):
    """How much a finding matters."""

    PROBLEM = "problem"
    """The configuration is refused."""
    WARNING = "warning"
    """It is taken, but not with --strict."""
    NOTE = "note"
    UNSAFE = "error"
    """A dependency must not be used as it is."""


@dataclass(frozen=True, slots=True)
class _Finding:
    """Something that `check` has to say of a line; the line 0 stands for none."""

    level: _Level
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        """As editors and terminals link it; a problem needs no word for it."""
        level = "" if self.level is _Level.PROBLEM else f"{self.level.value}: "
        return str(Problem(self.line, level + self.text, self.path))

    @property
    def members(self) -> dict[str, object]:
        """For programs."""
        line = self.line or None
        return {"level": self.level.value, "path": self.path, "line": line, "text": self.text}


@dataclass(frozen=True, slots=True)
class _Report:
    """What came of a check; without a configuration it was refused."""

    code: Exit
    findings: tuple[_Finding, ...]
    config: Config | None = None


@click.command(epilog=EXIT_CODES)
@config_option
@click.option("--coverage", is_flag=True, help="Warn of Core's routes that no route covers.")
@click.option("--strict", is_flag=True, help="Exit 1 on a warning too.")
@click.option(
    "--env",
    is_flag=True,
    help="Check variables, files, packages, ports; reach Core and the key store.",
)
@click.option("--reach", metavar="URL", help="Ask this address of Core instead; 1 if a Core answers.")
@output_option
def check(path: Path, *, coverage: bool, strict: bool, env: bool, reach: str | None, output: str) -> None:
    """Print every problem of a configuration, each with its line, and what may not be meant.

    A warning is: a secret in clear, or $NAME in place of one; report-only that is over; routes that cross; a
    deny that a more specific route passes by; a scope that Core's routes ask for and these routes do not.
    Without --env no secret is needed, and neither Core nor Redis is asked.

    With --env Core and the key store are asked as serve asks them. One that cannot be reached is a warning
    that says why, for serve waits for it; a Core that must not be used exits with 3. It also warns of ports
    that are taken here, and of connections for which this machine has too few open files.

    With --reach no file is read. Run it from where a client stands, with the address of Core: a Core that
    answers there can be used without the gateway. Exit codes then: 0 no Core answers, 1 a Core answers,
    3 it cannot be told who answers.

    \b
    Examples:
      blnk-gateway check
      blnk-gateway check --config deploy/gateway.yaml --coverage --strict
      BLNK_MASTER_KEY=... blnk-gateway check --env
      blnk-gateway check --output json
      blnk-gateway check --reach http://core.internal:5001
    """
    if reach is not None:
        sys.exit(_reach(reach, output))
    report = _checked(path, coverage=coverage, strict=strict, env=env)
    if output == "json":
        say(json.dumps(_members(path, report), indent=2))
    else:
        _tell(path, report)
    sys.exit(report.code)


def _checked(path: Path, *, coverage: bool, strict: bool, env: bool) -> _Report:
    try:
        config = load_config(path, os.environ, secrets=env)
    except UnreadableConfigError as error:
        (problem,) = error.problems
        text = problem.text + advice(error)
        return _Report(Exit.USAGE, (_Finding(_Level.PROBLEM, problem.source, problem.line, text),))
    except ConfigError as error:
        return _Report(Exit.FAILED, tuple(_findings(_Level.PROBLEM, error.problems)))
    findings = [
        *_findings(_Level.WARNING, config.warnings),
        *(_of_remark(path, remark) for remark in _remarks(config, coverage=coverage, env=env)),
    ]
    if env and config.keys.authority == "core" and not all(map(find_spec, CORE_PACKAGES)):
        findings.append(_Finding(_Level.PROBLEM, str(path), 0, CORE_PACKAGES_MISSING))
    elif env:
        findings += _of_dependencies(path, config)
    found = tuple(sorted(findings, key=lambda finding: finding.line))
    return _Report(_code(found, strict=strict), found, config)


def _code(found: Iterable[_Finding], *, strict: bool) -> Exit:
    levels = {finding.level for finding in found}
    if _Level.UNSAFE in levels:
        return Exit.DEPENDENCY
    return Exit.FAILED if _Level.PROBLEM in levels or (strict and _Level.WARNING in levels) else Exit.OK


def _of_dependencies(path: Path, config: Config) -> Iterator[_Finding]:
    """What is so of Core, the key store and Core's database."""
    from gateway.cli.dependencies import states
    from gateway.cli.signals import run

    for state in run(states(config)):
        level = _Level.UNSAFE if state.unsafe else _Level.WARNING if state.warns else _Level.NOTE
        yield _Finding(level, str(path), 0, f"{state.setting}: {state.text}")


def _findings(level: _Level, problems: Iterable[Problem]) -> Iterator[_Finding]:
    return (_Finding(level, problem.source, problem.line, problem.text) for problem in problems)


def _of_remark(path: Path, remark: Remark) -> _Finding:
    level = _Level.WARNING if remark.warns else _Level.NOTE
    return _Finding(level, str(path), remark.line, remark.text)


def _remarks(config: Config, *, coverage: bool, env: bool) -> Iterator[Remark]:
    from gateway.cli.host_limits import limited, taken
    from gateway.config.presets import core_table
    from gateway.policy.coverage import shadowed, uncovered, unused_scopes

    core = core_table()
    yield from shadowed(config.routes, core)
    yield from unused_scopes(config.routes, core)
    if config.limits.body > config.upstream.max_body:
        text = "limits.body is larger than upstream.max_body, which is the largest body that passes to Core"
        yield Remark(0, text, warns=True)
    if coverage:
        yield from uncovered(config.routes, core)
    # Without --env the file may be meant for another machine.
    yield from (Remark(0, text, warns=env) for text in limited(config))
    if env:
        yield from (Remark(0, text, warns=True) for text in taken(config))


def _tell(path: Path, report: _Report) -> None:
    """Print every finding on a line, and how it ended; why a file cannot be read goes to stderr."""
    for finding in report.findings:
        say(str(finding), err=report.code is Exit.USAGE)
    if report.config is None:
        return
    if report.code is Exit.OK:
        say(f"{path}: ok, {len(report.config.routes.routes)} routes")
    elif not any(finding.level in (_Level.PROBLEM, _Level.UNSAFE) for finding in report.findings):
        warnings = sum(finding.level is _Level.WARNING for finding in report.findings)
        say(f"{path}: refused by --strict, {warnings} {'warning' if warnings == 1 else 'warnings'}")


def _members(path: Path, report: _Report) -> dict[str, object]:
    """The report for programs: members of one JSON object."""
    return {
        "file": str(path),
        "ok": report.code is Exit.OK,
        "routes": report.config and len(report.config.routes.routes),
        "policy_sha256": report.config and report.config.sha256,
        "findings": [finding.members for finding in report.findings],
    }


def _reach(url: str, output: str) -> Exit:
    from gateway.cli.reach import Who, who_answers

    try:
        found = who_answers(url)
    except ValueError:
        message = "write http://host:port or https://host:port"
        raise click.BadParameter(message, param_hint="--reach") from None
    code = {Who.CORE: Exit.FAILED, Who.UNKNOWN: Exit.DEPENDENCY}.get(found.who, Exit.OK)
    if output == "json":
        say(json.dumps({"url": url, "who": found.who.name.lower(), "text": found.text}, indent=2))
    else:
        say(f"{url}: {found.text}", err=code is Exit.DEPENDENCY)
    return code
