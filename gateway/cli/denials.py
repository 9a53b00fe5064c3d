"""The command that ranks what was refused, and what would have been: denials.

Rules kept here:
- What is not shown is counted: in the JSON itself, else on standard error.
- Ids and codes are never broken, so that they can be copied: where a table does not fit, a row takes lines.
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
from gateway.errors import Code
from gateway.policy.explanation import printable

MOST_SHOWN: Final = 30
"""Rows that people see where they name no number."""
MOST_ROWS: Final = 100_000
"""Kinds of denials that are told apart; those that come new beyond it are counted as one."""
_MOST_TEXT: Final = 200
_WIDE: Final = 10_000

_NOBODY: Final = {
    Code.MISSING_KEY.code: "(no key)",
    Code.INVALID_KEY.code: "(unknown key)",
    Code.KEY_STORE_UNAVAILABLE.code: "(not looked up)",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of denial; `real` where it was answered, not only reported."""

    real: bool
    key_id: str
    owner: str
    route: str
    code: str


@dataclass(slots=True)
class Ranking:
    """How often each kind came up, of how many lines of requests; `strange` lines are none."""

    rows: Counter[Row]
    requests: int = 0
    strange: int = 0
    uncounted: int = 0


@click.command(epilog=EXIT_CODES)
@click.argument("log", type=click.File("rb"), default="-", metavar="[LOG]")
@click.option(
    "--top",
    type=click.IntRange(1),
    show_default=f"{MOST_SHOWN}; with JSON, all",
    help="How many to show, the most frequent.",
)
@click.option(
    "--output",
    type=click.Choice(["auto", "table", "text", "json"]),
    default="auto",
    show_default=True,
    help="A table for people, lines with tabs, or JSON; auto: a table on a terminal, else lines.",
)
def denials(log: BinaryIO, top: int | None, output: str) -> None:
    """Rank what the gateway refused, or would have refused, by key and route.

    Reads the log of `serve`, in either format, from the file LOG, or from standard input. "would deny" is
    what passed only because of --observe, or of a route or key that is report-only; "deny" was refused. A
    request that no route lists is shown by its path.

    \b
    Examples:
      blnk-gateway denials access.log
      kubectl logs deploy/blnk-gateway | blnk-gateway denials --top 10
      blnk-gateway denials access.log --output json
    """
    ranking = rank(log)
    found = sorted(ranking.rows.items(), key=lambda item: (-item[1], item[0].key_id, item[0].route))
    if output == "json":
        _json(found, top, ranking)
        return
    first = found[: top or MOST_SHOWN]
    if output == "table" or (output == "auto" and sys.stdout.isatty()):
        _table(first, ranking)
    else:
        _text(first)
    if left_out := len(found) - len(first):
        say(f"{left_out} more rows were left out: see them with --top {len(found)}", err=True)
    if ranking.uncounted:
        say(f"{ranking.uncounted} denials of further kinds were left out", err=True)
    if ranking.strange:
        say(f"{ranking.strange} lines are none of the log, and were left out", err=True)


def rank(lines: Iterable[bytes]) -> Ranking:
    """Count the denials among `lines` of a log, in bounded memory."""
    ranking = Ranking(Counter())
    for line in lines:
        members = _members(line)
        if members is None:
            ranking.strange += bool(line.strip())
        elif members.get("event") == "request":
            ranking.requests += 1
            for row in _rows(members):
                if row in ranking.rows or len(ranking.rows) < MOST_ROWS:
                    ranking.rows[row] += 1
                else:
                    ranking.uncounted += 1
    return ranking


def _members(line: bytes) -> dict[str, Any] | None:
    """The members of a line, JSON or for people; what collectors write before it is skipped."""
    try:
        members = json.loads(line[line.index(b"{") :])
    except (ValueError, RecursionError):
        # Imported here, so that no other command carries it.
        from gateway.telemetry.access_log import read_console_line

        return read_console_line(line.decode("utf-8", "replace"))
    return members if isinstance(members, dict) else None


def _rows(members: dict[str, Any]) -> Iterator[Row]:
    def text(name: str) -> str:
        value = members.get(name)
        return printable(value[:_MOST_TEXT]) if isinstance(value, str) else ""

    would, code = text("would_code"), text("code")
    status = members.get("status")
    # A body or a rate that is refused to someone who may is a refusal as well.
    refused = text("decision") == "deny" or (code and isinstance(status, int) and 400 <= status < 500)
    if not (would or refused):
        return
    code = would or code
    # A request that no route lists has no name of its own; its ids stay in its path.
    route = text("route") or f"{text('method')} {text('path')} (no route)".strip()
    key_id = text("key_id") or _NOBODY.get(code, "(none)")
    yield Row(not would, key_id, text("owner"), route, code)


Found = list[tuple[Row, int]]


def _kind(row: Row) -> str:
    return "deny" if row.real else "would deny"


def _table(found: Found, ranking: Ranking) -> None:
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(title=_title(ranking))
    for column in ("count", "decision", "key", "owner", "route", "code"):
        table.add_column(column, justify="right" if column == "count" else "left")
    for row, count in found:
        cells = (row.key_id, row.owner, row.route, row.code)
        table.add_row(str(count), Text(_kind(row), _style(row)), *map(Text, cells))
    console = Console()
    unbroken = Measurement.get(console, console.options.update(width=_WIDE), table).maximum
    if unbroken <= console.width:
        console.print(table)
    else:
        _blocks(found, ranking)


def _blocks(found: Found, ranking: Ranking) -> None:
    """Three lines for each row, none of them broken."""
    printer = Printer()
    printer.line((_title(ranking), ""))
    for row, count in found:
        printer.line((f"{count:>7}  ", ""), (_kind(row), _style(row)), (f"  {row.code}", ""))
        printer.line((f"{'':9}{row.route}", ""))
        printer.line((f"{'':9}{row.key_id}  {row.owner}".rstrip(), ""))


def _title(ranking: Ranking) -> str:
    return f"{sum(ranking.rows.values())} denials in {ranking.requests} requests"


def _style(row: Row) -> str:
    return "red" if row.real else "yellow"


def _text(found: Found) -> None:
    for row, count in found:
        say("\t".join((str(count), _kind(row), row.key_id, row.owner, row.route, row.code)))


def _json(found: Found, top: int | None, ranking: Ranking) -> None:
    rows = [
        {"count": count, "kind": _kind(row).replace(" ", "_")} | asdict(row) for row, count in found[:top]
    ]
    for row in rows:
        del row["real"]
    members = {
        "requests": ranking.requests,
        "rows_left_out": len(found) - len(rows),
        "denials_uncounted": ranking.uncounted,
        "lines_unread": ranking.strange,
        "denials": rows,
    }
    say(json.dumps(members, indent=2))
