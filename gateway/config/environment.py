"""Reads the environment: overrides of settings, and the variables that values of the file name.

Rules kept here:
- `BLNK_GATEWAY_<PATH>`, with `__` between levels, overrides any setting outside `routes`. Commas separate the
  items of a list.
- An unknown `BLNK_GATEWAY_*` is refused: a typo would silently leave a setting unchanged.
- Kubernetes injects such variables for each Service whose name begins with blnk-gateway. They are recognised
  by their form if `X_SERVICE_HOST` and `X_SERVICE_PORT` are both set, and ignored; the name of a setting
  still counts.
- `BLNK_GATEWAY_COMPILE` belongs to the build and is ignored: it may still be set when the gateway starts.
- `${NAME}` is replaced once, inside parsed scalars; the value of a variable is never parsed as YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.config.suggestions import closest
from gateway.config.values import BadValueError

PREFIX = "BLNK_GATEWAY_"
_OF_THE_BUILD = f"{PREFIX}COMPILE"

# Kubernetes, "Discovering services", environment variables: {SVCNAME}_SERVICE_* and Docker's old link names.
_SERVICE_HOST, _SERVICE_PORT = "_SERVICE_HOST", "_SERVICE_PORT"
_INJECTED = re.compile(
    rf"{_SERVICE_HOST}|{_SERVICE_PORT}(_[A-Z0-9_]+)?|_PORT|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?"
)
_REFERENCE = re.compile(r"\$\{([^}]*)\}?")
_UNBRACED = re.compile(r"\$[A-Za-z_]", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ONLY_A_NAME = re.compile(rf"\$({_NAME.pattern}|\{{{_NAME.pattern}\}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Unset:
    """A value names a variable that is missing in the environment, or empty."""

    name: str
    empty: bool = False


def variable(path: str) -> str:
    """Return the variable of a setting: `BLNK_GATEWAY_UPSTREAM__MASTER_KEY` for `upstream.master_key`."""
    return PREFIX + path.replace(".", "__").upper()


def overrides(
    environ: Mapping[str, str], paths: Iterable[str]
) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """Return the value of each path that is overridden, and (variable, problem) for every unknown name."""
    known = {variable(path): path for path in paths}
    names = [name.removeprefix(PREFIX) for name in known]
    services = _services(environ)
    given: dict[str, str] = {}
    problems: list[tuple[str, str]] = []
    for name in sorted(environ):
        if name in known:
            given[known[name]] = environ[name]
        elif name.startswith(PREFIX) and name != _OF_THE_BUILD and not _is_injected(name, services):
            problems.append(
                (name if _NAME.fullmatch(name) else f"{PREFIX}*", _unknown(name.removeprefix(PREFIX), names))
            )
    return given, tuple(problems)


def _services(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the prefix of the variables of each Kubernetes Service, as `BLNK_GATEWAY_ADMIN`."""
    named = (name.removesuffix(_SERVICE_HOST) for name in environ if name.endswith(_SERVICE_HOST))
    return tuple(service for service in named if service + _SERVICE_PORT in environ)


def _is_injected(name: str, services: Iterable[str]) -> bool:
    return any(
        name.startswith(service) and _INJECTED.fullmatch(name.removeprefix(service)) for service in services
    )


def _unknown(name: str, known: Iterable[str]) -> str:
    if name.startswith("ROUTES"):
        return "routes are not taken from the environment: write them in the file"
    close = closest(name, known)
    return f"no such setting: did you mean {PREFIX}{close}?" if close else "no such setting: remove it"


def replace_references(text: str, environ: Mapping[str, str]) -> str | Unset:
    """Return the text with each `${NAME}` replaced; Unset for the first name that is missing or empty.

    Raises:
        BadValueError: a `${` does not begin a `${NAME}`.
    """
    for match in _REFERENCE.finditer(text):
        if not match[0].endswith("}") or not _NAME.fullmatch(match[1]):
            raise BadValueError("write a variable as ${NAME}: letters, digits and _")
        if not environ.get(match[1]):
            return Unset(match[1], empty=match[1] in environ)
    return _REFERENCE.sub(lambda match: environ[match[1]], text)


def has_unbraced_name(text: str) -> bool:
    """Return whether `text` holds a `$NAME` without braces, which is not replaced."""
    return _UNBRACED.search(text) is not None


def is_only_a_name(text: str) -> bool:
    """Return whether `text` is only `$NAME` or `${NAME}`: the name of a secret instead of the secret."""
    return _ONLY_A_NAME.fullmatch(text) is not None
