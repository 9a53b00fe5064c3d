"""The commands that write what others begin with: init, schema."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from gateway.cli.console import EXIT_CODES, config_option, say
from gateway.server.exit_codes import Exit

SCHEMA = "gateway.schema.json"
"""Where a new gateway.yaml looks for its schema: beside it."""


@click.command(epilog=EXIT_CODES)
@click.option(
    "--preset",
    "name",
    type=click.Choice(["core", "recommended"]),
    default="core",
    show_default=True,
    help="Which policy.",
)
@config_option
def init(name: str, path: Path) -> None:
    """Write a commented gateway.yaml to begin with; never over a file that is there.

    core is Core's own policy, so that nothing changes for its clients. recommended differs: filters and
    searches are reads, revealing personal data is a write, and backups need the master key.

    \b
    Examples:
      blnk-gateway init
      blnk-gateway init --preset recommended --config deploy/gateway.yaml
      blnk-gateway diff --preset core --preset recommended
    """
    from gateway.config.presets import starting_file

    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(starting_file(name, SCHEMA))
    except FileExistsError:
        say(f"{path}: is there already: move it away, or name another file with --config", err=True)
        sys.exit(Exit.FAILED)
    except OSError as error:
        say(f"{path}: cannot be written: {error.strerror}", err=True)
        sys.exit(Exit.USAGE)
    say(f"{path}: written, preset {name}. Next: blnk-gateway check --config {path}")
    say(f"An editor completes from its schema: blnk-gateway schema > {path.with_name(SCHEMA)}")


@click.command(epilog=EXIT_CODES)
def schema() -> None:
    """Print the JSON Schema of gateway.yaml, from which an editor completes.

    \b
    Examples:
      blnk-gateway schema > gateway.schema.json
    """
    from gateway.config.schema import schema as of_the_file

    say(json.dumps(of_the_file(), indent=2, ensure_ascii=True))
