"""A group of commands: how its help lists them, and `help` in place of `--help`.

Rules kept here:
- A summary is never cut: it goes on in the next line.
"""

from __future__ import annotations

from typing import Final

import click

_WHOLE: Final = 1000
"""More characters than any first sentence has."""


class CommandGroup(click.Group):
    """Takes `help` and `help COMMAND` for `--help` and `COMMAND --help`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does it, after `help` has become the option."""
        return super().parse_args(ctx, [*args[1:], "--help"] if args[:1] == ["help"] else args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List every command with the whole first sentence of its help."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        shown = [(name, one.get_short_help_str(_WHOLE)) for name, one in commands if one and not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(shown)
