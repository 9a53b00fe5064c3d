"""Write the table of all commands into `deploy/reference.md`; runs in the tests' environment."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from gateway.cli import cli
from tests.running import ROOT
from tests.sections import Section

REFERENCE = ROOT / "deploy" / "reference.md"
SECTION = Section("options", "Options", "python3 -m tests.docs")
_LONGEST = 1_000
"""More characters than any summary has."""


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, by its whole name, in order."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def table() -> str:
    """Return a row for each command: its name, its options but `--help`, and its summary."""
    rows = ["| command | options | what it does |", "|---|---|---|"]
    for name, command in commands(cli, "blnk-gateway"):
        options = (parameter for parameter in command.params if isinstance(parameter, click.Option))
        names = ", ".join(f"`{option.opts[-1]}`" for option in options if not option.hidden)
        summary = command.get_short_help_str(_LONGEST).replace("|", r"\|")
        rows.append(f"| `{name}` | {names} | {summary} |")
    return "\n".join(rows)


def main() -> int:
    SECTION.write_into(REFERENCE, table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
