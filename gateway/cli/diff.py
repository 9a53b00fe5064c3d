"""The command that compares two configurations: diff."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import click

from gateway.cli.config_source import PRESET, read_source
from gateway.cli.console import EXIT_CODES, config_option, fail, output_option, say
from gateway.cli.printing import Part, Printer
from gateway.config import Config, ConfigError, UnreadableConfigError
from gateway.config.differences import Difference, differences
from gateway.config.rendering import rendered_duration
from gateway.config.report_only_dates import MODE, last_day
from gateway.policy.routes import Route, Stamp
from gateway.policy.table_diff import ANY_KEY, ANYONE, MASTER, ChangeKind, PolicyChange, changes
from gateway.server.exit_codes import Exit

_WIDER, _NARROWER, _OTHER = ("+", "bold red"), ("-", "green"), ("~", "yellow")
_WORDS = {
    ANYONE: "anyone, without a key",
    ANY_KEY: "any live key, until its date",
    MASTER: "the master key",
}


@dataclass(frozen=True, slots=True)
class _Side:
    """A configuration and its name on the command line."""

    name: str
    config: Config
    is_file: bool

    def place(self, route: Route) -> str:
        """Return the place of the route, as terminals link it; "" for a preset."""
        return f"  {self.name}:{route.line}" if self.is_file else ""


@dataclass(frozen=True, slots=True)
class _DiffSides:
    """Two configurations, and the differences between them."""

    old: _Side
    new: _Side
    changes: tuple[PolicyChange, ...]
    settings: tuple[Difference, ...]

    @property
    def wider(self) -> int:
        """The number of differences that let someone do more."""
        return sum(one.widens for one in self.changes) + sum(one.widens for one in self.settings)


class _PresetsInOrder(click.Command):
    """A command that takes `--preset NAME` as OLD or NEW, by its place among the arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _preset_as_argument(args))


def _preset_as_argument(args: Iterable[str]) -> list[str]:
    kept: list[str] = []
    given = iter(args)
    for arg in given:
        if arg == "--":
            return [*kept, arg, *given]
        option, _, name = arg.partition("=")
        if option == "--preset" and (name or (name := next(given, ""))):
            kept.append(PRESET + name)
        else:
            kept.append(arg)
    return kept


@click.command(cls=_PresetsInOrder, epilog=EXIT_CODES)
@click.argument("old")
@click.argument("new", required=False)
@click.option(
    "--preset",
    metavar="core|recommended",
    expose_value=False,
    help="A preset, as OLD or as NEW.",
)
@click.option(
    "--fail-on-widening", is_flag=True, help="Exit with 1 if anyone may do more, or a stamp is lost."
)
@output_option
@config_option
def diff(old: str, new: str | None, path: Path, output: str, *, fail_on_widening: bool) -> None:
    """Show who may do more or less under NEW than under OLD.

    OLD and NEW are files, or REV:FILE for a file in git, or --preset NAME for a preset. Without NEW, the
    configuration file is NEW. The command compares the decisions about requests to every route of OLD, NEW
    and Core, so it also shows requests that a wildcard newly covers, or that a new line takes from another.
    Variables of the environment change nothing.

    \b
      +  someone may do more, or a stamp is lost; the most dangerous first
      -  someone may do less
      ~  neither

    Exit codes here: 0 compared, 1 wider and --fail-on-widening (or OLD or NEW is refused), 2 wrong usage, or
    OLD or NEW cannot be read.

    \b
    Examples:
      blnk-gateway diff HEAD:gateway.yaml
      blnk-gateway diff origin/main:gateway.yaml gateway.yaml --fail-on-widening
      blnk-gateway diff --preset core gateway.yaml --output json
      blnk-gateway diff --preset core --preset recommended
    """
    before, after = _read_sides(old, str(path) if new is None else new)
    from gateway.config.presets import core_table

    found = changes(before.config.routes, after.config.routes, core_table())
    compared = _DiffSides(before, after, found, differences(before.config, after.config))
    if output == "json":
        say(json.dumps(_members(compared), indent=2))
    else:
        _print_comparison(compared)
    sys.exit(Exit.FAILED if fail_on_widening and compared.wider else Exit.OK)


def _read_sides(*names: str) -> list[_Side]:
    """Return both sides; print every problem of both and exit if there is one."""
    sides, refused = [], []
    for name in names:
        try:
            sides.append(_Side(name.removeprefix(PRESET), read_source(name), not name.startswith(PRESET)))
        except ConfigError as error:
            refused.append(error)
    if refused:
        unreadable = any(isinstance(error, UnreadableConfigError) for error in refused)
        fail("\n".join(dict.fromkeys(map(str, refused))), Exit.USAGE if unreadable else Exit.FAILED)
    return sides


