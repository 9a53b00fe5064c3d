"""Check the files around the code: changelog, workflow, forms, hooks.

Rules kept here:
- Commands are run, or looked up where they are defined; they are never compared with a copy.
- Rules that only GitHub can check (its schemas, the versions of actions) are not checked here.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import yaml

from gateway.cli import cli
from gateway.config import settings
from gateway.config.model import sections
from gateway.errors import Code
from tests.running import ROOT

GITHUB = ROOT / ".github"
CHANGELOG = ROOT / "CHANGELOG.md"
RELEASE = GITHUB / "workflows" / "release.yml"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
HOOKS = ROOT / ".pre-commit-config.yaml"
YAML = (*WORKFLOWS, *(GITHUB / "ISSUE_TEMPLATE").glob("*.yml"), HOOKS)
TEXTS = (*GITHUB.rglob("*.md"), *FORMS, CHANGELOG)

# The kinds of Keep a Changelog 1.1.0, in its order; notes on upgrading come before them.
KINDS = ("Upgrading from", "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


class Version(NamedTuple):
    """A version of the changelog: its heading without the date, and the text below it."""

    name: str
    date: str
    text: str


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def loaded(path: Path) -> Any:
    return yaml.safe_load(text_of(path))


def versions() -> list[Version]:
    parts = re.split(r"^## (\S+)(?: - (\S+))?\n", text_of(CHANGELOG), flags=re.MULTILINE)
    return [
        Version(*part)
        for part in zip(parts[1::3], [date or "" for date in parts[2::3]], parts[3::3], strict=True)
    ]


def number_of(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    return found


def jobs() -> Iterator[dict[str, Any]]:
    for workflow in WORKFLOWS:
        yield from loaded(workflow)["jobs"].values()


def steps() -> list[dict[str, Any]]:
    return [step for job in jobs() for step in job["steps"]]


def hooks() -> list[Any]:
    found = [hook for repository in loaded(HOOKS)["repos"] for hook in repository["hooks"]]
    return [pytest.param(shlex.split(hook["entry"]), id=hook["id"]) for hook in found]


@pytest.mark.parametrize("path", YAML, ids=name_of)
def test_every_file_of_yaml_can_be_read(path: Path) -> None:
    """Every file is valid YAML, because GitHub silently ignores others."""
    assert isinstance(loaded(path), dict)


class TestChangelog:
    def test_the_version_of_the_package_says_what_is_released(self) -> None:
        """It is that of the newest release, or where changes follow it, one in development."""
        unreleased, newest, *_ = versions()
        assert unreleased.name == "Unreleased"
        version, _, development = project()["version"].partition(".dev")
        if not unreleased.text.strip():
            assert (version, development) == (newest.name, "")
        else:
            assert (number_of(version) > number_of(newest.name), development) == (True, "0")

    def test_every_release_has_its_date(self) -> None:
        """Dates are in ISO 8601, and the newest release comes first."""
        dates = [version.date for version in versions()[1:]]
        assert [date for date in dates if not re.fullmatch(r"\d{4}-\d\d-\d\d", date)] == []
        assert dates == sorted(dates, reverse=True)

    @pytest.mark.parametrize("version", versions(), ids=lambda version: version.name)
    def test_changes_are_grouped_by_their_kind(self, version: Version) -> None:
        """Each kind comes once, in the order of Keep a Changelog."""
        titles = re.findall(r"^### (.+)$", version.text, re.MULTILINE)
        kinds = [next((kind for kind in KINDS if title.startswith(kind)), title) for title in titles]
        assert kinds == [kind for kind in KINDS if kind in kinds]

    def test_what_is_added_exists(self) -> None:
        """Settings, error codes and metrics that the next version adds exist."""
        added = versions()[0].text.partition("### Added\n")[2].partition("\n### ")[0]
        named = set(re.findall(r"`([\w.]+)`", added))
        of_settings = {name for name in named if name.partition(".")[0] in sections() and "." in name}
        of_codes = {name for name in named if re.fullmatch(r"(AUTH|GEN|GATEWAY|TXN|APIKEY)_[A-Z_]+", name)}
        of_metrics = {name for name in named if name.startswith("blnk_gateway_")}
        assert of_settings - settings().keys() == set()
        assert of_codes - {code.code for code in Code} == set()
        # test_docs.py compares the table of this page with the metrics that exist.
        assert of_metrics - set(re.findall(r"`(\w+)`", text_of(ROOT / "deploy" / "reference.md"))) == set()


class TestWorkflows:
    def test_one_runs_the_whole_suite(self) -> None:
        """A workflow runs the command that the documents name, which anybody can run."""
        assert ".ci/run" in [step.get("run") for step in steps()]

    def test_every_command_is_there_and_can_be_executed(self) -> None:
        """Programs with a path are in the clone, others are on the PATH."""
        lines = [line for step in steps() for line in step.get("run", "").splitlines()]
        programs = {shlex.split(line)[0] for line in lines}
        missing = [name for name in programs if not shutil.which(ROOT / name if "/" in name else name)]
        assert missing == []

    def test_the_suite_is_started_by_what_they_run(self) -> None:
        """With --help the command prints the usage of the tests."""
        # It is set for the compiled build, and would hide the package of the tests.
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
        shown = subprocess.run(
            [ROOT / ".ci" / "run", "--help"],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert "usage: python3 -m tests " in shown.stdout

    def test_the_oldest_python_is_the_one_of_the_package(self) -> None:
        """Each matrix begins with the version of `requires-python`, and all have the same versions."""
        matrices = [job["strategy"]["matrix"]["python"] for job in jobs() if "strategy" in job]
        oldest = min(matrices[0], key=lambda text: tuple(map(int, text.split("."))))
        assert f">={oldest}" == project()["requires-python"]
        assert matrices == [matrices[0]] * len(matrices)

    def test_actions_are_held_to_a_major_version(self) -> None:
        """All actions are GitHub's own, with a major version."""
        used = [step["uses"] for step in steps() if "uses" in step]
        assert [action for action in used if not re.fullmatch(r"actions/[\w-]+@v\d+", action)] == []

    @pytest.mark.parametrize("workflow", WORKFLOWS, ids=name_of)
    def test_they_may_only_read_and_know_no_secret(self, workflow: Path) -> None:
        """A workflow can only read and has no secrets, because strangers' pull requests run it.

        The job that publishes a release may write, in a workflow that only a tag starts.
        """
        assert loaded(workflow)["permissions"] == {"contents": "read"}
        jobs_of_it = loaded(workflow)["jobs"].items()
        more = {name: job["permissions"] for name, job in jobs_of_it if "permissions" in job}
        assert more == ({"publish": {"contents": "write"}} if workflow == RELEASE else {})
        assert re.findall(r"secrets\b|pull_request_target", text_of(workflow)) == []
        kept = [step for step in steps() if step.get("uses", "").startswith("actions/checkout@")]
        assert [step["with"]["persist-credentials"] for step in kept] == [False] * len(kept)

    def test_only_a_tag_of_a_version_starts_a_release(self) -> None:
        """Neither a branch nor a pull request runs the workflow that may write."""
        # YAML 1.1 reads `on` as true.
        assert loaded(RELEASE)[True] == {"push": {"tags": ["v*"]}}

    def test_every_job_ends(self) -> None:
        """Every job ends within an hour; GitHub's own limit is six."""
        assert [
            job.get("timeout-minutes", 360) for job in jobs() if job.get("timeout-minutes", 360) > 60
        ] == []


