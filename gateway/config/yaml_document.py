"""Reads YAML into plain nodes with their lines: strings, integers and truth values, nothing else.

Rules kept here:
- PyYAML's node API composes the file, so that every problem has its line; PyYAML's constructors never run.
- YAML's other implicit types, anchors, aliases, tags, merge keys, duplicate keys and further documents are
  problems. So are control characters, which could forge a line of a terminal or a log.
- A word that YAML reads as true or false (`yes`, `off`) becomes a truth value. No setting takes one; the
  parser of the setting refuses it and names the words that it takes.
- Size, depth and number of values are bounded before any other work is done on them.
- A problem never repeats a value of the file, because any value may be a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from gateway.config.yaml_errors import problem_of
from gateway.policy.problems import Problem

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 8
MAX_NODES = 100_000


@dataclass(frozen=True, slots=True)
class YamlScalar:
    """A string, a number, or a truth value."""

    value: str | int | float | bool
    line: int


@dataclass(frozen=True, slots=True)
class YamlList:
    """A list of nodes."""

    items: tuple[YamlNode, ...]
    line: int


@dataclass(frozen=True, slots=True)
class YamlEntry:
    """One `key: value` of a mapping; the line is the key's."""

    key: str
    value: YamlNode
    line: int


@dataclass(frozen=True, slots=True)
class YamlMapping:
    """Entries in the order of the file, without duplicate keys."""

    entries: tuple[YamlEntry, ...]
    line: int


@dataclass(frozen=True, slots=True)
class YamlRefused:
    """A value that was refused, and whose problem has been reported."""

    line: int


YamlNode = YamlScalar | YamlList | YamlMapping | YamlRefused

_STR, _INT, _FLOAT, _BOOL = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool"))
_BROKEN = "broken"
_TRUE = ("true", "yes", "on")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_FRACTION = re.compile(r"(?:0|[1-9][0-9]{0,8})\.[0-9]{1,9}", re.ASCII)
_REFUSED = {
    _INT: "YAML reads this as a number of another kind: write plain digits, at most 18, or quote it",
    "tag:yaml.org,2002:null": "the value is missing: write one, or remove the line",
    _FLOAT: "YAML reads this as a fraction of another kind: write it as 0.5, or quote it",
    "tag:yaml.org,2002:timestamp": "YAML reads this as a date: quote it",
    "tag:yaml.org,2002:merge": "merge keys are refused: write the entries out",
}


def read_document(data: bytes) -> tuple[YamlMapping, tuple[Problem, ...]]:
    """Return the file's top-level mapping, empty if it has none, and every problem of its YAML."""
    top, problems = read_top(data, "begin with 'listen:'")
    if isinstance(top, YamlMapping):
        return top, problems
    if isinstance(top, YamlScalar | YamlList):
        expected = Problem(top.line, "settings are expected here: write 'key: value' lines")
        problems = (*problems, expected)
    return YamlMapping((), 1), problems


def read_top(data: bytes, beginning: str) -> tuple[YamlNode, tuple[Problem, ...]]:
    """Return the file's top-level node, YamlRefused if it has none, and every problem of its YAML.

    `beginning` tells the author of an empty file how to begin.
    """
    if len(data) > MAX_BYTES:
        return YamlRefused(1), (Problem(1, "the file is larger than 1 MiB: this is not a gateway.yaml"),)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return YamlRefused(line), (Problem(line, "this is not UTF-8: save the file as UTF-8 text"),)
    node, problems = _compose(text)
    if node is None:
        return YamlRefused(1), tuple(problems) or (Problem(1, f"the file is empty: {beginning}"),)
    top = _NodeReader(problems).node(node)
    return top, tuple(problems)


def _compose(text: str) -> tuple[yaml.Node | None, list[Problem]]:
    problems: list[Problem] = []
    composer = None
    try:
        composer = _Composer(text, problems)
        node = composer.only_document()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        problems.append(Problem(line, "there is a control character here: remove it"))
    except yaml.MarkedYAMLError as error:
        problems.append(problem_of(error, composer.long_quotes if composer else ()))
    except _RefusedError as refused:
        problems.append(refused.problem)
    except (ValueError, OverflowError):
        # PyYAML's scanner raises these, for example for "\UFFFFFFFF" and for long %YAML versions.
        problems.append(Problem(composer.line + 1 if composer else 1, "this is not YAML: a bad escape"))
    else:
        return node, problems
    return None, problems


