"""The generated tables of `deploy/reference.md`."""

from __future__ import annotations

import click
import pytest

from tests.docs.tables import (
    COMMAND,
    REFERENCE,
    TABLES,
    Table,
    commands,
    commands_table,
    metrics_table,
    settings_table,
)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.section.name)
def test_it_is_current(table: Table) -> None:
    assert table.section.text_in(REFERENCE) == table.text(), f"run {COMMAND}"


def test_a_setting_has_its_default_as_a_file_would_have_it() -> None:
    """A setting without a default is required; a link leads to the operating guide."""
    rows = settings_table().splitlines()
    assert [row.split(" | ")[:2] for row in rows if "upstream.max_body`" in row.split(" | ")[0]] == [
        ["| `upstream.max_body`", "`5MiB`"]
    ]
    assert [row.split(" | ")[1] for row in rows if row.startswith("| `keys.store`")] == ["required"]
    assert [row.split(" | ")[1] for row in rows if row.startswith("| `health`")] == ["none"]
    assert [row for row in rows if "(README.md#overload)" in row] != []


def test_a_metric_has_its_type_and_labels_and_settings_look_like_settings() -> None:
    (row,) = (row for row in metrics_table().splitlines() if "connection_wait_seconds" in row)
    assert row.startswith("| `blnk_gateway_upstream_connection_wait_seconds` | histogram |  | ")
    assert "its turn (`upstream.connections`)" in row


def test_it_has_the_commands_of_groups_and_names_no_group() -> None:
    group = click.Group("outer", commands=[click.Group("inner", commands=[click.Command("do")])])
    assert [name for name, _ in commands(group, "x")] == ["x inner do"]
    assert "| `blnk-gateway keys create` | " in commands_table()
