"""The commands that write a first gateway.yaml, and its schema for editors: init, schema."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gateway.cli.console import EXIT_CODES, config_option, fail, say
from gateway.server.exit_codes import Exit

SCHEMA = "gateway.schema.json"
"""The file, beside a new gateway.yaml, in which an editor finds the schema."""


@click.command(epilog=EXIT_CODES)
@click.option(
    "--preset",
    "name",
    type=click.Choice(["core", "recommended"]),
    default="core",
    show_default=True,
    help="The policy to begin with.",
)
@config_option
def init(name: str, path: Path) -> None:
    """Write a commented gateway.yaml to begin with; an existing file is never overwritten.

    core is Core's own policy, so that nothing changes for its clients. In recommended, filters and searches
    are reads, revealing personal data is a write, and backups need the master key.

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
        fail(f"{path}: this file exists: move it, or name another file with --config", Exit.FAILED)
    except OSError as error:
        fail(f"{path}: cannot be written: {error.strerror}", Exit.USAGE)
    say(f"{path}: written, preset {name}. Next: blnk-gateway check --config {path}")
    say(f"For completion in an editor: blnk-gateway schema > {path.with_name(SCHEMA)}")


@click.command(epilog=EXIT_CODES)
def schema() -> None:
    """Print the JSON Schema of gateway.yaml, for completion in an editor.

    \b
    Examples:
      blnk-gateway schema > gateway.schema.json
    """
    from gateway.config.schema import schema as json_schema

    say(json.dumps(json_schema(), indent=2, ensure_ascii=True))
