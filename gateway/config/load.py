"""Loads gateway.yaml and the environment into one frozen Config, or reports every problem with its line.

Rules kept here:
- A configuration is complete or refused: nothing is built while a single problem is left.
- The clock is used for two questions: is a report-only date over or too far ahead, and does a certificate end
  soon.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from gateway.config import model
from gateway.config.bounded_file import read_bounded
from gateway.config.checks import check_together
from gateway.config.errors import ConfigError
from gateway.config.model import Config
from gateway.config.route_reader import read_routes
from gateway.config.secret_files import locate_files, read_files
from gateway.config.settings_draft import SettingsDraft
from gateway.config.settings_reader import SettingsReader
from gateway.config.yaml_document import YamlNode, read_document
from gateway.policy.problems import Problem
from gateway.policy.routes import RouteTable


def load_config(path: Path, environ: Mapping[str, str], *, secrets: bool) -> Config:
    """Read and check the file; with `secrets`, also the variables and secret files that it names.

    Raises:
        UnreadableConfigError: the file cannot be read.
        ConfigError: anything else is wrong.
    """
    return parse_config(read_bounded(path), path, environ, secrets=secrets)


def parse_config(
    data: bytes,
    path: Path,
    environ: Mapping[str, str],
    *,
    secrets: bool,
    now: Callable[[], float] = time.time,
) -> Config:
    """Check the bytes of a file as `load_config` does; relative paths start at the folder of `path`.

    `now` gives Unix seconds.

    Raises:
        ConfigError: it has every problem, those of the file by line, then those of the environment.
    """
    top, yaml_problems = read_document(data)
    draft = SettingsDraft(str(path))
    reader = SettingsReader(draft, environ, secrets=secrets)
    draft.problems += [problem.in_source(draft.file) for problem in yaml_problems]
    sha256 = hashlib.sha256(data).hexdigest()
    # A file that could not be composed has no entries: what it lacks would be reported on top.
    if top.entries or not yaml_problems:
        routes = _read_routes(draft, reader.read(top))
        check_together(draft, routes, now())
        locate_files(draft, path.parent)
        if secrets:
            read_files(draft, now())
        if not draft.problems and routes is not None:
            return _build(draft, routes, sha256)
    raise ConfigError(_in_order(draft.problems), sha256=sha256, store=_store_of(draft))


def _store_of(draft: SettingsDraft) -> str:
    """Return the store that the draft names; "" if there is none, or only the example of the setting."""
    given = "keys.store" in draft.places and "keys.store" not in draft.unset
    return str(draft.values.get("keys.store") or "") if given else ""


def _read_routes(draft: SettingsDraft, node: YamlNode | None) -> RouteTable | None:
    if node is None:
        draft.refuse(1, "routes is missing: write 'routes:' and below it one line per route")
        return None
    table = read_routes(node)
    if isinstance(table, RouteTable):
        return table
    draft.problems += [problem.in_source(draft.file) for problem in table]
    return None


def _build(draft: SettingsDraft, routes: RouteTable, sha256: str) -> Config:
    sections = {name: kind(**draft.section(name)) for name, kind in model.sections().items()}
    return Config(
        **draft.top_level(),
        **sections,
        routes=routes,
        sha256=sha256,
        unset=tuple(sorted(draft.unset)),
        warnings=_in_order(draft.warnings),
    )


def _in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return each problem once: those of the file by line, then those of the environment."""
    return tuple(sorted(dict.fromkeys(problems), key=lambda problem: (problem.line == 0, problem.line)))
