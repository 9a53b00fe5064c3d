"""Reads a configuration from a file, from `REV:FILE` in git, or from a preset.

Rules kept here:
- An existing file of that name wins over a revision.
- Variables of the environment change nothing: two files are compared as they are.
- git gets the name as one argument that cannot be an option, and only reads.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from gateway.config.errors import UnreadableConfigError
from gateway.config.load import load_config, parse_config
from gateway.config.model import Config
from gateway.config.presets import PRESETS, preset
from gateway.config.yaml_document import MAX_BYTES
from gateway.policy.problems import Problem

PRESET: Final = "preset:"
_GIT_SECONDS: Final = 30.0


def read_source(name: str) -> Config:
    """Return the configuration that `name` names.

    Raises:
        UnreadableConfigError: it cannot be read.
        ConfigError: it has a problem.
    """
    path = Path(name)
    if name.startswith(PRESET):
        data = _preset(name.removeprefix(PRESET))
    elif ":" in name and not path.exists():
        data = _from_git(name)
    else:
        return load_config(path, {}, secrets=False)
    return parse_config(data, path, {}, secrets=False)


def _preset(name: str) -> bytes:
    if name not in PRESETS:
        raise _unreadable("--preset", f"write {' or '.join(PRESETS)}")
    return preset(name).encode()


def _from_git(name: str) -> bytes:
    git = shutil.which("git")
    if git is None:
        raise _unreadable(
            name, "cannot be read: there is no such file, and git, which reads revisions, is not installed"
        )
    if name.startswith("-"):
        raise _unreadable(name, "cannot be read: write REV:FILE")
    try:
        done = subprocess.run(  # noqa: S603 - the name cannot be an option
            [git, "cat-file", "blob", name], capture_output=True, check=False, timeout=_GIT_SECONDS
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        raise _unreadable(name, "cannot be read: git failed, or did not finish in time") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = lines[0].removeprefix("fatal: ") if lines else "git finds no such file"
        raise _unreadable(name, f"cannot be read: {reason}")
    return done.stdout[: MAX_BYTES + 1]


def _unreadable(name: str, text: str) -> UnreadableConfigError:
    return UnreadableConfigError((Problem(0, text, name),))
