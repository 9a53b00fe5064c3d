"""What is wrong with a configuration, as values and as the exception that carries all of them."""

from __future__ import annotations

from gateway.policy.problems import Problem


class ConfigError(Exception):
    """A configuration that is refused, with every problem: the file's by line, then the environment's."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        """At least one problem."""
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class UnreadableConfigError(ConfigError):
    """The file cannot be read; `absent` if there is none of its name."""

    def __init__(self, problems: tuple[Problem, ...], *, absent: bool = False) -> None:
        """At least one problem."""
        super().__init__(problems)
        self.absent = absent