class _RefusedError(Exception):
    """Composing stops at a problem that PyYAML does not know."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem


class _Composer(yaml.SafeLoader):
    """PyYAML's composer; it notes what the file must not hold and goes on."""

    def __init__(self, text: str, problems: list[Problem]) -> None:
        super().__init__(text)
        self.problems = problems
        self.depth = 0
        self.count = 0
        self.long_quotes: list[yaml.Token] = []

    def only_document(self) -> yaml.Node | None:
        node = self.get_node() if self.check_node() else None
        if self.check_node():
            line = self._next_event().start_mark.line + 1
            self.problems.append(Problem(line, "a second document begins here: keep one to a file"))
        return node

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self._next_event()
        line = event.start_mark.line + 1
        if self.check_event(yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
            self.problems.append(
                Problem(line, 'a value that begins with * is an alias to YAML: quote it, as "*:read"')
            )
            return yaml.ScalarNode(_BROKEN, "", event.start_mark, event.end_mark)
        if event.anchor is not None:
            self.problems.append(Problem(line, "a value that begins with & is an anchor to YAML: quote it"))
            event.anchor = None
        if event.tag is not None:
            self.problems.append(Problem(line, "a value that begins with ! is a tag to YAML: quote it"))
            event.tag = _BROKEN
        if self.depth == MAX_DEPTH:
            raise _RefusedError(Problem(line, f"this is nested more than {MAX_DEPTH} levels deep"))
        self.count += 1
        if self.count > MAX_NODES:
            # The size alone would allow 30 times as many, which take PyYAML a minute.
            raise _RefusedError(Problem(line, f"the file holds more than {MAX_NODES} values"))
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def _next_event(self) -> Any:
        return self.peek_event()  # type: ignore[no-untyped-call]

    def scan_flow_scalar(self, style: str) -> yaml.ScalarToken:
        """Scan a quoted text; note it if it spans several lines."""
        token = super().scan_flow_scalar(style)
        if token.start_mark.line != token.end_mark.line:
            self.long_quotes.append(token)
        return token

    def scan_anchor(self, token: type[yaml.Token]) -> yaml.Token:
        """Scan an alias or anchor of any characters, such as `*:read`, so that its line can be reported."""
        start = self.get_mark()
        self.forward()
        while self.peek() not in "\0 \t\r\n\x85\u2028\u2029,[]{}":
            self.forward()
        return token("", start, self.get_mark())  # type: ignore[call-arg]


class _NodeReader:
    """Converts PyYAML's nodes to ours; appends each problem that it meets."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems

    def node(self, node: yaml.Node) -> YamlNode:
        line = node.start_mark.line + 1
        if node.tag == _BROKEN:
            return YamlRefused(line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, line)
        if isinstance(node, yaml.SequenceNode):
            return YamlList(tuple(self.node(item) for item in node.value), line)
        return self._scalar(node, line)

    def _mapping(self, node: yaml.MappingNode, line: int) -> YamlMapping:
        entries: dict[str, YamlEntry] = {}
        for key_node, value_node in node.value:
            value = self.node(value_node)
            key = self.node(key_node)
            if isinstance(key, YamlRefused):
                continue
            if not isinstance(key, YamlScalar) or not isinstance(key.value, str):
                self._problem(key.line, "a key must be text: quote it")
            elif key.value in entries:
                first = entries[key.value].line
                self._problem(key.line, f"this key is already on line {first}: keep one of the two")
            else:
                entries[key.value] = YamlEntry(key.value, value, key.line)
        return YamlMapping(tuple(entries.values()), line)

    def _scalar(self, node: yaml.Node, line: int) -> YamlScalar | YamlRefused:
        text: str = node.value
        if not text.isprintable():
            self._problem(
                line, "there is a control character or a line break here: write the value on one line"
            )
            return YamlRefused(line)
        if node.tag == _STR:
            return YamlScalar(text, line)
        if node.tag == _BOOL:
            return YamlScalar(text.lower() in _TRUE, line)
        if node.tag == _INT and _INTEGER.fullmatch(text):
            return YamlScalar(int(text), line)
        if node.tag == _FLOAT and _FRACTION.fullmatch(text):
            return YamlScalar(float(text), line)
        self._problem(line, _REFUSED.get(node.tag, "YAML gives this a meaning of its own: quote it"))
        return YamlRefused(line)

    def _problem(self, line: int, text: str) -> None:
        self.problems.append(Problem(line, text))
