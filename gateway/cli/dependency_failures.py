"""Describes the failures of dependencies to operators: which one failed, why, what to do, the exit code.

Rules kept here:
- The class of a failure names the dependency; nothing is guessed from a text or a response code.
- No text shows a password.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway.config import Config
from gateway.errors import GatewayError
from gateway.fairness.errors import OverloadedError
from gateway.keys.errors import (
    DatabaseUnavailableError,
    LookupOverloadError,
    StoreUnavailableError,
    UnacknowledgedError,
    UncertainError,
)
from gateway.keys.record import RefusedRecordError
from gateway.server.exit_codes import Exit
from gateway.wire.errors import UpstreamError, UpstreamTimeoutError

STORE: Final = "keys.store"
DATABASE: Final = "keys.core_database"
CORE: Final = "upstream.url"

_CORRECT: Final = "correct this, then run the command again"
_WAIT: Final = "run the command again in a moment"


class UnfinishedError(Exception):
    """A command failed after it had changed something.

    Args:
        failure: what ended it.
        advice: what the command has changed, and what to do now.
    """

    def __init__(self, failure: GatewayError | RefusedRecordError, advice: str) -> None:
        super().__init__(f"{failure}; {advice}")
        self.failure = failure
        self.advice = advice


CommandFailure = GatewayError | RefusedRecordError | UnfinishedError
"""What ends a command with a message that `describe` writes."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """The setting that names the dependency that failed, and what to do about a class of its failures."""

    setting: str
    advice: str = _CORRECT


_FAILURES: Final[Mapping[type[GatewayError], _Failure]] = MappingProxyType(
    {
        StoreUnavailableError: _Failure(STORE),
        UnacknowledgedError: _Failure(
            STORE,
            "the change was applied, but a failover may lose it; run the command again until it exits with 0",
        ),
        UncertainError: _Failure(STORE, "the change may have been applied; run the command again"),
        LookupOverloadError: _Failure(STORE, _WAIT),
        DatabaseUnavailableError: _Failure(DATABASE),
        UpstreamError: _Failure(CORE),
        UpstreamTimeoutError: _Failure(
            CORE,
            "Core may have applied the change; look at 'blnk-gateway keys list', then run the command again",
        ),
        OverloadedError: _Failure(CORE, _WAIT),
        GatewayError: _Failure(""),
    }
)
"""By the class of the failure; a subclass that is not listed counts as its nearest base class."""


@contextlib.contextmanager
def unfinished(advice: str) -> Iterator[None]:
    """Raise UnfinishedError, with the advice, for a dependency that fails inside."""
    try:
        yield
    except GatewayError as failure:
        raise UnfinishedError(failure, advice) from failure


def describe(failure: CommandFailure, config: Config, advice: str = "") -> tuple[str, Exit]:
    """Return the message and the exit code for what ended a command.

    `advice` replaces the usual advice for a dependency that failed.
    """
    if isinstance(failure, UnfinishedError):
        return _describe_unfinished(failure, config), Exit.DEPENDENCY
    if isinstance(failure, RefusedRecordError):
        return str(failure), Exit.FAILED
    return _describe_dependency(failure, config, advice), Exit.DEPENDENCY


def _describe_unfinished(failure: UnfinishedError, config: Config) -> str:
    if isinstance(failure.failure, RefusedRecordError):
        return f"{failure.failure}; {failure.advice}"
    return _describe_dependency(failure.failure, config, failure.advice)


def _describe_dependency(failure: GatewayError, config: Config, advice: str) -> str:
    known = next(_FAILURES[kind] for kind in type(failure).__mro__ if kind in _FAILURES)
    urls = {STORE: config.keys.shown_store, CORE: config.upstream.url}
    # The URL of Core's database is a secret: only its setting is named.
    place = f"{known.setting} ({urls[known.setting]})" if known.setting in urls else known.setting
    return f"{place}{': ' if place else ''}{failure.reason}; {advice or known.advice}"
