"""The access matrix, made from the gateway.yaml that ships: every route with every scope.

Rules kept here:
- This test derives the expectation from the text of the file, not with the code under test.
- A refused request never reaches the upstream; requests with a covering scope do, which is the control.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
import yaml

from tests.core_stand_in import StandInCore
from tests.raw_client import RawClient, Response
from tests.running import MASTER_KEY, ROOT, Minted, Running, start

pytestmark = pytest.mark.asyncio(loop_scope="module")

ACTIONS = ("read", "write", "delete")
WORDS = {"public", "master", "deny"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of `routes:`, as it is written."""

    method: str
    pattern: str
    scopes: tuple[str, ...]
    word: str
    stamp: str

    @property
    def target(self) -> str:
        """A path that matches this route: each placeholder becomes a word of its own."""
        segments = (
            f"some_{part[1:-1]}" if part.startswith("{") else part for part in self.pattern.split("/")
        )
        return "/".join(segments)


def lines() -> list[Line]:
    found = []
    for name, value in yaml.safe_load((ROOT / "gateway.yaml").read_text())["routes"].items():
        method, pattern = name.split(" ", 1)
        options = value if isinstance(value, dict) else {"scope": value}
        listed = options["scope"]
        scopes = tuple(listed) if isinstance(listed, list) else (listed,)
        word = scopes[0] if scopes[0] in WORDS else ""
        found.append(Line(method, pattern, () if word else scopes, word, options.get("stamp", "none")))
    return found


LINES = lines()
RESOURCES = sorted({scope.split(":")[0] for line in LINES for scope in line.scopes} | {"hooks"})
SCOPES = [
    f"{resource}:{action}" for resource, action in itertools.product([*RESOURCES, "*"], [*ACTIONS, "*"])
]
ODD = ["", ":", "*", "ledgers", "ledgers:", ":read", "ledgers:read:x", "LEDGERS:READ", "led*:read"]


def opens(granted: str, line: Line) -> bool:
    """Return whether this scope alone opens the route: resource and action are each equal or `*`."""
    resource, action = granted.split(":")
    return any(
        resource in (wanted.split(":")[0], "*") and action in (wanted.split(":")[1], "*")
        for wanted in line.scopes
    )


@dataclass(slots=True)
class Stage:
    """One gateway with a key for each scope."""

    running: Running
    keys: dict[str, Minted]

    async def ask(self, client: RawClient, line: Line, key: str | None) -> Response:
        body = b"{}" if line.method in ("POST", "PUT") else None
        if line.pattern == "/transactions/bulk":
            body = b'{"transactions":[]}'
        return await client.ask(line.method, line.target, key=key, body=body)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with StandInCore(MASTER_KEY) as upstream:
        running = await start(upstream)
        try:
            yield Stage(running, {scope: await running.mint(scope) for scope in SCOPES + ODD})
        finally:
            await running.close()
    assert running.leaks() == []


def among(chosen: list[Line]) -> list[object]:
    return [pytest.param(line, id=f"{line.method} {line.pattern}") for line in chosen]


KEYED = [line for line in LINES if line.word != "public"]
SERVED = ("/api-keys", "/api-keys/{id}")


async def test_covers_every_line_of_the_file() -> None:
    """The matrix is as large as the file that ships."""
    assert len(LINES) >= 72
    assert len({(line.method, line.pattern) for line in LINES}) == len(LINES)


@pytest.mark.parametrize("line", among(KEYED))
async def test_no_scope_that_does_not_cover_the_route_opens_it(stage: Stage, line: Line) -> None:
    """A key with another scope gets 403, and nothing reaches the upstream."""
    stage.running.upstream.take()
    lacking = [scope for scope in SCOPES if not opens(scope, line)] + ODD
    async with await stage.running.connect() as client:
        responses = {scope: await stage.ask(client, line, stage.keys[scope].key) for scope in lacking}
    assert {scope: response.status for scope, response in responses.items() if response.status != 403} == {}
    assert {response.code for response in responses.values()} <= {
        "AUTH_INSUFFICIENT_PERMISSIONS",
        "AUTH_MASTER_KEY_REQUIRED",
        "AUTH_UNKNOWN_RESOURCE",
    }
    assert stage.running.upstream.targets == []


@pytest.mark.parametrize("line", among([line for line in LINES if line.scopes]))
async def test_every_scope_that_covers_the_route_opens_it(stage: Stage, line: Line) -> None:
    """As a control, a request with a covering scope reaches the upstream, or is served."""
    stage.running.upstream.take()
    covering = [scope for scope in SCOPES if opens(scope, line)]
    async with await stage.running.connect() as client:
        statuses = [(await stage.ask(client, line, stage.keys[scope].key)).status for scope in covering]
    if line.pattern in SERVED:
        assert not {401, 403} & set(statuses)
        assert stage.running.upstream.targets == []
    else:
        assert statuses == [200] * len(covering)
        assert stage.running.upstream.targets == [line.target] * len(covering)


@pytest.mark.parametrize("line", among(KEYED))
async def test_no_route_is_open_without_a_key(stage: Stage, line: Line) -> None:
    """A request without a key, or with an unknown one, is refused."""
    stage.running.upstream.take()
    async with await stage.running.connect() as client:
        responses = [await stage.ask(client, line, key) for key in (None, "", "x", "A" * 43 + "=")]
    assert [response.code for response in responses] == [
        "AUTH_MISSING_API_KEY",
        "AUTH_MISSING_API_KEY",
        "AUTH_INVALID_API_KEY",
        "AUTH_INVALID_API_KEY",
    ]
    assert stage.running.upstream.targets == []


@pytest.mark.parametrize("line", among(LINES))
async def test_the_master_key_takes_every_route_but_deny(stage: Stage, line: Line) -> None:
    """The master key needs no scope and is never stamped; its requests are forwarded byte for byte."""
    stage.running.upstream.take()
    async with await stage.running.connect() as client:
        response = await stage.ask(client, line, MASTER_KEY)
    if line.word == "deny":
        assert response.status == 403
    elif line.pattern in SERVED:
        assert response.status not in (401, 403)
    else:
        assert response.status == 200
        (got,) = stage.running.upstream.requests
        assert b"BLNK_GENERATED_BY" not in got.raw


@pytest.mark.parametrize("line", among([line for line in LINES if line.stamp in ("create", "bulk")]))
async def test_every_creating_route_stamps_the_caller(stage: Stage, line: Line) -> None:
    """Each record that a scoped key creates has that key's id and no other."""
    stage.running.upstream.take()
    minted = stage.keys["*:*"]
    stamp = '"meta_data":{"BLNK_GENERATED_BY":"forged"}'
    forged = f'{{{stamp},"transactions":[{{{stamp}}}]}}'
    async with await stage.running.connect() as client:
        response = await client.ask("POST", line.target, key=minted.key, body=forged.encode())
    assert response.status == 200
    (got,) = stage.running.upstream.requests
    assert f'"BLNK_GENERATED_BY":"{minted.id}"'.encode() in got.body


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PATCH", "TRACE", "get", "FOO"])
@pytest.mark.parametrize("pattern", sorted({line.pattern for line in KEYED}))
async def test_no_unlisted_method_reaches_core(stage: Stage, pattern: str, method: str) -> None:
    """A method that the file does not list for a path is refused, also for the master key."""
    stage.running.upstream.take()
    target = Line(method, pattern, (), "", "none").target
    for key in (stage.keys["*:*"].key, MASTER_KEY):
        response = await stage.running.ask(method, target, key=key)
        assert response.status in (400, 403, 404)
    assert stage.running.upstream.targets == []
