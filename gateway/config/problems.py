"""What is wrong with a configuration, as values and as the exception that carries all of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """What is wrong, where, and what to write instead.

    `path` is the file or the variable of the environment; line 0 stands for no line.
    """

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        """`gateway.yaml:12: text`, as editors and terminals link it."""
        return f"{self.path}:{self.line}: {self.text}" if self.line else f"{self.path}: {self.text}"


class ConfigError(Exception):
    """A configuration that is refused, with every problem: the file's by line, then the environment's."""

    def __init__(self, problems: tuple[ConfigProblem, ...]) -> None:
        """At least one problem."""
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class UnreadableConfigError(ConfigError):
    """The file cannot be read; `absent` if there is none of its name."""

    def __init__(self, problems: tuple[ConfigProblem, ...], *, absent: bool = False) -> None:
        """At least one problem."""
        super().__init__(problems)
        self.absent = absent
