"""Defines the commands of `blnk-gateway`.

Rules kept here:
- Every command exits with a code of `gateway.server.exit_codes.Exit`.
- A command imports what it runs inside its function, so that `serve` loads nothing of the other commands.
"""

from __future__ import annotations

import click

from gateway.cli.audit import audit
from gateway.cli.check import check
from gateway.cli.console import EXIT_CODES, standard_streams
from gateway.cli.denials import denials
from gateway.cli.diff import diff
from gateway.cli.explain import explain_request
from gateway.cli.groups import CommandGroup
from gateway.cli.init import init, schema
from gateway.cli.keys.group import keys
from gateway.cli.policy_tests import run_policy_tests
from gateway.cli.running import demo, health, serve
from gateway.cli.shell_files import completion, man
from gateway.cli.signals import exit_on_sigterm
from gateway.server.version import build_kind, version

__all__ = ["cli", "main"]


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.version_option(f"{version()} ({build_kind()})", prog_name="blnk-gateway")
def cli() -> None:
    """An auth gateway for Blnk Core: keys, scopes and lossless attribution in front of the ledger.

    \b
    A first look:        blnk-gateway demo
    In front of a Core:  blnk-gateway check && blnk-gateway serve
    About a command:     blnk-gateway help COMMAND
    Completion in bash:  eval "$(blnk-gateway completion bash)"
    """


for command in (serve, init, schema, check, diff, explain_request, run_policy_tests, denials, keys):
    cli.add_command(command)
for command in (audit, health, demo, completion, man):
    cli.add_command(command)


def main() -> None:
    """Run the `blnk-gateway` command.

    SIGTERM ends a command as Ctrl-C does, so that the command cleans up; `serve` drains.
    """
    exit_on_sigterm()
    with standard_streams():
        cli()
