"""What the commands share: the configuration they read, the words they say, their exit codes.

Rules kept here:
- Bad input is a text on stderr, never a traceback.
- The process environment is read here and handed on.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from gateway.config import Config, ConfigError, UnreadableConfigError, load_config
from gateway.server.exit_codes import Exit

EXIT_CODES = """\b
Exit codes of every command:
  0  yes
  1  no
  2  usage, or a file that cannot be read
  3  a dependency is unreachable or unsafe
"""


def _named(_ctx: click.Context, _param: click.Parameter, path: Path) -> Path:
    if str(path) == "-":
        raise click.BadParameter("standard input is not read: name a file, or /dev/stdin")
    return path


config_option = click.option(
    "--config",
    "path",
    # Whether it can be read is found out by reading it, and told like every other problem.
    type=click.Path(path_type=Path, readable=False),
    default=Path("gateway.yaml"),
    show_default=True,
    callback=_named,
    help="The configuration.",
)
output_option = click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="text for people, json for programs.",
)


def load(path: Path, *, secrets: bool, err: bool = True) -> Config:
    """The configuration at `path`; exits with every problem, with 2 if unreadable, else 1."""
    try:
        return load_config(path, os.environ, secrets=secrets)
    except UnreadableConfigError as error:
        say(f"{error}{advice(error)}", err=True)
        sys.exit(Exit.USAGE)
    except ConfigError as error:
        say(str(error), err=err)
        sys.exit(Exit.FAILED)


def advice(error: UnreadableConfigError) -> str:
    """What to add to the last problem: how to come by a file where there is none."""
    return "; write one with 'blnk-gateway init', or name another with --config" if error.absent else ""


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Standard streams as commands expect them: one that is closed is empty.

    Exits with 2, in words, where one takes no more; what a command opens itself it answers for itself.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  # for as long as the process
    try:
        yield
    except OSError as error:
        # Or the interpreter would find the same once more, when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # It may be standard error itself.
        with contextlib.suppress(OSError):
            say(f"blnk-gateway: {error.strerror or error}", err=True)
        sys.exit(Exit.USAGE)


def say(text: str, *, err: bool = False) -> None:
    """Print `text` to stdout, or to stderr."""
    stream = sys.stderr if err else sys.stdout
    encoding = stream.encoding or "utf-8"
    # A path of the file system or an answer may hold what the terminal cannot show.
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=err)
