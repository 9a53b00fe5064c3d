"""gateway.yaml and the environment into one frozen Config, or every problem at once, each with its line.

Rules kept here:
- A configuration is whole or refused: nothing is built while a single problem stands.
- What the settings must be together: one master key, a guarded admin listener, listeners apart.
- Secret files are read, and files of certificates looked for, only where secrets are asked for.
- The clock is asked for one thing: is a report-only date over, or too far ahead.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from pathlib import Path
from urllib.parse import parse_qsl

from gateway.config import environment, model, report_only_dates, values, yaml_document
from gateway.config.bounded_file import read_bounded
from gateway.config.errors import ConfigError
from gateway.config.model import Config, UpstreamConfig
from gateway.config.route_reader import read_routes
from gateway.config.settings_reader import MASTER_KEYS, UNREPLACED, SettingsReader
from gateway.config.values import Address, BadValueError, Secret
from gateway.keys.redis.url import TLS_OPTIONS
from gateway.policy.problems import Problem
from gateway.policy.routes import RouteTable

SECRET_FILES = ("upstream.master_key_file", "admin_token_file")
LISTENERS = ("listen", "admin", "health")
LEAST_TOKEN = 16
"""Characters of a token that others cannot guess: 96 bits, where each has 6."""
CERTIFICATES = {
    "keys.store": TLS_OPTIONS,
    "keys.core_database": ("sslrootcert", "sslcert", "sslkey", "sslcrl"),
}
"""The options of a URL that name files of certificates."""


def load_config(path: Path, environ: Mapping[str, str], *, secrets: bool) -> Config:
    """Read and check the file; `secrets` asks for the variables and secret files that it names.

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
    """As load_config, from bytes already read; `path` names them and is where relative paths start.

    `now` gives Unix seconds.

    Raises:
        ConfigError: with every problem, those of the file by line, then those of the environment.
    """
    top, yaml_problems = yaml_document.read_document(data)
    reading = SettingsReader(str(path), environ, secrets=secrets)
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
        _check_upstream(reading)
        _check_report_only(reading, routes, now())
        _locate_files(reading, path.parent)
        if secrets:
            _read_secret_files(reading)
            _check_certificates(reading)
            _look_at_secrets(reading)
        if not reading.problems and routes is not None:
            return _build(reading, routes, hashlib.sha256(data).hexdigest())
    raise ConfigError(_in_order(reading.problems))


def _in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Each once: those of the file by line, then those of the environment."""
    return tuple(sorted(dict.fromkeys(problems), key=lambda problem: (problem.line == 0, problem.line)))


def _build(reading: SettingsReader, routes: RouteTable, sha256: str) -> Config:
    sections = {name: kind(**reading.below(name)) for name, kind in model.sections().items()}
    single = {path: value for path, value in reading.values.items() if "." not in path}
    return Config(
        **single,
        **sections,
        routes=routes,
        sha256=sha256,
        unset=tuple(sorted(reading.unset)),
        warnings=_in_order(reading.warnings),
    )


def _routes(reading: SettingsReader, node: yaml_document.YamlNode | None) -> RouteTable | None:
    if node is None:
        reading.refuse(1, "routes is missing: write 'routes:' and below it one line per route")
        return None
    table = read_routes(node)
    if isinstance(table, RouteTable):
        return table
    for problem in table:
        reading.refuse(problem.line, problem.text)
    return None


def _check_master_key(reading: SettingsReader) -> None:
    given = [path for path in MASTER_KEYS if path in reading.places]
    if len(given) == 2 and not any(reading.values[path] is None for path in given):
        reading.refuse_setting(given[1], "keep one of master_key and master_key_file")
    if not given:
        reading.refuse(
            1, "upstream.master_key is missing: write 'master_key: ${BLNK_MASTER_KEY}', or master_key_file"
        )


def _check_authority(reading: SettingsReader) -> None:
    if reading.values["keys.authority"] == "core" and "keys.core_database" not in reading.places:
        reading.refuse_setting(
            "keys.authority",
            "core needs keys.core_database: write postgres://user:password@host:5432/database",
        )


def _check_admin(reading: SettingsReader) -> None:
    admin = reading.values["admin"]
    if isinstance(admin, Address) and not admin.is_loopback and "admin_token_file" not in reading.places:
        reading.refuse_setting(
            "admin",
            "others can reach this address: name an admin_token_file, or write a loopback address, as "
            "127.0.0.1:5002",
        )


def _check_listeners(reading: SettingsReader) -> None:
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


def _check_limits(reading: SettingsReader) -> None:
    body, buffered = reading.values["limits.body"], reading.values["limits.buffered"]
    if body and buffered and buffered < body:
        if "limits.buffered" in reading.places:
            reading.refuse_setting("limits.buffered", "this must hold one body: write at least limits.body")
        else:
            reading.refuse_setting("limits.body", "limits.buffered must hold one body: raise it as well")


def _check_upstream(reading: SettingsReader) -> None:
    url, listen = reading.values["upstream.url"], reading.values["listen"]
    if not url or not listen or not reading.unset.isdisjoint(("upstream.url", "listen")):
        return
    upstream = UpstreamConfig(url=url)
    listeners = listen if isinstance(listen, tuple) else (listen,)
    if any(one.is_reached_at(upstream.host, upstream.port) for one in listeners):
        path = "upstream.url" if "upstream.url" in reading.places else "listen"
        reading.refuse_setting(path, "the gateway itself listens there: write the address of Core")


def _check_report_only(reading: SettingsReader, routes: RouteTable | None, now: float) -> None:
    for route in routes.routes if routes is not None else ():
        if report_only_dates.too_far(route.report_until, now):
            reading.refuse(route.line, f"{route.name}: {report_only_dates.TOO_FAR}")
        elif 0.0 < route.report_until <= now:
            reading.warn(route.line, f"{route.name}: {report_only_dates.over(route.report_until)}")
    dates = reading.values["keys.report_only"]
    for _, until in dates.dates if dates is not None else ():
        if report_only_dates.too_far(until, now):
            reading.refuse_setting("keys.report_only", report_only_dates.TOO_FAR)
        elif until <= now:
            reading.warn_setting("keys.report_only", report_only_dates.over(until))


def _locate_files(reading: SettingsReader, folder: Path) -> None:
    for path in SECRET_FILES:
        if reading.values[path] is not None:
            reading.values[path] = folder / reading.values[path]


def _read_secret_files(reading: SettingsReader) -> None:
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
            elif len(secret.reveal()) < LEAST_TOKEN:
                text = f"the token is short enough to be guessed: write at least {LEAST_TOKEN} characters"
                reading.warn_setting(path, text)


def _check_certificates(reading: SettingsReader) -> None:
    """Refuse a URL that names a file which cannot be read; what it holds is checked where it is used."""
    for path, options in CERTIFICATES.items():
        # Several hosts, some of them IPv6 addresses, are no URL to urllib.
        _, _, query = (reading.values[path] or "").partition("?")
        named = dict(parse_qsl(query))
        for option in filter(named.get, options):
            try:
                Path(named[option]).open("rb").close()
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "this is no path"
                reading.refuse_setting(path, f"the file of {option} cannot be read: {reason}")


def _look_at_secrets(reading: SettingsReader) -> None:
    """Warn of a master key that is the name of a variable, wherever it came from."""
    key = reading.values["upstream.master_key"]
    if isinstance(key, Secret) and environment.is_only_a_name(key.reveal()):
        reading.warn_setting(next(path for path in MASTER_KEYS if path in reading.places), UNREPLACED)
