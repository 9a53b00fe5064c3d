"""The lock files of the image have every requirement of pyproject.toml, with hashes (see `.ci/lock`)."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.running import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = ("core", "otel")  # those that the image has
RUN = [
    *PROJECT["project"]["dependencies"],
    *(name for extra in EXTRAS for name in PROJECT["project"]["optional-dependencies"][extra]),
]
BUILD = [
    *PROJECT["build-system"]["requires"],
    *PROJECT["tool"]["blnk-gateway"]["compiled"]["requires"],
    *PROJECT["project"]["dependencies"],
]
LOCKS = {"requirements.lock": RUN, "build-requirements.lock": BUILD}
_PINNED = re.compile(r"^([\w.-]+)==(\S+)(?: ; [^\\\n]+)? \\\n    --hash=sha256:[0-9a-f]{64}", re.MULTILINE)


def pinned(lock: Path) -> dict[str, str]:
    """Return the version of each package that has a hash."""
    return dict(_PINNED.findall(lock.read_text()))


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_every_requirement(name: str) -> None:
    """Every requirement is pinned to a version that pyproject.toml allows; run `.ci/lock` if one is not."""
    found = pinned(ROOT / "deploy" / name)
    wanted = [Requirement(text) for text in LOCKS[name]]
    wrong = [
        str(one) for one in wanted if one.name not in found or not one.specifier.contains(found[one.name])
    ]
    assert wrong == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_has_a_hash(name: str) -> None:
    lock = ROOT / "deploy" / name
    lines = [line for line in lock.read_text().splitlines() if re.match(r"[\w.-]+==", line)]
    assert len(pinned(lock)) == len(lines) > 20


def test_both_locks_agree() -> None:
    """The types that the build reads are those of the versions that run."""
    run, build = (pinned(ROOT / "deploy" / name) for name in LOCKS)
    assert {name: version for name, version in build.items() if run.get(name, version) != version} == {}
