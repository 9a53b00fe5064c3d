"""Writes parsed values as a file would have them: `5MiB`, `10s`, `127.0.0.1:5001`.

Rules kept here:
- A value that may hold a secret or a password is never shown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from gateway.config import addresses, model, report_only_dates, values
from gateway.config.model import Config
from gateway.config.secret_values import Secret
from gateway.config.setting import Setting
from gateway.policy.report_only import KeyDates

NONE: Final = "none"
HIDDEN: Final = "not shown"
UNSET: Final = "from the environment"

_UNITS: Final[Mapping[str, int]] = MappingProxyType({"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "B": 1})


def rendered(setting: Setting, value: Any) -> str:
    """Return `value`, which `setting` has parsed, as a file would have it; `HIDDEN` for a secret."""
    if isinstance(value, Secret):
        return HIDDEN
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, KeyDates):
        return report_only_dates.rendered_dates(value)
    if setting.parse is addresses.addresses and len(value) == 1:
        return str(value[0])
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if setting.parse is values.size:
        unit = next(unit for unit, count in _UNITS.items() if value % count == 0)
        return f"{value // _UNITS[unit]}{unit}"
    if setting.parse is values.ratio:
        return f"{value:g}"
    if isinstance(value, float):
        return rendered_duration(value)
    return NONE if value in (None, "") else str(value)


def rendered_duration(seconds: float) -> str:
    """Return a duration as a file would have it: `10s`, `500ms`."""
    return f"{seconds:g}s" if seconds >= 1 or not seconds else f"{seconds * 1000:g}ms"


def each_setting(config: Config) -> Iterator[tuple[str, Any, str]]:
    """Yield the path, the value and the rendered value of every setting of `config`."""
    known = model.settings()
    hidden = dict(_hidden())
    for path, setting in known.items():
        value: Any = config
        for name in path.split("."):
            value = getattr(value, name)
        if path in config.unset:
            yield path, value, UNSET
        else:
            yield path, value, HIDDEN if hidden[path] and value else rendered(setting, value)


def _hidden() -> Iterator[tuple[str, bool]]:
    """Yield each path, and whether the model keeps the setting out of its repr."""
    kinds: dict[str, Any] = {"": Config, **{f"{name}.": kind for name, kind in model.sections().items()}}
    for prefix, kind in kinds.items():
        for item in dataclasses.fields(kind):
            yield prefix + item.name, not item.repr
