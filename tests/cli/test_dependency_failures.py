"""Failures of dependencies in words for operators: the dependency, the reason, what to do, the exit code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.cli.dependency_failures import CommandFailure, UnfinishedError, describe, unfinished
from gateway.config import Config, parse_config
from gateway.errors import GatewayError
from gateway.fairness.errors import OverloadedError
from gateway.keys.errors import (
    DatabaseUnavailableError,
    KeysUnavailableError,
    LookupOverloadError,
    StoreUnavailableError,
    UnacknowledgedError,
    UncertainError,
)
from gateway.keys.quota import QuotaError
from gateway.keys.record import RefusedRecordError
from gateway.proxy.errors import UpstreamRefusedError
from gateway.server.exit_codes import Exit
from gateway.wire.errors import UpstreamError, UpstreamTimeoutError, UpstreamUnreachableError
from tests.running import ROOT

STORE = "keys.store (redis://127.0.0.1:6379/0)"
CORE = "upstream.url (http://127.0.0.1:5100)"
CORRECT = "correct this, then run the command again"
WAIT = "run the command again in a moment"


@pytest.fixture(scope="module")
def config() -> Config:
    """Return the configuration that ships, with passwords in its URLs."""
    environ = {
        "BLNK_GATEWAY_KEYS__STORE": "redis://user:secret@127.0.0.1:6379/0",
        "BLNK_GATEWAY_KEYS__CORE_DATABASE": "postgres://user:secret@127.0.0.1/blnk",
    }
    return parse_config((ROOT / "gateway.yaml").read_bytes(), ROOT / "gateway.yaml", environ, secrets=False)


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (StoreUnavailableError(reason="x"), f"{STORE}: x; {CORRECT}"),
        (
            UnacknowledgedError(reason="x"),
            f"{STORE}: x; the change was applied, but a failover may lose it; "
            "run the command again until it exits with 0",
        ),
        (UncertainError(reason="x"), f"{STORE}: x; the change may have been applied; run the command again"),
        (LookupOverloadError(reason="x"), f"{STORE}: x; {WAIT}"),
        (DatabaseUnavailableError(reason="x"), f"keys.core_database: x; {CORRECT}"),
        (UpstreamUnreachableError(reason="x"), f"{CORE}: x; {CORRECT}"),
        (UpstreamRefusedError(reason="x"), f"{CORE}: x; {CORRECT}"),
        (
            UpstreamTimeoutError(reason="x"),
            f"{CORE}: x; Core may have applied the change; look at 'blnk-gateway keys list', "
            "then run the command again",
        ),
        (OverloadedError(reason="x"), f"{CORE}: x; {WAIT}"),
        (GatewayError(reason="x"), f"x; {CORRECT}"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_the_class_of_a_failure_names_the_dependency_and_what_to_do(
    failure: CommandFailure, text: str, config: Config
) -> None:
    assert describe(failure, config) == (text, Exit.DEPENDENCY)


def subclasses(base: type[GatewayError]) -> Iterator[type[GatewayError]]:
    for found in base.__subclasses__():
        yield found
        yield from subclasses(found)


@pytest.mark.parametrize("base", [KeysUnavailableError, UpstreamError])
def test_every_failure_of_a_dependency_names_its_setting(base: type[GatewayError], config: Config) -> None:
    texts = [describe(failure(reason="x"), config)[0] for failure in subclasses(base)]
    assert len(texts) >= 3
    assert [text for text in texts if not text.startswith(("keys.", "upstream."))] == []


def test_a_command_may_replace_the_advice(config: Config) -> None:
    text, _ = describe(StoreUnavailableError(reason="x"), config, "resume it")
    assert text == f"{STORE}: x; resume it"


@pytest.mark.parametrize("refusal", [RefusedRecordError("the key is revoked"), QuotaError("too many")])
def test_a_refusal_is_a_failure_of_the_command_and_of_no_dependency(
    refusal: RefusedRecordError, config: Config
) -> None:
    assert describe(refusal, config, "resume it") == (str(refusal), Exit.FAILED)


def test_an_unfinished_command_says_what_it_has_changed(config: Config) -> None:
    failure = UncertainError(reason="x")
    with pytest.raises(UnfinishedError) as raised, unfinished("one key is revoked"):
        raise failure
    assert describe(raised.value, config, "resume it") == (f"{STORE}: x; one key is revoked", Exit.DEPENDENCY)


def test_an_unfinished_command_may_have_been_refused(config: Config) -> None:
    refused = UnfinishedError(RefusedRecordError("the key is revoked"), "its successor is live in Core")
    text = "the key is revoked; its successor is live in Core"
    assert describe(refused, config) == (text, Exit.DEPENDENCY)
