"""Reads the configuration, prints text and ends commands, for all of them.

Rules kept here:
- Wrong input ends a command with a message on stderr, never with a traceback.
- What is printed for people controls no terminal.
- Other packages get the process environment as an argument.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import click

from gateway.cli.safe_text import encodable, safe_json, safe_text
from gateway.config import Config, ConfigError, UnreadableConfigError, load_config
from gateway.server.exit_codes import Exit

EXIT_CODES = """\b
Exit codes of every command:
  0  success, or yes
  1  failure, or no
  2  wrong usage, or a file that cannot be read
  3  a dependency is unreachable, or unsafe to use
"""


def _reject_standard_input(_ctx: click.Context, _param: click.Parameter, path: Path) -> Path:
    if str(path) == "-":
        raise click.BadParameter("standard input is not read: name a file, or /dev/stdin")
    return path


config_option = click.option(
    "--config",
    "path",
    # Reading it tells whether it can be read; that problem is reported like every other one.
    type=click.Path(path_type=Path, readable=False),
    default=Path("gateway.yaml"),
    show_default=True,
    callback=_reject_standard_input,
    help="The configuration file.",
)
output_option = click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="text for people, json for programs.",
)


def load(path: Path, *, secrets: bool, refused: Callable[[ConfigError], None] = lambda _: None) -> Config:
    """Return the configuration at `path`; print every problem and exit with 2 if unreadable, else with 1.

    `refused` is called with the problems of a file that could be read, before they are printed.
    """
    try:
        return load_config(path, os.environ, secrets=secrets)
    except UnreadableConfigError as error:
        fail(f"{error}{missing_file_advice(error)}", Exit.USAGE)
    except ConfigError as error:
        refused(error)
        fail(str(error), Exit.FAILED)


def missing_file_advice(error: UnreadableConfigError) -> str:
    """Return what to add to the problem if there is no file: how to get one."""
    return "; write one with 'blnk-gateway init', or name another with --config" if error.absent else ""


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Replace closed standard streams by empty ones, and report one that can take no more.

    Exits with 2, with a message, where a standard stream fails; a command handles the files it opens itself.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  # for as long as the process
    try:
        yield
    except OSError as error:
        # Without this the interpreter fails once more when it flushes the stream at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # The stream that failed may be standard error itself.
        with contextlib.suppress(OSError):
            say(f"blnk-gateway: {error.strerror or error}", err=True)
        sys.exit(Exit.USAGE)


def say(text: str, *, err: bool = False) -> None:
    """Print `text` to stdout, or to stderr."""
    stream = sys.stderr if err else sys.stdout
    # A file name or a response may hold what the terminal cannot show.
    click.echo(encodable(safe_text(text), stream.encoding or "utf-8"), err=err)


def write_json(value: object, *, indent: int = 0) -> None:
    """Print a value to stdout as JSON: one line, or indented by so many blanks."""
    click.echo(safe_json(value, sys.stdout.encoding or "utf-8", indent=indent))


def fail(text: str, code: Exit) -> NoReturn:
    """Print why to stderr, and exit."""
    say(text, err=True)
    sys.exit(code)
