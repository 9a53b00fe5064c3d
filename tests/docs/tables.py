"""The generated tables of `deploy/reference.md`: settings, metrics, commands.

Rules kept here:
- Every cell comes from the code that defines it; what a table cannot say stands below it, by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import click
from prometheus_client import CollectorRegistry, ProcessCollector

from gateway.cli import cli
from gateway.config import Setting, settings
from gateway.config.rendering import HIDDEN, NONE, rendered
from tests.running import ROOT
from tests.sections import Section
from tests.surface.snapshot import labels_of, shown_name
from tests.telemetry.collectors import collectors

REFERENCE: Final = ROOT / "deploy" / "reference.md"
COMMAND: Final = "python3 -m tests.docs"
_LONGEST: Final = 1_000
"""More characters than any summary has."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table between markers of the page; `text` returns it as it has to be now."""

    section: Section
    text: Callable[[], str]


def settings_table() -> str:
    """Return a row for each setting, in the order of the model."""
    rows = ([f"`{path}`", _default(setting), setting.doc] for path, setting in settings().items())
    return _table(("setting", "default", "meaning"), rows)


def metrics_table() -> str:
    """Return a row for each metric of the gateway and of the process; settings in it look like settings."""
    paths = "|".join(re.escape(path) for path in settings() if "." in path)
    known = re.compile(rf"(?<![\w./])(?:{paths}|trusted_proxies)(?![\w/]|\.\w)")
    families = [family for collector in collectors() for family in collector.collect()]
    families += ProcessCollector(registry=CollectorRegistry()).collect()
    rows = (
        [
            f"`{shown_name(family)}`",
            family.type,
            ", ".join(labels_of(family)),
            known.sub(r"`\g<0>`", family.documentation),
        ]
        for family in families
    )
    return _table(("metric", "type", "labels", "meaning"), rows)


def commands_table() -> str:
    """Return a row for each command: its name, its options but `--help`, and its summary."""
    rows = []
    for name, command in commands(cli, "blnk-gateway"):
        options = (parameter for parameter in command.params if isinstance(parameter, click.Option))
        names = ", ".join(f"`{option.opts[-1]}`" for option in options if not option.hidden)
        rows.append([f"`{name}`", names, command.get_short_help_str(_LONGEST)])
    return _table(("command", "options", "what it does"), rows)


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, by its whole name, in order."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


TABLES: Final = (
    Table(Section("settings", "Settings", COMMAND), settings_table),
    Table(Section("metrics", "Metrics", COMMAND), metrics_table),
    Table(Section("options", "Options", COMMAND), commands_table),
)


def _default(setting: Setting) -> str:
    default = rendered(setting, setting.default)
    if setting.example or default == HIDDEN:
        return "required"
    return default if default == NONE else f"`{default}`"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(
        "|" + "|".join(f" {cell} ".replace(" --- ", "---") for cell in line) + "|" for line in lines
    )
