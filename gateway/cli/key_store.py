"""What the commands of keys share: the store that the configuration names, and who works on it.

Rules kept here:
- No running gateway is needed; Core and its master key only where Core is the authority, and a key is made,
  replaced or revoked.
- A dependency that cannot be reached exits with 3, and no text shows a password.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

import click
from click.core import ParameterSource

from gateway.cli.console import load, say
from gateway.cli.signals import run
from gateway.config import Config, ConfigError, parse_config
from gateway.config.environment import variable
from gateway.config.presets import preset
from gateway.errors import GatewayError
from gateway.fairness.errors import OverloadedError
from gateway.gocompat.times import Instant
from gateway.keys.authority import CORE_PACKAGES_MISSING
from gateway.keys.errors import UnacknowledgedError, UncertainError, UnreadableListError
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore
from gateway.server.exit_codes import Exit
from gateway.wire.errors import UpstreamError

if TYPE_CHECKING:
    from gateway.keys.core.rows import CoreRows

Done = TypeVar("Done")

_STORE: Final = variable("keys.store")
_OF_CORE: Final = (UpstreamError, UnreadableListError, OverloadedError)


class DependencyError(Exception):
    """A dependency failed the command; the text says which and how."""


def login() -> str:
    """Who runs this, as records name them: `cli:` and the login of the process's user."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:{os.getuid()}"


def now() -> datetime:
    """The time, aware and in UTC."""
    return datetime.now(UTC)


def written(moment: datetime) -> str:
    """RFC 3339."""
    return str(Instant.of(moment))


def fail(text: str, code: Exit) -> NoReturn:
    """Say why on stderr, and exit."""
    say(text, err=True)
    sys.exit(code)


def load_for_keys(path: Path, *, changing: bool) -> Config:
    """The configuration, if the commands of keys can work with it; exits with 1 or 2 if not.

    `changing`: keys are to be made, replaced or revoked, which Core does where it is the authority, asked
    with the master key.
    """
    config = _load(path, secrets=False)
    if "keys.store" in config.unset:
        fail(f"{path}: keys.store names a variable that is not set in the environment", Exit.FAILED)
    if config.keys.store.startswith("memory:"):
        fail("keys.store is memory://: the keys of another process cannot be reached", Exit.USAGE)
    if changing and config.keys.authority == "core":
        return _load(path, secrets=True)
    return config


def _load(path: Path, *, secrets: bool) -> Config:
    """The file; or, where nobody named one and none is there, what ships, if a variable names the store."""
    context = click.get_current_context(silent=True)
    named = context is not None and context.get_parameter_source("path") is not ParameterSource.DEFAULT
    if named or path.exists() or not os.environ.get(_STORE):
        return load(path, secrets=secrets)
    try:
        return parse_config(preset("core").encode(), path, os.environ, secrets=secrets)
    except ConfigError as error:
        fail(str(error), Exit.FAILED)


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """What fails inside is only how a change is told that is done. Raises DependencyError."""
    try:
        yield
    except GatewayError as failure:
        raise DependencyError(f"it is done, but cannot be shown: {failure.reason}") from failure


async def told(asking: Awaitable[Done]) -> Done:
    """What Core's database answered; that it failed is not the key store's fault. Raises DependencyError."""
    try:
        return await asking
    except GatewayError as failure:
        raise DependencyError(failure.reason) from failure


async def heirs_of(store: KeyStore, key_id: str) -> list[KeyRecord]:
    """What a key was rotated into."""
    return [record for record in await store.children(key_id) if record.replaces == key_id]


def core_database(config: Config) -> CoreRows:
    """Core's table, to be closed; exits with 1 or 2 where it cannot be asked."""
    if "keys.core_database" in config.unset:
        fail("keys.core_database names a variable that is not set in the environment", Exit.FAILED)
    try:
        from gateway.keys.core.rows import CoreRows
    except ModuleNotFoundError as missing:
        if missing.name != "asyncpg":
            raise
        fail(CORE_PACKAGES_MISSING, Exit.USAGE)
    return CoreRows(config.keys.core_database)


def with_store(config: Config, work: Callable[[KeyStore], Awaitable[Done]], *, todo: str = "") -> Done:
    """Do `work` with the store; exits with 3 if a dependency fails, saying `todo` where the store did."""

    async def working() -> Done:
        from gateway.keys.redis.store import RedisKeyStore

        store = RedisKeyStore(config.keys.store, replicas=config.keys.replicas)
        try:
            return await work(store)
        finally:
            await store.close()

    try:
        return run(working())
    except DependencyError as failure:
        fail(str(failure), Exit.DEPENDENCY)
    except GatewayError as failure:
        dependency = config.upstream.url if isinstance(failure, _OF_CORE) else config.keys.shown_store
        then = f"; {todo}" if todo else _doubt(failure)
        fail(f"{dependency}: {failure}{_more(failure)}{then}", Exit.DEPENDENCY)


def _more(failure: GatewayError) -> str:
    """The reason, or else the kind of the cause: the text of a library may hold what a record does."""
    if failure.reason != str(failure):
        return f": {failure.reason}"
    return "" if failure.__cause__ is None else f": {type(failure.__cause__).__name__}"


def _doubt(failure: GatewayError) -> str:
    """What to do where the change may have been made all the same."""
    if isinstance(failure, UnacknowledgedError):
        return "; what was done stands, but a failover may lose it: repeat it until it exits with 0"
    return "; it may be done all the same: repeat it" if isinstance(failure, UncertainError) else ""
