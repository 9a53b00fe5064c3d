"""Opens what the commands of keys work with: the configuration, the key store, Core's table.

Rules kept here:
- No running gateway is needed. Core and its master key are needed only where Core is the authority and a key
  is created, rotated or revoked.
- A dependency that fails ends the command with 3.
- A command that does not know `audit.kept` trims nothing of the audit stream.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click
from click.core import ParameterSource

from gateway.audit.author import Author, Way
from gateway.cli.console import fail, load
from gateway.cli.dependency_failures import UnfinishedError, describe
from gateway.cli.keys.operator import operator_name
from gateway.cli.signals import run_until_signal
from gateway.config import Config, ConfigError, parse_config
from gateway.config.environment import variable
from gateway.config.presets import preset
from gateway.errors import GatewayError
from gateway.keys.authorities import AuthorityKind, authority_kind
from gateway.keys.authority import CORE_PACKAGES_MISSING
from gateway.keys.record import RefusedRecordError
from gateway.keys.store import KeyStore, LeftOut
from gateway.server.exit_codes import Exit

if TYPE_CHECKING:
    from gateway.keys.core.rows import CoreRows

Done = TypeVar("Done")

_STORE_VARIABLE: Final = variable("keys.store")
_KEPT: Final = "audit.kept"
_KEPT_VARIABLE: Final = variable(_KEPT)
_IN_MEMORY: Final = "keys.store is memory://, which no other process can use: name a Redis there"


def load_for_keys(path: Path, *, changing: bool, in_memory: str = _IN_MEMORY) -> Config:
    """Return the configuration; exit with 1 or 2 if the commands of keys cannot work with it.

    Args:
        path: the file.
        changing: keys will be created, rotated or revoked. Where Core is the authority, Core does that, and
            the master key must be set.
        in_memory: says why a store in the memory of a process is of no use.
    """
    config = _load_or_preset(path, secrets=False)
    if "keys.store" in config.unset:
        fail(f"{path}: keys.store names a variable that is not set in the environment", Exit.FAILED)
    if config.keys.in_memory:
        fail(in_memory, Exit.USAGE)
    if changing and not authority_of(config).store_is_record:
        return _load_or_preset(path, secrets=True)
    return config


def authority_of(config: Config) -> AuthorityKind:
    """Return the authority that the configuration names."""
    return authority_kind(config.keys.authority, config.keys.core_database)


def _load_or_preset(path: Path, *, secrets: bool) -> Config:
    """Return the configuration of the file.

    The preset stands in where no file was named, the default one is absent, and a variable names the store.
    It does not know `audit.kept`, unless a variable sets that as well.
    """
    context = click.get_current_context(silent=True)
    named = context is not None and context.get_parameter_source("path") is not ParameterSource.DEFAULT
    if named or path.exists() or not os.environ.get(_STORE_VARIABLE):
        return load(path, secrets=secrets)
    try:
        config = parse_config(preset("core").encode(), path, os.environ, secrets=secrets)
    except ConfigError as error:
        fail(str(error), Exit.FAILED)
    return config if os.environ.get(_KEPT_VARIABLE) else replace(config, unset=(*config.unset, _KEPT))


def open_core_rows(config: Config) -> CoreRows:
    """Return Core's table, to be closed; exit with 1 or 2 if the URL or a package for it is missing."""
    if "keys.core_database" in config.unset:
        fail("keys.core_database names a variable that is not set in the environment", Exit.FAILED)
    try:
        from gateway.keys.core.rows import CoreRows
    except ModuleNotFoundError as missing:
        if missing.name != "asyncpg":
            raise
        fail(CORE_PACKAGES_MISSING, Exit.USAGE)
    return CoreRows(config.keys.core_database)


def run_with_store(
    config: Config,
    work: Callable[[KeyStore], Awaitable[Done]],
    *,
    advice: str = "",
    way: Way = Way.CLI,
    left_out: LeftOut | None = None,
) -> Done:
    """Return the result of `work` on the store; exit with 3 if a dependency fails, with 1 if it refuses.

    Args:
        config: names the store.
        work: reads and changes it; the changes are audited as those of whoever runs the command.
        advice: replaces the usual advice for a dependency that failed.
        way: the way of these changes.
        left_out: takes note of keys that lists leave out; None if an unreadable record fails the list.
    """

    async def work_and_close() -> Done:
        from gateway.keys.redis.store import KeptEntries, RedisKeyStore

        store = RedisKeyStore(
            config.keys.store,
            replicas=config.keys.replicas,
            kept=KeptEntries(audit=lambda: None if _KEPT in config.unset else config.audit.kept),
            author=Author(operator_name(), way),
            left_out=left_out,
        )
        try:
            return await work(store)
        finally:
            await store.close()

    try:
        return run_until_signal(work_and_close())
    except (GatewayError, RefusedRecordError, UnfinishedError) as failure:
        fail(*describe(failure, config, advice))
