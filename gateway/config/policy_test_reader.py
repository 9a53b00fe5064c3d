"""Reads a policy test file: a list of tests, each with a caller, a request and the expected decision.

Rules kept here:
- Nothing is guessed: an unknown member, scope, code or stamp is refused, and the nearest known one is named.
- The caller is named by its scopes, never by a key.
- A refused request gets no stamp, so a test that expects both is refused.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from gateway.config.bounded_file import read_bounded
from gateway.config.errors import ConfigError
from gateway.config.suggestions import nearest
from gateway.config.yaml_document import (
    MAX_BYTES,
    YamlEntry,
    YamlList,
    YamlMapping,
    YamlNode,
    YamlRefused,
    YamlScalar,
    read_top,
)
from gateway.policy.expectations import ALLOW, CLIENTS, LISTENERS, REFUSALS, PolicyTest
from gateway.policy.principals import MASTER
from gateway.policy.problems import Problem
from gateway.policy.routes import Stamp
from gateway.policy.verdicts import (
    HOLDABLE,
    HOLDABLE_FORM,
    NO_KEY,
    PolicyCaller,
    PolicyRequest,
    Unreadable,
    holds_key,
    key_with,
    read_request,
)

NEEDED = ("as", "do", "expect")
MEMBERS = (*NEEDED, "at", "route", "stamp", "name")
EXAMPLE = "- {as: [ledgers:read], do: GET /ledgers, expect: allow}"
_STAMPS = {stamp.value: stamp for stamp in Stamp}
_CALLERS: dict[str, PolicyCaller] = {"master": MASTER, "none": NO_KEY}


def load_policy_tests(path: Path) -> tuple[PolicyTest, ...]:
    """Read and check the file.

    Raises:
        UnreadableConfigError: the file cannot be read.
        ConfigError: anything else is wrong; it has every problem, by line.
    """
    tests, problems = read_policy_tests(read_bounded(path))
    if problems:
        raise ConfigError(tuple(problem.in_source(str(path)) for problem in problems))
    return tests


def read_policy_tests(data: bytes) -> tuple[tuple[PolicyTest, ...], tuple[Problem, ...]]:
    """Return the tests in `data`, and every problem by line."""
    if len(data) > MAX_BYTES:
        return (), (Problem(1, "the file is larger than 1 MiB: split it, several files run at once"),)
    top, problems = read_top(data, f"write a list of tests, as '{EXAMPLE}'")
    reading = _TestReader(list(problems))
    tests = reading.tests(top)
    return tests, tuple(sorted(reading.problems, key=lambda problem: problem.line))


class _TestReader:
    """Converts the items of the list to tests; appends each problem that it meets."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems

    def tests(self, node: YamlNode) -> tuple[PolicyTest, ...]:
        """Return the tests of the list, except those of which any part is refused."""
        if isinstance(node, YamlList) and node.items:
            return tuple(test for item in node.items if (test := self.test(item)) is not None)
        if not isinstance(node, YamlRefused):
            self._refuse(node.line, f"a list of tests is expected here: write '{EXAMPLE}'")
        return ()

    def test(self, node: YamlNode) -> PolicyTest | None:
        """Return the test of one item; None if any part of it is refused."""
        if not isinstance(node, YamlMapping):
            if not isinstance(node, YamlRefused):
                self._refuse(node.line, f"a test is expected here: write '{EXAMPLE}'")
            return None
        before = len(self.problems)
        entries = {entry.key: entry for entry in node.entries}
        for entry in node.entries:
            if entry.key not in MEMBERS:
                self._refuse(entry.line, f"a test has {', '.join(MEMBERS)}{nearest(entry.key, MEMBERS)}")
        for member in NEEDED:
            if member not in entries:
                self._refuse(node.line, f"'{member}' is missing: write all of '{EXAMPLE}'")
        caller = self._caller(entries.get("as"))
        request = self._request(entries.get("do"))
        expect = self._expect(entries.get("expect"))
        route = self._text(entries.get("route"))
        stamp = self._stamp(entries.get("stamp"), expect)
        at = self._word(entries.get("at"), LISTENERS) or CLIENTS
        name = self._text(entries.get("name"))
        if caller is None or request is None or expect is None or len(self.problems) > before:
            return None
        return PolicyTest(name or str(request), caller, request, expect, route, stamp, node.line, at)

    def _caller(self, entry: YamlEntry | None) -> PolicyCaller | None:
        if entry is None or isinstance(entry.value, YamlRefused):
            return None
        node = entry.value
        if isinstance(node, YamlList):
            scopes = [str(item.value) for item in node.items if isinstance(item, YamlScalar)]
            for item in node.items:
                self._check_scope(item)
            return key_with(scopes) if len(scopes) == len(node.items) else None
        if isinstance(node, YamlScalar) and node.value in _CALLERS:
            return _CALLERS[str(node.value)]
        self._refuse(
            node.line,
            "as: write the scopes of a key, as [ledgers:read] or [] for a key without any; "
            "or master, or none for no key",
        )
        return None

    def _check_scope(self, item: YamlNode) -> None:
        scope = str(item.value) if isinstance(item, YamlScalar) else ""
        if scope not in HOLDABLE and not isinstance(item, YamlRefused):
            self._refuse(
                item.line,
                f"as: {HOLDABLE_FORM}{nearest(scope, HOLDABLE)}",
            )

    def _request(self, entry: YamlEntry | None) -> PolicyRequest | None:
        text = self._text(entry)
        if entry is None or text is None:
            return None
        method, blank, raw = text.partition(" ")
        if not blank:
            self._refuse(entry.value.line, "do: write a method, one blank and a path, as GET /ledgers")
            return None
        request = read_request(method, raw)
        if isinstance(request, Unreadable):
            self._refuse(entry.value.line, f"do: {request.text}")
            return None
        return request

    def _expect(self, entry: YamlEntry | None) -> str | None:
        return self._word(entry, (ALLOW, *REFUSALS))

    def _stamp(self, entry: YamlEntry | None, expect: str | None) -> Stamp | None:
        if entry is not None and expect in REFUSALS:
            self._refuse(entry.line, "stamp: a refused request gets no stamp: remove it")
            return None
        word = self._word(entry, _STAMPS)
        return None if word is None else _STAMPS[word]

    def _word(self, entry: YamlEntry | None, known: Collection[str]) -> str | None:
        if entry is None or isinstance(entry.value, YamlRefused):
            return None
        value = entry.value.value if isinstance(entry.value, YamlScalar) else ""
        if isinstance(value, str) and value in known:
            return value
        near = nearest(str(value), known)
        self._refuse(entry.value.line, f"{entry.key}: write one of {', '.join(known)}{near}")
        return None

    def _text(self, entry: YamlEntry | None) -> str | None:
        if entry is None or isinstance(entry.value, YamlRefused):
            return None
        text = entry.value.value if isinstance(entry.value, YamlScalar) else None
        if isinstance(text, str) and text:
            if not holds_key(text):
                return text
            self._refuse(
                entry.value.line, f"{entry.key}: this is a key, or a text that looks like one: remove it"
            )
            return None
        self._refuse(entry.value.line, f"{entry.key}: write text, in quotes where YAML reads otherwise")
        return None

    def _refuse(self, line: int, text: str) -> None:
        self.problems.append(Problem(line, text))
