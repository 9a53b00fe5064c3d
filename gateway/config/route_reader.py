"""Reads the `routes` section into the compiled route table: each line is one permission.

Rules kept here:
- Nothing is guessed: an unknown word, option or scope is refused, and the nearest known one is named.
- A route that writes `meta_data` in Core must name its stamp: the one that records the true author, or
  `none`.
- A policy is the same everywhere: it takes neither variables nor overrides of the environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.config import report_only_dates
from gateway.config.suggestions import nearest
from gateway.config.values import BadValueError, deadline
from gateway.config.yaml_document import YamlEntry, YamlList, YamlMapping, YamlNode, YamlRefused, YamlScalar
from gateway.policy.patterns import shape_of
from gateway.policy.problems import Problem
from gateway.policy.routes import (
    CREATES,
    Access,
    Route,
    RouteTable,
    Stamp,
    compile_routes,
    expected_stamp,
)
from gateway.policy.scopes import ACTIONS, RESOURCES

OPTIONS = ("scope", "stamp", "body", "first_byte", "mode", "until")
ACCESS = {access.value: access for access in (Access.PUBLIC, Access.MASTER, Access.DENY)}
SCOPES = tuple(
    f"{resource}:{action}"
    for resource in dict.fromkeys(RESOURCES.values())
    for action in dict.fromkeys(ACTIONS.values())
)

_KEY = re.compile(r"([A-Za-z]+) (/\S*)")
_WRITERS = {(method, shape_of(pattern)): stamp for (method, pattern), stamp in CREATES.items()}


def read_routes(node: YamlNode) -> RouteTable | tuple[Problem, ...]:
    """The table that the section describes, or every problem of it that is not reported yet."""
    if isinstance(node, YamlRefused):
        return ()
    if not isinstance(node, YamlMapping) or not node.entries:
        return (Problem(node.line, "routes: write one line per route, as 'GET /ledgers: ledgers:read'"),)
    reading = _RouteReader()
    routes = [route for entry in node.entries if (route := reading.line(entry)) is not None]
    table = compile_routes(routes)
    if not isinstance(table, RouteTable):
        return (*reading.problems, *table)
    return tuple(reading.problems) if reading.problems or len(routes) < len(node.entries) else table


class _RouteReader:
    """Converts entries to routes; appends each problem that it meets."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._name = ""

    def line(self, entry: YamlEntry) -> Route | None:
        """Return the route of one entry; None if any part of it is refused."""
        key = _KEY.fullmatch(entry.key)
        if key is None:
            text = "routes: write a method, one blank and a path, as 'GET /ledgers/{id}'"
            self.problems.append(Problem(entry.line, text))
            return None
        if _holds_broken(entry.value):
            return None
        self._name = entry.key
        before = len(self.problems)
        options = self._options(entry)
        access, scopes = self._access(options.get("scope"), entry.line)
        if access is Access.PUBLIC and len(options) > 1:
            self._refuse(entry.line, "'public' takes no option: write 'public' alone")
        stamp = self._word("stamp", options, tuple(stamp.value for stamp in Stamp))
        body = self._word("body", options, ("optional",))
        route = Route(
            method=key[1],
            pattern=key[2],
            access=access,
            scopes=scopes,
            stamp=Stamp(stamp or "none"),
            body_optional=body is not None,
            first_byte=self._first_byte(options),
            report_until=self._report_until(options, entry.line),
            line=entry.line,
        )
        if len(self.problems) == before:
            self._check_stamp(route, named=stamp is not None)
        return route if len(self.problems) == before else None

    def _options(self, entry: YamlEntry) -> dict[str, YamlNode]:
        if not isinstance(entry.value, YamlMapping):
            return {"scope": entry.value}
        for option in entry.value.entries:
            if option.key not in OPTIONS:
                self._refuse(option.line, f"an option is {_either(OPTIONS)}{nearest(option.key, OPTIONS)}")
        return {option.key: option.value for option in entry.value.entries}

    def _access(self, node: YamlNode | None, line: int) -> tuple[Access, tuple[str, ...]]:
        if node is None:
            self._refuse(line, "the scope is missing: write {scope: ledgers:write, ...}")
        elif isinstance(node, YamlList):
            return Access.SCOPES, self._scopes(node)
        elif isinstance(node, YamlScalar) and node.value in ACCESS:
            return ACCESS[str(node.value)], ()
        else:
            self._check_scope(node, (*ACCESS, *SCOPES))
        return Access.SCOPES, (str(node.value),) if isinstance(node, YamlScalar) else ()

    def _scopes(self, node: YamlList) -> tuple[str, ...]:
        if not node.items:
            self._refuse(node.line, "the list is empty: write a scope, or 'deny' to refuse everyone")
        for item in node.items:
            if isinstance(item, YamlScalar) and item.value in ACCESS:
                self._refuse(item.line, f"'{item.value}' is written alone, not in a list of scopes")
            else:
                self._check_scope(item, SCOPES)
        scopes = tuple(str(item.value) for item in node.items if isinstance(item, YamlScalar))
        if len(set(scopes)) < len(scopes):
            self._refuse(node.line, "a scope is in the list twice: write it once")
        return scopes

    def _check_scope(self, node: YamlNode, known: Iterable[str]) -> None:
        if not isinstance(node, YamlScalar):
            self._refuse(node.line, "write a scope, a list of scopes, public, master or deny")
        elif "${" in str(node.value):
            self._refuse(node.line, "routes take no variables: write the scope itself")
        elif node.value not in SCOPES:
            self._refuse(
                node.line,
                f"a scope is a resource of Core and read, write or delete, as ledgers:read"
                f"{nearest(str(node.value), known)}",
            )

    def _word(self, option: str, options: dict[str, YamlNode], known: tuple[str, ...]) -> str | None:
        node = options.get(option)
        if node is None:
            return None
        value = str(node.value) if isinstance(node, YamlScalar) else ""
        if value in known:
            return value
        self._refuse(node.line, f"{option} is {_either(known)}{nearest(value, known)}")
        return None

    def _first_byte(self, options: dict[str, YamlNode]) -> float:
        node = options.get("first_byte")
        if node is None:
            return 0.0
        try:
            return deadline(node.value if isinstance(node, YamlScalar) else ())
        except BadValueError as error:
            self._refuse(node.line, f"first_byte: {error}")
            return 0.0

    def _report_until(self, options: dict[str, YamlNode], line: int) -> float:
        mode = self._word("mode", options, (report_only_dates.MODE,))
        until = options.get("until")
        if ("mode" in options) != (until is not None):
            self._refuse(line, f'write both, as mode: {report_only_dates.MODE}, until: "2026-12-24"')
        if mode is None or until is None:
            return 0.0
        try:
            return report_only_dates.end_of_day(until.value if isinstance(until, YamlScalar) else ())
        except BadValueError as error:
            self._refuse(until.line, f"until: {error}")
            return 0.0

    def _check_stamp(self, route: Route, *, named: bool) -> None:
        expected = expected_stamp(route)
        if expected is not None and not named:
            self._refuse(
                route.line,
                f"Core writes meta_data here: write {{scope: {_scope(route)}, stamp: {expected.value}}}, "
                "or stamp: none on purpose",
            )
        exact = _WRITERS.get((route.method, route.shape), route.stamp)
        if named and route.stamp not in (exact, Stamp.NONE):
            self._refuse(
                route.line, f"the stamp does not fit what Core does here: write stamp: {exact.value}"
            )

    def _refuse(self, line: int, text: str) -> None:
        self.problems.append(Problem(line, f"{self._name}: {text}"))


def _holds_broken(node: YamlNode) -> bool:
    if isinstance(node, YamlMapping):
        return any(_holds_broken(entry.value) for entry in node.entries)
    if isinstance(node, YamlList):
        return any(_holds_broken(item) for item in node.items)
    return isinstance(node, YamlRefused)


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _scope(route: Route) -> str:
    return route.scopes[0] if len(route.scopes) == 1 else f"[{', '.join(route.scopes)}]"
