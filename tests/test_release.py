"""A release: what `.ci/release` checks and writes, and the sdist and wheel that users install.

Rules kept here:
- Nothing is downloaded: the new environment takes the dependencies of the environment of the tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from gateway.server.version import version
from tests.running import ROOT

RELEASE = ROOT / ".ci" / "release"
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
PROJECT = '[project]\nversion = "1.2.0"\n'
CHANGELOG = """\
# Changelog

## Unreleased
{unreleased}
## 1.2.0 - 2027-01-01

### Added

- A thing ([how](deploy/README.md#thing), [why](https://example.com/why)).

## 1.1.0 - 2026-12-01

- Older.
"""


def release(folder: Path, step: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run one step in a copy of the files that it reads."""
    return subprocess.run(
        [folder / ".ci" / "release", step],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of version 1.2.0, with nothing unreleased."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(RELEASE, tmp_path / ".ci" / "release")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG.format(unreleased=""))
    return tmp_path


class TestNotes:
    def test_the_notes_are_the_section_of_the_version(self, checkout: Path) -> None:
        """Links to files have their whole address, at the tag."""
        done = release(checkout, "notes", GITHUB_REF_NAME="v1.2.0", GITHUB_REPOSITORY="some/where")
        assert (done.returncode, done.stderr) == (0, "")
        assert (checkout / "dist" / "notes.md").read_text().strip() == (
            "### Added\n\n"
            "- A thing ([how](https://github.com/some/where/blob/v1.2.0/deploy/README.md#thing), "
            "[why](https://example.com/why))."
        )

    def test_a_tag_of_another_version_is_refused(self, checkout: Path) -> None:
        """A release says what it is: the tag, the package and the changelog have one version."""
        done = release(checkout, "notes", GITHUB_REF_NAME="v1.3.0")
        assert (done.returncode, done.stderr) == (
            1,
            ".ci/release: the tag is v1.3.0, but pyproject.toml has version 1.2.0: tag v1.2.0\n",
        )

    def test_changes_that_are_listed_nowhere_are_refused(self, checkout: Path) -> None:
        """What is under "Unreleased" would be released without a note."""
        (checkout / "CHANGELOG.md").write_text(CHANGELOG.format(unreleased="\n- One more.\n"))
        done = release(checkout, "notes", GITHUB_REF_NAME="v1.2.0")
        assert done.returncode == 1
        assert "move what is under 'Unreleased' to 1.2.0" in done.stderr

    def test_a_version_without_a_section_is_refused(self, checkout: Path) -> None:
        (checkout / "pyproject.toml").write_text(PROJECT.replace("1.2.0", "1.20.0"))
        done = release(checkout, "notes", GITHUB_REF_NAME="v1.20.0")
        assert (done.returncode, done.stderr) == (
            1,
            ".ci/release: CHANGELOG.md: nothing is listed under 1.20.0\n",
        )


class TestPublishing:
    def test_all_files_are_published_with_their_checksums(self, checkout: Path) -> None:
        """The notes are the text of the release, and none of its files; a release needs a tag that exists."""
        dist, programs = checkout / "dist", checkout / "programs"
        for folder in (dist, programs):
            folder.mkdir()
        (dist / "notes.md").write_text("What changed.\n")
        (dist / "a.whl").write_bytes(b"a")
        (dist / "b.tar.gz").write_bytes(b"b")
        (programs / "gh").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        (programs / "gh").chmod(0o755)
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        done = release(checkout, "publish", GITHUB_REF_NAME="v1.2.0", PATH=path)
        assert (done.stdout.split(), done.stderr) == (
            [
                *("release", "create", "v1.2.0", "--verify-tag", "--title", "1.2.0"),
                *("--notes-file", "../notes.md", "--", "SHA256SUMS", "a.whl", "b.tar.gz"),
            ],
            "",
        )
        assert (checkout / "notes.md").read_text() == "What changed.\n"
        checked = output_of("sha256sum", "--check", "SHA256SUMS", cwd=dist)
        assert checked == "a.whl: OK\nb.tar.gz: OK\n"


class TestSteps:
    def test_the_workflow_runs_every_step_and_publishes_last(self) -> None:
        """Each step that the script describes is run by one job, and none else."""
        described = re.findall(r"^#   (\w+) ", RELEASE.read_text(), re.MULTILINE)
        jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
        run = {
            name: [step["run"].removeprefix(".ci/release ") for step in job["steps"] if "run" in step]
            for name, job in jobs.items()
        }
        assert sorted(step for steps in run.values() for step in steps) == sorted(described)
        assert run["publish"] == ["publish"]
        assert jobs["publish"]["needs"] == ["wheel", "package"]

    def test_an_unknown_step_is_refused_with_the_list(self, checkout: Path) -> None:
        done = release(checkout, "nothing")
        assert (done.returncode, done.stdout) == (2, "")
        assert "  notes      check that the tag" in done.stderr
        assert "  publish    make a release" in done.stderr


@dataclass(frozen=True, slots=True)
class Built:
    """The files that were built from the checkout."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist of the checkout, and the pure wheel of that sdist, as `.ci/release dist` builds them."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("MANIFEST.in", "pyproject.toml", "setup.py", "README.md", "LICENSE", "gateway.yaml"):
        shutil.copy(ROOT / name, source)
    (source / "tests").mkdir()
    shutil.copy(__file__, source / "tests")
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(ROOT / "gateway", source / "gateway", symlinks=True, ignore=ignored)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, source],
        capture_output=True,
        check=True,
        timeout=110,
    )
    [sdist], [wheel] = dist.glob("*.tar.gz"), dist.glob("*.whl")
    return Built(sdist, wheel)


class TestPackages:
    def test_their_names_have_the_version_of_the_project(self, built: Built) -> None:
        """The wheel is for every Python 3 and every machine."""
        assert built.sdist.name == f"blnk_gateway-{version()}.tar.gz"
        assert built.wheel.name == f"blnk_gateway-{version()}-py3-none-any.whl"

    def test_the_sdist_has_what_a_compiled_build_needs(self, built: Built) -> None:
        """All sources, the build backend, the licence and the file that ships; no tests."""
        with tarfile.open(built.sdist) as packed:
            names = {name.partition("/")[2] for name in packed.getnames()}
        sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gateway").rglob("*.py")}
        assert (
            sources | {"pyproject.toml", "setup.py", "README.md", "LICENSE", "gateway/gateway.yaml"} <= names
        )
        assert {name for name in names if name.startswith("tests")} == set()

    def test_the_wheel_has_the_package_and_nothing_else(self, built: Built) -> None:
        """All modules, the console, the marker of types and the file that ships; no tests, no documents."""
        with zipfile.ZipFile(built.wheel) as packed:
            names = {name for name in packed.namelist() if ".dist-info/" not in name}
        modules = (ROOT / "gateway").rglob("*.py")
        console = (ROOT / "gateway" / "admin" / "console").glob("console.*")
        sources = {path.relative_to(ROOT).as_posix() for path in (*modules, *console)}
        assert names == sources | {"gateway/py.typed", "gateway/gateway.yaml"}

    def test_the_installed_wheel_runs(self, built: Built, tmp_path: Path) -> None:
        """In a new environment it prints its version, writes a first gateway.yaml and checks it."""
        environment = tmp_path / "environment"
        python, command = environment / "bin" / "python", environment / "bin" / "blnk-gateway"
        output_of(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
        install = ("-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps")
        output_of(sys.executable, *install, built.wheel, cwd=tmp_path)
        [packages] = environment.glob("lib/python3*/site-packages")
        (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")

        place = output_of(python, "-c", "import gateway; print(gateway.__file__)", cwd=tmp_path)
        assert place == f"{packages}/gateway/__init__.py\n"
        assert output_of(command, "--version", cwd=tmp_path) == (
            f"blnk-gateway, version {version()} (interpreted)\n"
        )
        assert output_of(command, "init", cwd=tmp_path).startswith("gateway.yaml: written, preset core.")
        assert output_of(command, "check", cwd=tmp_path).startswith("gateway.yaml")


def output_of(*command: str | Path, cwd: Path) -> str:
    """Return the standard output of a command that must succeed; nothing of the checkout is on its path."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "BLNK_MASTER_KEY": "a-master-key-of-enough-length"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout
