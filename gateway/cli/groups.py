"""Lists the commands of a group, and accepts `help` in place of `--help`.

Rules kept here:
- A summary is never cut: it continues on the next line.
"""

from __future__ import annotations

from typing import Final

import click

NO_LIMIT: Final = 1000
"""More characters than any summary has."""


class CommandGroup(click.Group):
    """A group that accepts `help` and `help COMMAND` for `--help` and `COMMAND --help`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does, after `help` has become the option."""
        return super().parse_args(ctx, [*args[1:], "--help"] if args[:1] == ["help"] else args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List every command with the whole first sentence of its help."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        listed = [
            (name, command.get_short_help_str(NO_LIMIT))
            for name, command in commands
            if command and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(listed)
