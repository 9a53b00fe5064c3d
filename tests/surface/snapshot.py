"""The public surface: the names on which files, scripts, alerts and clients of users depend.

Rules kept here:
- It is taken from the code that defines it, never from a document.
- Each name has one line in the snapshot, so that a difference names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import click
import msgspec
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from gateway.audit import Kind
from gateway.audit.entry import MEMBERS
from gateway.cli import cli
from gateway.config import settings
from gateway.config.rendering import HIDDEN, rendered
from gateway.config.setting import Setting
from gateway.errors import Code
from gateway.server.exit_codes import Exit
from gateway.telemetry import AccessEntry
from tests.running import ROOT
from tests.telemetry.collectors import collectors

SNAPSHOT: Final = ROOT / "tests" / "surface" / "public_surface.json"

Surface = Mapping[str, Mapping[str, str]]
"""The description of each name, by the kind of name."""

_SUFFIXES: Final = {"counter": "_total", "info": "_info"}
_MOST_LABELS: Final = ("",) * 9
_BUCKETS: Final = [("+Inf", 0.0)]


@dataclass(frozen=True, slots=True)
class Difference:
    """Two surfaces compared: lines such as `settings: limits.rate`."""

    breaking: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def text(self) -> str:
        """Say what differs, and what Semantic Versioning demands for it."""
        lines: list[str] = []
        if self.breaking:
            lines += [
                "Removed, renamed or changed. This breaks files, scripts or alerts of users: it needs a",
                "new major version (before 1.0.0 a minor one), and an entry in CHANGELOG.md under",
                "'Upgrading from'.",
                *(f"  {line}" for line in self.breaking),
            ]
        if self.added:
            lines += [
                "Added. This needs a new minor version, and an entry in CHANGELOG.md under 'Added'.",
                *(f"  {line}" for line in self.added),
            ]
        if lines:
            lines += ["If it is meant, write the snapshot anew: python3 -m tests.surface"]
        return "".join(f"{line}\n" for line in lines)


def compare(before: Surface, after: Surface) -> Difference:
    """Return what differs between two surfaces."""
    old, new = _flat(before), _flat(after)
    changed = {name: old[name] for name in old if name in new and old[name] != new[name]}
    lines = {name: f"{name}: was {text!r}, is {new[name]!r}" for name, text in changed.items()}
    only_more = {name for name, text in changed.items() if _words(text) < _words(new[name])}
    return Difference(
        breaking=tuple(
            [f"{name}: was {old[name]!r}, is gone" for name in old if name not in new]
            + [line for name, line in lines.items() if name not in only_more]
        ),
        added=tuple(
            [f"{name}: {new[name]!r}" for name in new if name not in old]
            + [line for name, line in lines.items() if name in only_more]
        ),
    )


def public_surface() -> Surface:
    """Return the surface of this version."""
    return {
        "settings": {path: _setting(setting) for path, setting in settings().items()},
        "commands": dict(_commands(cli, "blnk-gateway")),
        "exit codes": {str(int(code)): code.name for code in Exit},
        "error codes": _error_codes(),
        "metrics": dict(_metrics()),
        "fields of a request's log line": _log_fields(),
        "audit entries": {kind.value: " ".join(MEMBERS[kind]) for kind in Kind},
    }


def read_snapshot() -> Surface:
    """Return the surface that was written last."""
    found: dict[str, dict[str, str]] = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    return found


def written(surface: Surface) -> str:
    """Return the text of a snapshot."""
    return json.dumps(surface, indent=2, ensure_ascii=True) + "\n"


def _flat(surface: Surface) -> dict[str, str]:
    return {f"{kind}: {name}": text for kind, names in surface.items() for name, text in names.items()}


def _words(text: str) -> set[str]:
    """Return the values, labels or members that a description lists."""
    return set(text.replace("|", " ").split())


def _setting(setting: Setting) -> str:
    if setting.example:
        return "required"
    default = rendered(setting, setting.default)
    return "a secret" if default == HIDDEN else f"default {default}"


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """Yield each command and each of its parameters."""
    yield name, "command"
    for parameter in command.params:
        yield f"{name} {_spelling(parameter)}", _takes(parameter)
    if isinstance(command, click.Group):
        for below, found in sorted(command.commands.items()):
            yield from _commands(found, f"{name} {below}")


def _spelling(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        return (parameter.name or "").upper()
    return " ".join([*parameter.opts, *parameter.secondary_opts])


def _takes(parameter: click.Parameter) -> str:
    """Return what a parameter takes; `flag` if nothing."""
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return "flag"
    kind = parameter.type
    takes = "|".join(map(str, kind.choices)) if isinstance(kind, click.Choice) else kind.name
    repeatable = ["repeatable"] if parameter.multiple or parameter.nargs == -1 else []
    return " ".join([takes, "required" if parameter.required else "optional", *repeatable])


def _error_codes() -> Mapping[str, str]:
    statuses: dict[str, set[int]] = {}
    for code in Code:
        statuses.setdefault(code.code, set()).add(code.status)
    return {code: " ".join(map(str, sorted(found))) for code, found in sorted(statuses.items())}


def _log_fields() -> Mapping[str, str]:
    """Return the JSON types of the fields."""
    found = {field.name: field.type.__name__ for field in msgspec.structs.fields(AccessEntry)}
    del found["time"]  # it is shown as `timestamp`
    return {"timestamp": "str", "level": "str", "event": "str", **found}


def _metrics() -> Iterator[tuple[str, str]]:
    families = [family for collector in collectors() for family in collector.collect()]
    for family in sorted(families, key=lambda family: family.name):
        labels = " ".join(labels_of(family))
        yield shown_name(family), f"{family.type} {labels}".strip()


def shown_name(family: Metric) -> str:
    """Return the name of a family as it is on the page of metrics."""
    return family.name + _SUFFIXES.get(family.type, "")


def labels_of(family: Metric) -> list[str]:
    """Return the names of the labels, also of a family that has no samples yet: it gets one."""
    if not family.samples:
        _add_sample(family)
    return [name for name in family.samples[0].labels if name != "le"]


def _add_sample(family: Any) -> None:
    match family:
        case HistogramMetricFamily():
            family.add_metric(_MOST_LABELS, _BUCKETS, 0.0)
        case InfoMetricFamily():
            family.add_metric(_MOST_LABELS, {})
        case CounterMetricFamily() | GaugeMetricFamily():
            family.add_metric(_MOST_LABELS, 0.0)
