"""`init` and `schema`: the files that they write, and that they overwrite none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from gateway.config.presets import PRESETS, starting_file
from gateway.config.schema import schema


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


@pytest.mark.parametrize("name", PRESETS)
def test_init_writes_a_preset_that_check_accepts(name: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    result = run("init", "--preset", name, "--config", file)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"{file}: written, preset {name}. Next: blnk-gateway check --config {file}",
        f"For completion in an editor: blnk-gateway schema > {tmp_path / 'gateway.schema.json'}",
    ]
    assert file.read_text() == starting_file(name, "gateway.schema.json")
    assert run("check", "--strict", "--coverage", "--config", file).exit_code == 0


def test_init_without_a_preset_is_core(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    run("init", "--config", file)
    assert run("diff", "--preset", "core", file).stdout.endswith("no change\n")


def test_init_overwrites_no_file(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("mine")
    result = run("init", "--config", file)
    problem = f"{file}: this file exists: move it, or name another file with --config\n"
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", problem)
    assert file.read_text() == "mine"


def test_a_directory_that_is_missing_is_wrong_usage(tmp_path: Path) -> None:
    file = tmp_path / "absent" / "gateway.yaml"
    result = run("init", "--config", file)
    assert (result.exit_code, result.stderr) == (2, f"{file}: cannot be written: No such file or directory\n")


def test_the_schema_is_printed_as_json() -> None:
    result = run("schema")
    assert (result.exit_code, json.loads(result.stdout)) == (0, schema())
