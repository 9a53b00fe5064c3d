"""Translates errors of PyYAML for the author of the file: which line, what is wrong, what to write.

Rules kept here:
- A problem names the line of the mistake, not the line where the parser noticed it: a quote or a bracket that
  is never closed is reported where it opens.
- No text of the file is repeated, because any of it may be a secret.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import yaml

from gateway.policy.problems import Problem


class _Mark(enum.Enum):
    """The two marks of an error, one of which names the line."""

    NOTICED = "the place where the parser stopped"
    OPENED = "the beginning of what the parser was reading"


@dataclass(frozen=True, slots=True)
class _Rule:
    """A pattern of PyYAML's messages and the text that replaces them; `{line}` is the line of NOTICED."""

    message: re.Pattern[str]
    text: str
    mark: _Mark = _Mark.NOTICED

    def problem(self, noticed: int, opened: int) -> Problem:
        return Problem(
            opened if self.mark is _Mark.OPENED else noticed, self.text.replace("{line}", str(noticed))
        )


_INDENTED: Final = "check the indentation of this line: the lines of one section begin in the same column"
_COLON: Final = re.compile("mapping values are not allowed here")

_RULES: Final = (
    _Rule(
        re.compile(r"found character '\\t'"),
        "there is a tab here: use blanks instead",
    ),
    _Rule(
        re.compile("found character"),
        "a value cannot begin with this character: put the value in quotes",
    ),
    _Rule(
        re.compile("found unexpected (end of stream|document separator)"),
        "a quote opens here and is never closed: close it on this line",
        _Mark.OPENED,
    ),
    _Rule(
        re.compile("found unknown escape character|expected escape sequence"),
        r"a backslash in double quotes begins an escape: write \\, or put the value in single quotes",
    ),
    _Rule(
        re.compile("could not find expected ':'"),
        "this line has no value: write 'key: value', with a blank after the colon",
        _Mark.OPENED,
    ),
    _Rule(
        _COLON,
        "a colon is not expected here: check the indentation of this line, and write a blank after the colon "
        "of each key",
    ),
    _Rule(
        re.compile("sequence entries are not allowed here"),
        "a list cannot begin on the line of its key with '- ': write [a, b]",
    ),
    _Rule(re.compile("mapping keys are not allowed here"), "a value cannot begin with '? ': quote it"),
    _Rule(
        re.compile(r"expected (<block end>|'<document start>'), but found '(<block \w+ start>|-|\?)'"),
        _INDENTED,
    ),
    _Rule(
        re.compile(r"expected <block end>, but found '[\]},]'"),
        "this bracket or comma closes nothing: remove it, or quote the value",
    ),
    _Rule(
        re.compile("expected <block end>"),
        "text follows the end of a value: put all of it in one pair of quotes",
    ),
    _Rule(re.compile("expected '<document start>'"), "nothing may follow the end of the document"),
    _Rule(
        re.compile(r"expected ',' or '\]'"),
        "'[' opens a list here: by line {line} a comma or its ']' is missing, or a value needs quotes",
        _Mark.OPENED,
    ),
    _Rule(
        re.compile(r"expected ',' or '\}'"),
        "'{' opens a mapping here: by line {line} a comma or its '}' is missing, or a value needs quotes",
        _Mark.OPENED,
    ),
    _Rule(re.compile("expected the node content"), "a value is missing here, or a bracket is never closed"),
    _Rule(
        re.compile("indentation indicator|expected a comment or a line break"),
        "'|' and '>' begin a text of several lines: put the value in quotes, on one line",
    ),
    _Rule(
        re.compile("directive|expected alphabetic or numeric character|expected a digit|version"),
        "a line that begins with % is a directive to YAML: remove it",
    ),
    _Rule(
        re.compile("tag|expected '[>!]'|expected ' '|expected URI"),
        "a value that begins with ! is a tag to YAML: quote it",
    ),
)


def problem_of(error: yaml.MarkedYAMLError, quotes: Sequence[yaml.Token]) -> Problem:
    """Return the problem of `error`.

    `quotes` are the quoted texts so far that span several lines: if the parser stops right after one of them,
    that quote was not closed on its own line.
    """
    noticed = _line(error.problem_mark or error.context_mark)
    for quote in quotes:
        if _line(quote.end_mark) == noticed:
            text = f"a quote opens here and is closed in line {noticed}: close it on its own line"
            return Problem(_line(quote.start_mark), text)
    message = error.problem or error.context or ""
    if _COLON.search(message) and ": " in _before(error.problem_mark):
        return Problem(noticed, "a value that holds ': ' needs quotes: put the whole value in quotes")
    for rule in _RULES:
        if rule.message.search(message):
            return rule.problem(noticed, _line(error.context_mark or error.problem_mark))
    return Problem(noticed, "this is not YAML")


def _before(mark: yaml.Mark | None) -> str:
    """Return the text before `mark` on its line."""
    if mark is None or mark.buffer is None:
        return ""
    return str(mark.buffer[mark.pointer - mark.column : mark.pointer])


def _line(mark: yaml.Mark | None) -> int:
    return 1 if mark is None else mark.line + 1