def _print_comparison(compared: _DiffSides) -> None:
    printer = Printer()
    printer.line((f"{compared.old.name} -> {compared.new.name}", "bold"))
    names = [f"{change.method} {change.path}" for change in compared.changes]
    width = max(map(len, (*names, *(one.path for one in compared.settings))), default=0)
    for change, name in zip(compared.changes, names, strict=True):
        place = (_place(change, compared), "cyan")
        printer.line(_mark(change), (f" {name:{width}}  ", "bold"), (_effect(change), ""), place)
    for one in compared.settings:
        mark = _WIDER if one.widens else _OTHER
        printer.line(mark, (f" {one.path:{width}}  ", "bold"), (_values(one), ""))
    printer.line(_summary(compared))


def _place(change: PolicyChange, compared: _DiffSides) -> str:
    """Return the place of the new route, or else of the old one."""
    if change.new is not None:
        return compared.new.place(change.new)
    return compared.old.place(change.old) if change.old is not None else ""


def _mark(change: PolicyChange) -> Part:
    if change.widens:
        return _WIDER
    return _NARROWER if change.closed else _OTHER


def _effect(change: PolicyChange) -> str:
    """Return the change for people, such as `opens to ledgers:read (was ledgers:write)`."""
    effects = []
    if change.opened:
        was = "" if change.closed else f" (was {_access(change.old)})"
        effects.append(f"opens to {_named(change.opened)}{was}")
    if change.closed:
        now = "" if change.opened else f" (now {_access(change.new)})"
        effects.append(f"closes to {_named(change.closed)}{now}")
    before, after = _stamp(change.old), _stamp(change.new)
    if change.unstamped:
        effects.append(f"loses its stamp ({before} -> {after})")
    elif before != after and change.kind is not ChangeKind.CLOSED:
        effects.append(f"stamp {before} -> {after}")
    if change.old is not None and change.new is not None and change.old.first_byte != change.new.first_byte:
        effects.append(f"first_byte {_time(change.old)} -> {_time(change.new)}")
    return ", ".join(effects) or f"{_access(change.old)} -> {_access(change.new)}"


def _named(whom: Iterable[str]) -> str:
    return " and ".join(_WORDS.get(one, one) for one in whom)


def _access(route: Route | None) -> str:
    if route is None:
        return "not listed"
    until = f", {MODE} until {last_day(route.report_until)}" if route.report_until else ""
    return (" or ".join(route.scopes) or route.access.value) + until


def _stamp(route: Route | None) -> str:
    if route is None:
        return Stamp.NONE.value
    return route.stamp.value + (" (body optional)" if route.body_optional else "")


def _time(route: Route) -> str:
    return rendered_duration(route.first_byte) if route.first_byte else "timeouts.first_byte"


def _values(one: Difference) -> str:
    return f"{one.old} -> {one.new}" if one.old != one.new else f"changed, {one.new}"


def _summary(compared: _DiffSides) -> Part:
    total = len(compared.changes) + len(compared.settings)
    if not total:
        return "no change", "bold green"
    wider = compared.wider
    narrower = sum(_mark(change) is _NARROWER for change in compared.changes)
    text = f"{wider} wider, {narrower} narrower, {total - wider - narrower} other"
    return text, "bold red" if wider else "bold green"


def _members(compared: _DiffSides) -> dict[str, object]:
    """Return the members of the JSON object with the comparison."""
    return {
        "old": {"name": compared.old.name, "sha256": compared.old.config.sha256},
        "new": {"name": compared.new.name, "sha256": compared.new.config.sha256},
        "wider": compared.wider > 0,
        "changes": [
            {
                "kind": change.kind.value,
                "wider": change.widens,
                "method": change.method,
                "path": change.path,
                "opened_to": list(change.opened),
                "closed_to": list(change.closed),
                "unstamped": change.unstamped,
                "old": _route(change.old),
                "new": _route(change.new),
                "core": change.core and change.core.name,
            }
            for change in compared.changes
        ],
        "settings": [
            {"setting": one.path, "wider": one.widens, "old": one.old, "new": one.new}
            for one in compared.settings
        ],
    }


def _route(route: Route | None) -> dict[str, object] | None:
    if route is None:
        return None
    return {
        "name": route.name,
        "line": route.line,
        "access": route.access.value,
        "scopes": list(route.scopes),
        "stamp": route.stamp.value,
        "body_optional": route.body_optional,
        "first_byte": route.first_byte or None,
        "report_only_until": last_day(route.report_until) if route.report_until else None,
    }
