"""Collects the settings that were read so far, where each is given, and the problems and warnings."""

from __future__ import annotations

from typing import Any

from gateway.policy.problems import Problem

Location = tuple[str, int]
"""Where a setting is given: the file and its line, or the environment variable and 0."""

MASTER_KEYS = ("upstream.master_key", "upstream.master_key_file")
UNREPLACED = "'$NAME' is taken literally: write ${NAME} in gateway.yaml for the value of a variable"


class SettingsDraft:
    """The settings of one configuration while they are read and checked.

    `values` holds the value of each setting by its path, None for a refused one. `places` holds the location
    of each setting that is given. `unset` holds the settings whose variable is missing in the environment.
    """

    def __init__(self, file: str) -> None:
        """Start without any setting; `file` is the name in problems."""
        self.file = file
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.values: dict[str, Any] = {}
        self.places: dict[str, Location] = {}
        self.unset: set[str] = set()

    def refuse(self, line: int, text: str) -> None:
        """Add a problem at a line of the file."""
        self.problems.append(Problem(line, text, self.file))

    def refuse_setting(self, path: str, text: str) -> None:
        """Add a problem of a setting that is given, at its place."""
        self.problems.append(self._at_setting(path, text))

    def warn(self, line: int, text: str) -> None:
        """Add a warning at a line of the file."""
        self.warnings.append(Problem(line, text, self.file))

    def warn_setting(self, path: str, text: str) -> None:
        """Add a warning of a setting that is given, at its place."""
        self.warnings.append(self._at_setting(path, text))

    def section(self, name: str) -> dict[str, Any]:
        """Return the values of one section by their names."""
        prefix = f"{name}."
        return {path[len(prefix) :]: self.values[path] for path in self.values if path.startswith(prefix)}

    def top_level(self) -> dict[str, Any]:
        """Return the values of the settings that are in no section."""
        return {path: value for path, value in self.values.items() if "." not in path}

    def _at_setting(self, path: str, text: str) -> Problem:
        source, line = self.places[path]
        return Problem(line, f"{path}: {text}" if line else text, source)
