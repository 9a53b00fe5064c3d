"""`diff`: its output for people and programs, its two sides, and its exit codes."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from tests.running import ROOT

SHIPPED = str(ROOT / "gateway.yaml")
KEYS = "upstream: {url: 'http://127.0.0.1:5100', master_key: x}\nkeys: {store: 'memory://'}\n"
OLD = f"""{KEYS}routes:
  GET /ledgers: ledgers:read
  POST /ledgers: {{scope: ledgers:write, stamp: create}}
  GET /hooks: master
  GET /backup: backup:read
"""
NEW = f"""{KEYS}limits: {{rate: 9}}
routes:
  GET /ledgers: {{scope: ledgers:read, mode: report-only, until: "2001-01-02"}}
  POST /ledgers: {{scope: ledgers:write, stamp: none}}
  GET /health: public
  GET /accounts/{{id}}: deny
  GET /hooks: [hooks:read, ledgers:read]
  GET /x: master
"""
TOLD = """\
{old} -> {new}
+ GET /health         opens to anyone, without a key (was not listed)  {new}:7
+ GET /ledgers        opens to any live key, until its date (was ledgers:read)  {new}:5
+ GET /hooks          opens to hooks:read and ledgers:read (was master)  {new}:9
+ POST /ledgers       loses its stamp (create -> none)  {new}:6
+ GET /x              opens to the master key (was not listed)  {new}:10
- GET /backup         closes to backup:read and the master key (now not listed)  {old}:7
~ GET /accounts/{{id}}  not listed -> deny  {new}:8
~ limits.rate         none -> 9/s
5 wider, 1 narrower, 2 other
"""
BACK = """\
{new} -> {old}
+ GET /backup         opens to backup:read and the master key (was not listed)  {old}:7
~ POST /ledgers       stamp none -> create  {old}:5
- GET /health         closes to anyone, without a key (now not listed)  {new}:7
- GET /hooks          closes to hooks:read and ledgers:read (now master)  {old}:6
- GET /ledgers        closes to any live key, until its date (now ledgers:read)  {old}:4
- GET /x              closes to the master key (now not listed)  {new}:10
~ GET /accounts/{{id}}  deny -> not listed  {new}:8
~ limits.rate         9/s -> none
1 wider, 4 narrower, 3 other
"""
PRESETS = """\
core -> recommended
+ POST /accounts/filter                    opens to accounts:read (was accounts:write)
+ POST /balances/filter                    opens to balances:read (was balances:write)
+ POST /identities/filter                  opens to identities:read (was identities:write)
+ POST /ledgers/filter                     opens to ledgers:read (was ledgers:write)
+ POST /multi-search                       opens to search:read (was search:write)
+ POST /search/{collection}                opens to search:read (was search:write)
+ POST /transactions/filter                opens to transactions:read (was transactions:write)
+ GET /identities/{id}/detokenize/{field}  opens to identities:write, closes to identities:read
- GET /backup                              closes to backup:read (now master)
8 wider, 1 narrower, 0 other
"""


def run(*arguments: str | Path, **environ: str) -> Result:
    return CliRunner().invoke(cli, ["diff", *map(str, arguments)], env=environ)


def outcome(result: Result) -> tuple[int, str, str]:
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(OLD)
    new.write_text(NEW)
    return old, new


def test_every_kind_of_change_is_printed_the_most_dangerous_first(sides: tuple[Path, Path]) -> None:
    old, new = sides
    assert outcome(run(old, new)) == (0, TOLD.format(old=old, new=new), "")
    assert outcome(run(new, old)) == (0, BACK.format(old=old, new=new), "")


def test_equal_files_have_no_change(sides: tuple[Path, Path]) -> None:
    old, _ = sides
    assert outcome(run(old, old, "--fail-on-widening")) == (0, f"{old} -> {old}\nno change\n", "")


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--fail-on-widening",), 1)])
def test_a_widening_fails_on_request(sides: tuple[Path, Path], options: tuple[str, ...], code: int) -> None:
    assert run(*sides, *options).exit_code == code


def test_a_narrowing_is_no_widening(sides: tuple[Path, Path]) -> None:
    _, new = sides
    new.write_text(OLD.replace("backup:read", "deny"))
    assert run(*sides, "--fail-on-widening").exit_code == 0


def test_a_setting_that_lets_someone_do_more_is_a_widening(sides: tuple[Path, Path]) -> None:
    old, new = sides
    old.write_text(OLD.replace("'memory://'", "'memory://', master: deny"))
    new.write_text(OLD)
    result = run(old, new, "--fail-on-widening")
    assert (result.exit_code, result.stdout) == (
        1,
        f"{old} -> {new}\n+ keys.master  deny -> accept\n1 wider, 0 narrower, 0 other\n",
    )


def test_json_has_every_member(sides: tuple[Path, Path]) -> None:
    old, new = sides
    result = json.loads(run(old, new, "--output", "json").stdout)
    assert (result["wider"], result["settings"]) == (
        True,
        [{"setting": "limits.rate", "wider": False, "old": "none", "new": "9/s"}],
    )
    assert [one["kind"] for one in result["changes"]] == [
        "open to anyone", "open to any key", "open to scopes", "unstamped", "open to the master key",
        "closed", "refused otherwise",
    ]  # fmt: skip
    route = {
        "name": "GET /ledgers",
        "access": "scopes",
        "scopes": ["ledgers:read"],
        "stamp": "none",
        "first_byte": None,
    }
    assert result["changes"][1] == {
        "kind": "open to any key",
        "wider": True,
        "method": "GET",
        "path": "/ledgers",
        "opened_to": ["any key"],
        "closed_to": [],
        "unstamped": False,
        "old": {**route, "line": 4, "body_optional": False, "report_only_until": None},
        "new": {**route, "line": 5, "body_optional": False, "report_only_until": "2001-01-02"},
        "core": "GET /ledgers",
    }
    assert result["changes"][0]["old"] is None
    assert [sorted(result[name]) for name in ("old", "new")] == [["name", "sha256"]] * 2


def test_the_new_side_is_the_configuration_unless_named(sides: tuple[Path, Path]) -> None:
    old, new = sides
    assert run(old, "--config", new).stdout == run(old, new).stdout


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        (("--preset", "core", "--preset", "recommended"), "core -> recommended"),
        (("--preset=recommended", "--fail-on-widening", "--preset=core"), "recommended -> core"),
        ((SHIPPED, "--preset", "recommended"), f"{SHIPPED} -> recommended"),
        (("--preset", "recommended", SHIPPED), f"recommended -> {SHIPPED}"),
        (("--preset", "core", "--", SHIPPED), f"core -> {SHIPPED}"),
        (("--preset", "recommended", "--config", SHIPPED), f"recommended -> {SHIPPED}"),
    ],
)
def test_a_preset_is_old_or_new_by_its_place(arguments: tuple[str, ...], title: str) -> None:
    assert run(*arguments).stdout.partition("\n")[0] == title


def test_the_difference_of_the_presets_is_short() -> None:
    """A preset is no file, so its lines are not named."""
    assert run("--preset", "core", "--preset", "recommended").stdout == PRESETS


def test_lines_are_coloured_only_on_a_terminal(sides: tuple[Path, Path]) -> None:
    old, new = sides
    coloured = run(old, new, FORCE_COLOR="1", TERM="xterm")
    assert "\x1b[1;31m+" in coloured.stdout
    assert "\x1b[" not in run(old, new).stdout


@pytest.fixture
def repository(sides: tuple[Path, Path]) -> Iterator[Path]:
    """Make the working directory a git repository: its commit has OLD as old.yaml, the file has NEW."""
    old, new = sides
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    with contextlib.chdir(old.parent):
        subprocess.run([*git, "init", "-q", "."], check=True)
        subprocess.run([*git, "add", "old.yaml"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
        old.write_text(new.read_text())
        yield old.parent


def test_a_side_may_be_a_file_of_a_revision(repository: Path) -> None:
    result = run("HEAD:old.yaml", "old.yaml")
    assert outcome(result) == (0, TOLD.format(old="HEAD:old.yaml", new="old.yaml"), "")


def test_a_file_wins_over_a_revision_of_that_name(repository: Path) -> None:
    (repository / "HEAD:old.yaml").write_text(NEW)
    assert run("HEAD:old.yaml", "old.yaml").stdout.endswith("no change\n")


@pytest.mark.parametrize(
    ("side", "problem"),
    [
        ("HEAD:absent.yaml", "cannot be read: path 'absent.yaml' does not exist in 'HEAD'"),
        ("nowhere:old.yaml", "cannot be read: invalid object name 'nowhere'."),
        ("absent.yaml", "cannot be read: No such file or directory"),
        ("HEAD:\0", "cannot be read: git failed, or did not finish in time"),
    ],
)
def test_an_unreadable_side_is_wrong_usage(repository: Path, side: str, problem: str) -> None:
    code, out, err = outcome(run(side, "old.yaml"))
    assert (code, out) == (2, "")
    assert problem in err


def test_a_name_is_never_an_option_of_git(repository: Path) -> None:
    assert outcome(run("old.yaml", "--", "--textconv:x")) == (
        2,
        "",
        "--textconv:x: cannot be read: write REV:FILE\n",
    )


def test_outside_a_repository_the_text_of_git_is_printed(tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        result = run("HEAD:x", SHIPPED, GIT_CEILING_DIRECTORIES=str(tmp_path.parent))
    assert "cannot be read: not a git repository" in result.stderr


def test_without_git_there_are_only_files(tmp_path: Path) -> None:
    reason = "there is no such file, and git, which reads revisions, is not installed"
    problem = f"HEAD:x: cannot be read: {reason}\n"
    assert outcome(run("HEAD:x", SHIPPED, PATH=str(tmp_path))) == (2, "", problem)


def test_every_problem_of_both_sides_is_printed(sides: tuple[Path, Path]) -> None:
    old, new = sides
    old.write_text(OLD.replace("backup:read", "*:read"))
    new.write_text(NEW.replace("limits", "limitz"))
    code, out, err = outcome(run(old, new))
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        f'{old}:7: a value that begins with * is an alias to YAML: quote it, as "*:read"',
        f"{new}:3: unknown key 'limitz'; did you mean 'limits'?",
    ]


@pytest.mark.parametrize("name", ["other", "", "core:"])
def test_an_unknown_preset_is_wrong_usage(name: str) -> None:
    result = run(f"--preset={name}" if name else "--preset", SHIPPED)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_the_environment_changes_no_side(sides: tuple[Path, Path]) -> None:
    assert "limits.rate         none -> 9/s" in run(*sides, BLNK_GATEWAY_LIMITS__RATE="77").stdout
