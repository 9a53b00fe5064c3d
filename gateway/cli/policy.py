"""The verbs of the policy: check."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.console import EXIT_CODES, config_option, load, say


@click.command(epilog=EXIT_CODES)
@config_option
def check(path: Path) -> None:
    """Print every problem of a configuration, each with its line.

    Needs no secret, no Redis and no Core.

    \b
    Examples:
      blnk-gateway check
      blnk-gateway check --config deploy/gateway.yaml
    """
    config = load(path, secrets=False, err=False)
    say(f"{path}: ok, {len(config.routes.routes)} routes")
