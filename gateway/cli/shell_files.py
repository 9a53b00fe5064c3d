"""The commands that write files for a shell and its users: completion, man."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from gateway.cli.console import EXIT_CODES, fail, say
from gateway.server.exit_codes import Exit
from gateway.server.version import version

PROGRAM: Final = "blnk-gateway"
_SHELLS: Final[dict[str, type[ShellComplete]]] = {
    "bash": BashComplete,
    "zsh": ZshComplete,
    "fish": FishComplete,
}
_VARIABLE: Final = "_BLNK_GATEWAY_COMPLETE"
"""The variable by which a completion script asks the program for words; click makes its name of PROGRAM."""


@click.command(epilog=EXIT_CODES)
@click.argument("shell", type=click.Choice([*_SHELLS]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes commands, options and files in a shell.

    bash has to be 4.4 or newer.

    \b
    Examples:
      blnk-gateway completion bash > ~/.local/share/bash-completion/completions/blnk-gateway
      blnk-gateway completion zsh > ~/.zfunc/_blnk-gateway
      blnk-gateway completion fish > ~/.config/fish/completions/blnk-gateway.fish
    """
    say(_SHELLS[shell](context.find_root().command, {}, PROGRAM, _VARIABLE).source())


@click.command(epilog=EXIT_CODES)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.pass_context
def man(context: click.Context, directory: Path) -> None:
    """Write a man page of each command into DIRECTORY, over those of another version.

    \b
    Examples:
      blnk-gateway man /usr/local/share/man/man1
      blnk-gateway man /tmp/man/man1 && man -M /tmp/man blnk-gateway-keys-create
    """
    from gateway.cli.man_pages import man_pages

    pages = man_pages(context.find_root().command, PROGRAM, version())
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, page in pages.items():
            (directory / f"{name}.1").write_text(page, encoding="utf-8")
    except OSError as error:
        fail(f"{directory}: cannot be written: {error.strerror}", Exit.USAGE)
    say(f"{directory}: {len(pages)} pages written")
