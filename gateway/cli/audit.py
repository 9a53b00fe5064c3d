"""The command that prints the audit stream, and ships it: audit.

Rules kept here:
- A shipper prints an entry before it stores its position: it may print one twice, and never leaves one out.
- Only who prints every entry, and into a file or under a name, is a shipper: not a person at a terminal, not
  one who reads a part of them, and not `--follow | jq`.
- With --follow a failure of Redis is waited for. SIGTERM, Ctrl-C and a closed pipe are the usual end of it.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from gateway.cli.arguments import KeyId, PastTime, RecordText, When, resolve_past
from gateway.cli.audit_follow import Follower, usual_end
from gateway.cli.audit_lines import EntryPrinter, Selection, line_of
from gateway.cli.console import EXIT_CODES, config_option, fail
from gateway.cli.dependency_failures import describe
from gateway.cli.keys.store import load_for_keys
from gateway.cli.signals import run_until_signal
from gateway.config import Config
from gateway.errors import GatewayError
from gateway.keys.redis.audit_reader import RedisAuditReader, position_before
from gateway.keys.redis.audit_stream import BEGINNING, is_entry_id
from gateway.server.clocks import utc_now
from gateway.server.exit_codes import Exit

Done = TypeVar("Done")

DEFAULT_NAME: Final = "default"

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_IN_MEMORY: Final = (
    "keys.store is memory://: its audit stream is in the gateway's process, and no other can read it"
)


class _Matching(click.ParamType[str]):
    """Text that `fits`; `advice` says what to write."""

    name = "text"

    def __init__(self, fits: Callable[[str], object], advice: str) -> None:
        self._fits = fits
        self._advice = advice

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text."""
        if not self._fits(str(value)):
            self.fail(self._advice, param, ctx)
        return str(value)


def _is_id(text: str) -> bool:
    """Return whether a text is the id of an entry, or the first half of one."""
    return is_entry_id(text) or is_entry_id(f"{text}-0")


_NAME_TYPE: Final = _Matching(
    _NAME.fullmatch, "write at most 64 letters, digits, dots, hyphens or underscores"
)


@click.command(epilog=EXIT_CODES)
@click.option("--follow", is_flag=True, help="Go on with new entries, until the command is ended.")
@click.option("--since", type=PastTime(), help="Begin at this time: an age, such as 1h, a date, or RFC 3339.")
@click.option(
    "--after",
    type=_Matching(_is_id, "write the id of an entry, such as 1764295200000-0"),
    help="Begin after the entry with this id.",
)
@click.option("--key", "key_id", type=KeyId(), help="Print only changes of this key, and what it has done.")
@click.option("--owner", type=RecordText(), help="Print only entries about keys of this owner.")
@click.option(
    "--name",
    type=_NAME_TYPE,
    help=f"The name of this shipper, with a position of its own; into a file: {DEFAULT_NAME}.",
)
@click.option("--peek", is_flag=True, help="Store no position: this is no shipper.")
@click.option("--forget", type=_NAME_TYPE, help="Forget this shipper, which does not run any more.")
@click.option(
    "--output",
    type=click.Choice(["auto", "table", "json"]),
    default="auto",
    show_default=True,
    help="table for people, json for programs; auto is table on a terminal, else json.",
)
@config_option
def audit(
    *,
    follow: bool,
    since: When | None,
    after: str | None,
    key_id: str | None,
    owner: str | None,
    name: str | None,
    peek: bool,
    forget: str | None,
    output: str,
    path: Path,
) -> None:
    """Print the audit stream: changes of keys, denied attempts, policies, starts and stops.

    With --follow into a file, or with --follow --name on a pipe, the command is a shipper: it continues after
    the last entry that it has printed under its name, and the gateway warns before it trims entries that a
    shipper has not printed. It prints each entry at least once. Run one process for each name.

    \b
    Examples:
      blnk-gateway audit --since 1h
      blnk-gateway audit --key api_key_... --output json
      blnk-gateway audit --follow >> audit.jsonl
      blnk-gateway audit --follow --name siem | my-shipper
    """
    if since is not None and after is not None:
        raise click.UsageError("use --since or --after, not both")
    selection = Selection(key_id, owner)
    may_ship = follow and selection.everything and not sys.stdout.isatty() and not peek
    ships = may_ship and (name is not None or _into_a_file())
    if name is not None and not ships:
        raise click.UsageError(
            "--name is for a shipper: --follow on a pipe or into a file, without --key, --owner and --peek"
        )
    begin = after if since is None else position_before(resolve_past(since, utc_now(), "--since").unix)
    config = load_for_keys(path, changing=False, in_memory=_IN_MEMORY)
    if forget is not None:
        _forget(config, forget)
        return
    printer = EntryPrinter(selection, line_of(output, sys.stdout))
    if not follow:
        _run(config, lambda reader: _print_kept(reader, begin or BEGINNING, printer))
        return
    shipper = (name or DEFAULT_NAME) if ships else None
    with usual_end():
        _run(config, lambda reader: Follower(reader, printer, shipper).follow(begin))


def _into_a_file() -> bool:
    return stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)


def _forget(config: Config, shipper: str) -> None:
    if not _run(config, lambda reader: reader.forget(shipper)):
        fail(f"{shipper}: no such shipper", Exit.FAILED)


def _run(config: Config, work: Callable[[RedisAuditReader], Awaitable[Done]]) -> Done:
    """Return the result of `work` on the stream; exit with 3 if Redis fails."""

    async def work_and_close() -> Done:
        reader = RedisAuditReader(config.keys.store)
        try:
            return await work(reader)
        finally:
            await reader.close()

    try:
        return run_until_signal(work_and_close())
    except GatewayError as failure:
        fail(*describe(failure, config))


async def _print_kept(reader: RedisAuditReader, after: str, printer: EntryPrinter) -> None:
    """Print the entries that are kept."""
    whole = False
    while not whole:
        batch = await reader.read(after)
        click.echo(printer.lines(batch), nl=False)
        whole, after = batch.whole, batch.last or after
