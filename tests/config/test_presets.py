"""The presets differ as documented, and neither has effects that its author may not intend."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import parse_config
from gateway.config.presets import (
    CORE,
    EDITS,
    PRESETS,
    RECOMMENDED,
    core_table,
    edited,
    preset,
    starting_file,
)
from gateway.policy.coverage import shadowed, uncovered, unused_scopes
from gateway.policy.routes import Route, RouteTable
from tests.running import ROOT


def table_of(text: str) -> RouteTable:
    return parse_config(text.encode(), Path("gateway.yaml"), {}, secrets=False).routes


def by_name(table: RouteTable) -> dict[str, Route]:
    return {route.name: route for route in table.routes}


def test_core_is_the_file_that_ships() -> None:
    assert preset(CORE) == (ROOT / "gateway.yaml").read_text()
    assert core_table() == table_of(preset(CORE))


def test_recommended_differs_by_its_edits_alone() -> None:
    core, recommended = by_name(core_table()), by_name(table_of(preset(RECOMMENDED)))
    assert core.keys() == recommended.keys()
    assert {name for name in core if core[name] != recommended[name]} == set(EDITS)


def test_recommended_makes_filters_and_searches_reads() -> None:
    reads = by_name(table_of(preset(RECOMMENDED)))
    filters = [name for name in reads if name.endswith(("/filter", "/multi-search", "/search/{collection}"))]
    assert len(filters) == 7
    assert [reads[name].scopes[0].partition(":")[2] for name in filters] == ["read"] * 7


@pytest.mark.parametrize("text", ["routes:\n", "  GET /a: deny\n  GET /a: deny\n", "# GET /a: deny\n"])
def test_an_edit_that_finds_no_line_or_two_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="GET /a is not on exactly one line"):
        edited(text, {"GET /a": "master"})


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_covers_all_of_core_and_has_no_warning(name: str) -> None:
    table, core = table_of(preset(name)), core_table()
    remarks = [*shadowed(table, core), *uncovered(table, core), *unused_scopes(table, core)]
    assert [remark.text for remark in remarks if remark.warns] == []


@pytest.mark.parametrize("name", PRESETS)
def test_a_new_file_is_its_preset_and_names_its_schema(name: str) -> None:
    text = starting_file(name, "s.json")
    assert text.startswith("# yaml-language-server: $schema=s.json\n#")
    assert table_of(text) == table_of(preset(name))


def test_no_line_of_a_preset_is_wider_than_the_file_that_ships() -> None:
    widest = max(map(len, preset(CORE).splitlines()))
    assert max(map(len, preset(RECOMMENDED).splitlines())) <= widest
