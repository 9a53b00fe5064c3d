"""A body on its way to Core: what holds back its client, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from gateway.keys.errors import StoreUnavailableError
from gateway.proxy.stream import Upload
from gateway.wire.request_body import RequestBodySink


class Body:
    """The body that comes from a client; `paused` says that the client is held back."""

    length: int | None = 1

    def __init__(self) -> None:
        self.paused = False

    def stream(self, sink: RequestBodySink) -> None:
        """Do nothing, since the test feeds everything."""

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Core:
    """The connection to Core; while `slow` it holds the body back with each part."""

    def __init__(self) -> None:
        self.slow = False
        self.aborted = False
        self.parts: list[tuple[bytes, bool]] = []
        self.flow: Upload

    def write(self, data: bytes, *, last: bool) -> None:
        self.parts.append((data, last))
        if self.slow:
            self.flow.pause_reading()

    def abort(self) -> None:
        self.aborted = True


class Asked:
    """A send permission that has to be asked for, and is given once `answered`."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.answered = asyncio.Event()
        self.failure = failure

    def passes(self) -> bool:
        return self.answered.is_set()

    async def renew(self) -> None:
        await self.answered.wait()
        if self.failure is not None:
            raise self.failure


class Stage:
    def __init__(self, permission: Asked) -> None:
        self.client, self.core, self.permission = Body(), Core(), permission
        self.upload = Upload(self.client, permission)
        self.core.flow = self.upload
        self.upload.begin(self.core)

    async def respond(self) -> None:
        self.permission.answered.set()
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture
async def stage() -> Stage:
    return Stage(Asked())


async def test_what_comes_while_the_permission_is_asked_for_goes_on_in_order(stage: Stage) -> None:
    stage.upload.feed(b"a", last=False)
    stage.upload.feed(b"b", last=False)
    assert (stage.client.paused, stage.core.parts) == (True, [])
    await stage.respond()
    stage.upload.feed(b"c", last=True)
    assert stage.core.parts == [(b"a", False), (b"b", False), (b"c", True)]
    assert not stage.client.paused


async def test_a_client_is_still_held_back_by_a_slow_core_once_the_permission_is_given(stage: Stage) -> None:
    """A slow Core still holds the client back after the permission is given, so that little is buffered."""
    stage.core.slow = True
    stage.upload.feed(b"a", last=False)
    await stage.respond()
    assert stage.client.paused
    stage.upload.resume_reading()
    assert not stage.client.paused


async def test_a_client_is_still_held_back_for_the_permission_once_core_takes_more(stage: Stage) -> None:
    stage.upload.pause_reading()
    stage.upload.feed(b"a", last=False)
    stage.upload.resume_reading()
    assert stage.client.paused
    await stage.respond()
    assert not stage.client.paused


async def test_nothing_goes_on_where_the_permission_is_refused() -> None:
    failure = StoreUnavailableError()
    stage = Stage(Asked(failure))
    stage.upload.feed(b"a", last=False)
    await stage.respond()
    stage.upload.feed(b"b", last=True)
    assert (stage.core.parts, stage.core.aborted, stage.upload.closed) == ([], True, failure)
