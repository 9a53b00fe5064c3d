"""The command that ranks refused requests, and those that would have been refused: denials.

Rules kept here:
- Rows that are not shown are counted: in the JSON object, or on standard error.
- Ids and codes are never wrapped, so that they can be copied: if a table does not fit, a row takes several
  lines.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Final

import click

from gateway.cli.console import EXIT_CODES, say
from gateway.cli.printing import Printer
from gateway.cli.safe_text import encodable
from gateway.errors import Code
from gateway.policy.explanation import printable

MOST_SHOWN: Final = 30
"""The number of rows that people see by default."""
MOST_ROWS: Final = 100_000
"""The most kinds of denials that are kept apart; further kinds are only counted."""
_MOST_TEXT: Final = 200
_WIDE: Final = 10_000

_NOBODY: Final = {
    Code.MISSING_KEY.code: "(no key)",
    Code.INVALID_KEY.code: "(unknown key)",
    Code.KEY_STORE_UNAVAILABLE.code: "(not looked up)",
}


@dataclass(frozen=True, slots=True)
class DenialKind:
    """One kind of denial; `real` if the request was refused, and not only reported."""

    real: bool
    key_id: str
    owner: str
    route: str
    code: str


@dataclass(slots=True)
class DenialCounts:
    """The number of denials of each kind, and of lines.

    Args:
        kinds: by kind.
        requests: lines about a request.
        foreign: lines that are no lines of the log.
        further: denials of kinds beyond MOST_ROWS.
    """

    kinds: Counter[DenialKind]
    requests: int = 0
    foreign: int = 0
    further: int = 0


@click.command(epilog=EXIT_CODES)
@click.argument("log", type=click.File("rb"), default="-", metavar="[LOG]")
@click.option(
    "--top",
    type=click.IntRange(1),
    show_default=f"{MOST_SHOWN}; with JSON, all",
    help="How many rows to show, the most frequent first.",
)
@click.option(
    "--output",
    type=click.Choice(["auto", "table", "text", "json"]),
    default="auto",
    show_default=True,
    help="table for people, text with tabs, json for programs; auto is table on a terminal, else text.",
)
def denials(log: BinaryIO, top: int | None, output: str) -> None:
    """Rank the requests that the gateway refused, or would have refused, by key and route.

    The command reads the log of `serve`, in either format, from the file LOG or from standard input. "deny"
    was refused; "would deny" passed only because of --observe, or because its route or key is report-only. A
    request that no route matches is shown with its path.

    \b
    Examples:
      blnk-gateway denials access.log
      kubectl logs deploy/blnk-gateway | blnk-gateway denials --top 10
      blnk-gateway denials access.log --output json
    """
    counts = count_denials(log)
    found = sorted(counts.kinds.items(), key=lambda item: (-item[1], item[0].key_id, item[0].route))
    if output == "json":
        _print_json(found, top, counts)
        return
    first = found[: top or MOST_SHOWN]
    if output == "table" or (output == "auto" and sys.stdout.isatty()):
        _print_table(first, counts)
    else:
        _print_text(first)
    if left_out := len(found) - len(first):
        say(f"rows left out: {left_out}; see them with --top {len(found)}", err=True)
    if counts.further:
        say(f"denials of further kinds, left out: {counts.further}", err=True)
    if counts.foreign:
        say(f"lines left out, because they are not from the gateway's log: {counts.foreign}", err=True)


def count_denials(lines: Iterable[bytes]) -> DenialCounts:
    """Count the denials among `lines` of a log, in bounded memory."""
    counts = DenialCounts(Counter())
    for line in lines:
        members = _members(line)
        if members is None:
            counts.foreign += bool(line.strip())
        elif members.get("event") == "request":
            counts.requests += 1
            for kind in _kinds(members):
                if kind in counts.kinds or len(counts.kinds) < MOST_ROWS:
                    counts.kinds[kind] += 1
                else:
                    counts.further += 1
    return counts


def _members(line: bytes) -> dict[str, Any] | None:
    """Return the members of a line in either format; None for a line that is not from the log.

    A collector may have written something in front of a JSON line.
    """
    try:
        members = json.loads(line[line.index(b"{") :])
    except (ValueError, RecursionError):
        # Imported here, so that other commands do not load it.
        from gateway.telemetry.access_log import read_console_line

        return read_console_line(line.decode("utf-8", "replace"))
    return members if isinstance(members, dict) else None


def _kinds(members: dict[str, Any]) -> Iterator[DenialKind]:
    def text(name: str) -> str:
        value = members.get(name)
        return printable(value[:_MOST_TEXT]) if isinstance(value, str) else ""

    would, code = text("would_code"), text("code")
    status = members.get("status")
    # A refused body or rate is a denial as well, although the policy allowed the request.
    refused = text("decision") == "deny" or (code and isinstance(status, int) and 400 <= status < 500)
    if not (would or refused):
        return
    code = would or code
    # A request that no route matches has no route to be named by, so its path shows its ids.
    route = text("route") or f"{text('method')} {text('path')} (no route)".strip()
    key_id = text("key_id") or _NOBODY.get(code, "(none)")
    yield DenialKind(not would, key_id, text("owner"), route, code)


Ranking = list[tuple[DenialKind, int]]


def _decision(row: DenialKind) -> str:
    return "deny" if row.real else "would deny"


def _print_table(found: Ranking, counts: DenialCounts) -> None:
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    console, table = Console(), Table(title=_title(counts))
    for column in ("count", "decision", "key", "owner", "route", "code"):
        table.add_column(column, justify="right" if column == "count" else "left")
    for row, count in found:
        # rich raises an error for a character that the terminal cannot encode.
        cells = (encodable(cell, console.encoding) for cell in (row.key_id, row.owner, row.route, row.code))
        table.add_row(str(count), Text(_decision(row), _style(row)), *map(Text, cells))
    unbroken = Measurement.get(console, console.options.update(width=_WIDE), table).maximum
    if unbroken <= console.width:
        console.print(table)
    else:
        _print_blocks(found, counts)


def _print_blocks(found: Ranking, counts: DenialCounts) -> None:
    """Print three lines for each row, none of them wrapped."""
    printer = Printer()
    printer.line((_title(counts), ""))
    for row, count in found:
        printer.line((f"{count:>7}  ", ""), (_decision(row), _style(row)), (f"  {row.code}", ""))
        printer.line((f"{'':9}{row.route}", ""))
        printer.line((f"{'':9}{row.key_id}  {row.owner}".rstrip(), ""))


def _title(counts: DenialCounts) -> str:
    return f"{counts.kinds.total()} denials in {counts.requests} requests"


def _style(row: DenialKind) -> str:
    return "red" if row.real else "yellow"


def _print_text(found: Ranking) -> None:
    for row, count in found:
        say("\t".join((str(count), _decision(row), row.key_id, row.owner, row.route, row.code)))


def _print_json(found: Ranking, top: int | None, counts: DenialCounts) -> None:
    rows = [
        {"count": count, "kind": _decision(row).replace(" ", "_")} | asdict(row) for row, count in found[:top]
    ]
    for row in rows:
        del row["real"]
    members = {
        "requests": counts.requests,
        "rows_left_out": len(found) - len(rows),
        "denials_uncounted": counts.further,
        "lines_unread": counts.foreign,
        "denials": rows,
    }
    say(json.dumps(members, indent=2))
