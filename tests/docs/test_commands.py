"""The generated table of commands in `deploy/reference.md`."""

from __future__ import annotations

import click

from tests.docs.run import REFERENCE, SECTION, commands, table


def test_it_is_current() -> None:
    """To write it again: `python3 -m tests.docs`."""
    text = REFERENCE.read_text(encoding="utf-8")
    begin, end = (
        f"<!-- {SECTION.name}: begin, written by {SECTION.command} -->\n",
        f"\n<!-- {SECTION.name}: end -->",
    )
    assert text.partition(begin)[2].partition(end)[0] == table()


def test_it_has_the_commands_of_groups_and_names_no_group() -> None:
    group = click.Group("outer", commands=[click.Group("inner", commands=[click.Command("do")])])
    assert [name for name, _ in commands(group, "x")] == ["x inner do"]