class TestCommands:
    @pytest.mark.parametrize("command", hooks())
    def test_a_hook_runs_what_is_in_the_environment_of_the_tests(self, command: list[str]) -> None:
        """The tool of a hook starts and prints its version."""
        assert command[:2] == [".venv/tests/bin/python", "-m"]
        subprocess.run(
            [sys.executable, "-m", command[2], "--version"], check=True, capture_output=True, timeout=60
        )

    @pytest.mark.parametrize("path", TEXTS, ids=name_of)
    def test_every_command_that_is_named_exists(self, path: Path) -> None:
        """A command exists with its options, whether `blnk-gateway` is written before it or not."""
        assert [line for line in commands(text_of(path)) if not is_command(line.split())] == []

    @pytest.mark.parametrize(
        ("line", "exists"),
        [
            ("check --env", True),
            ("keys prune --dead-before 365d", True),
            ("help COMMAND", True),
            ("--version", True),
            ("check --envy", False),
            ("keys prunes", False),
            ("checks", False),
        ],
    )
    def test_a_command_that_does_not_exist_is_noticed(self, line: str, exists: bool) -> None:
        """The check finds a wrong command, a wrong command of a group, and a wrong option."""
        assert (commands(f"`blnk-gateway {line}`"), is_command(line.split())) == ([line], exists)

    @pytest.mark.parametrize("path", TEXTS, ids=name_of)
    def test_every_tool_and_path_of_a_command_line_exists(self, path: Path) -> None:
        """`python3 -m tests...`, tests to run and programs of the clone exist."""
        text = text_of(path)
        modules = [ROOT.joinpath(*name.split(".")) for name in re.findall(r"python3 -m (tests[.\w]*)", text)]
        paths = [ROOT / name for name in re.findall(r"(?<![\w/.])((?:tests|\.ci)/[\w./]*\w)", text)]
        missing = [name_of(place) for place in (*(m / "__main__.py" for m in modules), *paths)]
        assert [name for name in missing if not (ROOT / name).exists()] == []


def commands(text: str) -> list[str]:
    """Return the command lines in a text, without `blnk-gateway`.

    A command line follows `blnk-gateway` in quotes or at the beginning of a line, or is in backquotes and
    has an option.
    """
    named = re.findall(r'(?:^|[`"/])blnk-gateway ([^`"\n#]+)', text, re.MULTILINE)
    short = [
        line for line in re.findall(r"`([a-z][^`\n]* --[^`\n]+)`", text) if line.split()[0] in cli.commands
    ]
    return [line.strip() for line in (*named, *short)]


def is_command(words: list[str]) -> bool:
    """Return whether the command exists and has these options."""
    found: click.Command = cli
    rest = list(words)
    while isinstance(found, click.Group) and rest and rest[0] in found.commands:
        found = found.commands[rest.pop(0)]
    if found is cli:
        return rest[:1] in (["help"], ["--version"])
    if isinstance(found, click.Group) and rest:
        return False
    options = {name for option in found.params for name in (*option.opts, *option.secondary_opts)}
    return all(word in options for word in rest if word.startswith("--"))
