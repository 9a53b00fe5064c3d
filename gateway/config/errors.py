"""The exceptions of a configuration that is refused."""

from __future__ import annotations

from gateway.policy.problems import Problem


class ConfigError(Exception):
    """A configuration is refused, for every problem: those of the file by line, then of the environment.

    Attributes:
        problems: at least one.
        sha256: the SHA-256 of the file; "" if it could not be read.
        store: the key store that it names, a secret; "" if that could not be read.
    """

    def __init__(self, problems: tuple[Problem, ...], *, sha256: str = "", store: str = "") -> None:
        """Take at least one problem."""
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
        self.sha256 = sha256
        self.store = store


class UnreadableConfigError(ConfigError):
    """The file cannot be read; `absent` says that it does not exist."""

    def __init__(self, problems: tuple[Problem, ...], *, absent: bool = False) -> None:
        """Take at least one problem."""
        super().__init__(problems)
        self.absent = absent
