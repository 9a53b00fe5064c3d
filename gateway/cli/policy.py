"""The verbs of the policy: check."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click

from gateway.cli.console import EXIT_CODES, config_option, load, say
from gateway.config import Config
from gateway.exits import Exit
from gateway.keys.authority import CORE_PACKAGES, CORE_PACKAGES_MISSING
from gateway.policy.coverage import Remark


@click.command(epilog=EXIT_CODES)
@config_option
@click.option("--coverage", is_flag=True, help="Warn of Core's routes that no route covers.")
@click.option("--strict", is_flag=True, help="Exit 1 on a warning too.")
@click.option("--env", is_flag=True, help="Check variables, secret files and packages, too.")
@click.option("--reach", metavar="URL", help="Ask this address of Core instead; 1 if a Core answers.")
def check(path: Path, *, coverage: bool, strict: bool, env: bool, reach: str | None) -> None:
    """Print every problem of a configuration, each with its line, and what may not be meant.

    Warned is of routes that cross, of a deny that a more specific route passes by, and of scopes that Core's
    routes ask for and these routes no more. Without --env it needs no secret; never Redis or Core.

    With --reach no file is read. Run it from where a client stands, with the address of Core: a Core that
    answers there can be used without the gateway. Exit codes then: 0 no Core answers, 1 a Core answers,
    3 it cannot be told who answers.

    \b
    Examples:
      blnk-gateway check
      blnk-gateway check --config deploy/gateway.yaml --coverage --strict
      BLNK_MASTER_KEY=... blnk-gateway check --env
      blnk-gateway check --reach http://core.internal:5001
    """
    if reach is not None:
        sys.exit(_reach(reach))
    config = load(path, secrets=env, err=False)
    remarks = sorted(_remarks(config, coverage=coverage), key=lambda remark: remark.line)
    for remark in remarks:
        place = f"{path}:{remark.line}" if remark.line else str(path)
        say(f"{place}: {'warning' if remark.warns else 'note'}: {remark.text}")
    if env and config.keys.authority == "core" and not all(map(find_spec, CORE_PACKAGES)):
        say(f"{path}: {CORE_PACKAGES_MISSING}")
        sys.exit(Exit.NO)
    warnings = sum(remark.warns for remark in remarks)
    if strict and warnings:
        say(f"{path}: refused by --strict, {warnings} {'warning' if warnings == 1 else 'warnings'}")
        sys.exit(Exit.NO)
    say(f"{path}: ok, {len(config.routes.routes)} routes")


def _remarks(config: Config, *, coverage: bool) -> Iterator[Remark]:
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


def _reach(url: str) -> Exit:
    from gateway.cli.reach import Who, who_answers

    try:
        found = who_answers(url)
    except ValueError:
        message = "write http://host:port or https://host:port"
        raise click.BadParameter(message, param_hint="--reach") from None
    code = {Who.CORE: Exit.NO, Who.UNKNOWN: Exit.NEIGHBOUR}.get(found.who, Exit.YES)
    say(f"{url}: {found.text}", err=code is Exit.NEIGHBOUR)
    return code
