"""Makes man pages of click commands, in the language of man(7).

Rules kept here:
- Every command has a page with the text of its `--help`; no sentence is cut.
- Paragraphs that click does not wrap (those that begin with a line of backspace) keep their lines.
- All text is escaped, so that a line of it is never a macro, and quotes and hyphens can be pasted.
- A page has no date: the same version writes the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import cleandoc
from typing import Final

import click

from gateway.cli.groups import NO_LIMIT

_ESCAPES: Final = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", '"': r"\(dq"}
)
_UNWRAPPED: Final = "\b\n"
"""Begins a paragraph that click does not wrap."""


def man_pages(command: click.Command, program: str, version: str) -> dict[str, str]:
    """Return the pages of a command and of all below it, by their names without the section."""
    return {
        _name(context): _page(context, f"{program} {version}")
        for context in _contexts(click.Context(command, info_name=program, **command.context_settings))
    }


def _contexts(context: click.Context) -> Iterator[click.Context]:
    """Yield the contexts of a command and of all below it, but for hidden ones."""
    yield context
    for below in _commands(context):
        yield from _contexts(below)


def _commands(context: click.Context) -> list[click.Context]:
    group = context.command
    found = group.commands if isinstance(group, click.Group) else {}
    return [
        click.Context(command, info_name=name, parent=context)
        for name, command in sorted(found.items())
        if not command.hidden
    ]


def _page(context: click.Context, source: str) -> str:
    name = _name(context)
    usage = " ".join(context.command.collect_usage_pieces(context))
    lines = [
        f'.TH "{_escaped(name.upper())}" "1" "" "{_escaped(source)}" "User Commands"',
        ".SH NAME",
        rf"{_escaped(name)} \- {_escaped(_summary(context.command))}",
        ".SH SYNOPSIS",
        rf"{_bold(context.command_path)} {_escaped(usage)}",
        ".SH DESCRIPTION",
        *_paragraphs(context.command.help or ""),
        *_options(context),
        *_list("COMMANDS", [(_reference(below), _summary(below.command)) for below in _commands(context)]),
        *_exit_status(context.command.epilog or ""),
    ]
    if context.parent is not None:
        lines += [".SH SEE ALSO", _reference(context.parent)]
    return "\n".join(lines) + "\n"


def _name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _reference(context: click.Context) -> str:
    return f"{_bold(_name(context))}(1)"


def _summary(command: click.Command) -> str:
    return command.get_short_help_str(NO_LIMIT).removesuffix(".")


def _options(context: click.Context) -> list[str]:
    records = [option.get_help_record(context) for option in context.command.get_params(context)]
    return _list("OPTIONS", [(_bold(names), text) for names, text in filter(None, records)])


def _exit_status(epilog: str) -> list[str]:
    """Return the section of the exit codes: the lines of the epilog below its title."""
    codes = [line.split(maxsplit=1) for line in cleandoc(epilog).splitlines() if re.match(r" *\d", line)]
    return _list("EXIT STATUS", [(_bold(code), meaning) for code, meaning in codes])


def _list(title: str, items: list[tuple[str, str]]) -> list[str]:
    """Return a section of terms, which are escaped, and their descriptions; nothing without items."""
    lines = [line for term, text in items for line in (".TP", term, _escaped(text))]
    return [f".SH {title}", *lines] if lines else []


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(cleandoc(text).split("\n\n")):
        if number:
            yield ".PP"
        if paragraph.startswith(_UNWRAPPED):
            yield ".nf"
            yield from map(_escaped, paragraph.removeprefix(_UNWRAPPED).splitlines())
            yield ".fi"
        else:
            yield _escaped(" ".join(paragraph.split()))


def _bold(text: str) -> str:
    return rf"\fB{_escaped(text)}\fR"


def _escaped(text: str) -> str:
    escaped = text.translate(_ESCAPES)
    return rf"\&{escaped}" if escaped.startswith((".", " ")) else escaped
