"""gateway.yaml and the environment into one frozen Config, or every problem at once, each with its line.

Rules kept here:
- A configuration is whole or refused: nothing is built while a single problem stands.
- What the settings must be together: one master key, a guarded admin listener, listeners apart.
- Secret files are read only where secrets are asked for.
- The clock is asked for one thing: does a report-only date lie too far ahead.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path

from gateway.config import document, model, report_only, values
from gateway.config.model import Config
from gateway.config.problems import ConfigError, ConfigProblem, UnreadableConfigError
from gateway.config.reading import MASTER_KEYS, Reading
from gateway.config.routes import read_routes
from gateway.config.values import Address, BadValueError
from gateway.policy.routes import RouteTable

SECRET_FILES = ("upstream.master_key_file", "admin_token_file")
LISTENERS = ("listen", "admin", "health")


def load_config(path: Path, environ: Mapping[str, str], *, secrets: bool) -> Config:
    """Read and check the file; `secrets` asks for the variables and secret files that it names.

    Raises:
        UnreadableConfigError: the file cannot be read.
        ConfigError: anything else is wrong.
    """
    return parse_config(read_config(path), path, environ, secrets=secrets)


def read_config(path: Path) -> bytes:
    """What the file holds, but not much more of it than any configuration may.

    Raises:
        UnreadableConfigError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(document.MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "this is no path"
        raise UnreadableConfigError((ConfigProblem(str(path), 0, f"cannot be read: {reason}"),)) from None


def parse_config(
    data: bytes,
    path: Path,
    environ: Mapping[str, str],
    *,
    secrets: bool,
    now: Callable[[], float] = time.time,
) -> Config:
    """As load_config, from bytes already read; `path` names them and is where relative paths start.

    `now` gives Unix seconds.

    Raises:
        ConfigError: with every problem, those of the file by line, then those of the environment.
    """
    top, yaml_problems = document.read_document(data)
    reading = Reading(str(path), environ, secrets=secrets)
    for problem in yaml_problems:
        reading.refuse(problem.line, problem.text)
    # A file that could not be composed would only seem to lack what it holds.
    if top.entries or not yaml_problems:
        routes = _routes(reading, reading.settings(top))
        _check_master_key(reading)
        _check_authority(reading)
        _check_admin(reading)
        _check_listeners(reading)
        _check_limits(reading)
        _check_report_only(reading, routes, now())
        _locate_files(reading, path.parent)
        if secrets:
            _read_secret_files(reading)
        if not reading.problems and routes is not None:
            return _build(reading, routes, hashlib.sha256(data).hexdigest())
    problems = dict.fromkeys(reading.problems)
    raise ConfigError(tuple(sorted(problems, key=lambda problem: (problem.line == 0, problem.line))))


def _build(reading: Reading, routes: RouteTable, sha256: str) -> Config:
    sections = {name: kind(**reading.below(name)) for name, kind in model.sections().items()}
    single = {path: value for path, value in reading.values.items() if "." not in path}
    return Config(**single, **sections, routes=routes, sha256=sha256, unset=tuple(sorted(reading.unset)))


def _routes(reading: Reading, node: document.Node | None) -> RouteTable | None:
    if node is None:
        reading.refuse(1, "routes is missing: write 'routes:' and below it one line per route")
        return None
    table = read_routes(node)
    if isinstance(table, RouteTable):
        return table
    for problem in table:
        reading.refuse(problem.line, problem.text)
    return None


def _check_master_key(reading: Reading) -> None:
    given = [path for path in MASTER_KEYS if path in reading.places]
    if len(given) == 2 and not any(reading.values[path] is None for path in given):
        reading.refuse_setting(given[1], "keep one of master_key and master_key_file")
    if not given:
        reading.refuse(
            1, "upstream.master_key is missing: write 'master_key: ${BLNK_MASTER_KEY}', or master_key_file"
        )


def _check_authority(reading: Reading) -> None:
    if reading.values["keys.authority"] == "core" and "keys.core_database" not in reading.places:
        reading.refuse_setting(
            "keys.authority",
            "core needs keys.core_database: write postgres://user:password@host:5432/database",
        )


def _check_admin(reading: Reading) -> None:
    admin = reading.values["admin"]
    if isinstance(admin, Address) and not admin.is_loopback and "admin_token_file" not in reading.places:
        reading.refuse_setting(
            "admin",
            "others can reach this address: name an admin_token_file, or write a loopback address, as "
            "127.0.0.1:5002",
        )


def _check_listeners(reading: Reading) -> None:
    known = [path for path in LISTENERS if path not in reading.unset and reading.values[path] is not None]
    listening = [(path, address) for path in known for address in _addresses(reading.values[path])]
    for (first, one), (second, another) in combinations(listening, 2):
        if one.clashes(another):
            # One of the two may stand nowhere, being the default.
            place, other = (second, first) if second in reading.places else (first, second)
            text = f"{other} takes this port already: write another one"
            if first == second:
                text = "two of the addresses take the same port: take one of them out"
            reading.refuse_setting(place, text)


def _addresses(value: Address | tuple[Address, ...]) -> tuple[Address, ...]:
    return value if isinstance(value, tuple) else (value,)


def _check_limits(reading: Reading) -> None:
    body, buffered = reading.values["limits.body"], reading.values["limits.buffered"]
    if body and buffered and buffered < body:
        path = "limits.buffered" if "limits.buffered" in reading.places else "limits.body"
        reading.refuse_setting(path, "limits.buffered must hold one body: write at least limits.body")


def _check_report_only(reading: Reading, routes: RouteTable | None, now: float) -> None:
    for route in routes.routes if routes is not None else ():
        if report_only.too_far(route.report_until, now):
            reading.refuse(route.line, f"{route.name}: {report_only.TOO_FAR}")
    dates = reading.values["keys.report_only"]
    if dates is not None and any(report_only.too_far(until, now) for _, until in dates.dates):
        reading.refuse_setting("keys.report_only", report_only.TOO_FAR)


def _locate_files(reading: Reading, folder: Path) -> None:
    for path in SECRET_FILES:
        if reading.values[path] is not None:
            reading.values[path] = folder / reading.values[path]


def _read_secret_files(reading: Reading) -> None:
    for path in SECRET_FILES:
        if reading.values[path] is None:
            continue
        try:
            secret = values.read_secret(reading.values[path])
        except BadValueError as error:
            reading.refuse_setting(path, str(error))
        else:
            if path in MASTER_KEYS:
                reading.values["upstream.master_key"] = secret
