"""Stores to test against: memory, and a real redis-server on a free loopback port.

Rules kept here:
- Stores log in as the user of deploy/README.md, so that every test runs with no right more than that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from gateway.keys.redis_store import RedisKeyStore
from gateway.keys.store import KeyStore, MemoryKeyStore
from tests.keys import redis_acl
from tests.running import ROOT

SHIPPED = str(ROOT / "gateway.yaml")
Keys = Callable[..., Result]
Stored = Callable[[Callable[[KeyStore], Any]], Any]


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A redis-server of the test session."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return redis_acl.url(f"127.0.0.1:{self.port}")

    def answers(self) -> bool:
        """Wait until it does, for 10 s at most or until it has ended."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.process.poll() is None:
            # While it loads what it had persisted it answers -LOADING.
            with contextlib.suppress(OSError):
                if self.command("PING").startswith((b"+PONG", b"-NOAUTH")):
                    return True
            time.sleep(0.01)
        return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """The server accepts and reads nothing, as behind a link that drops packets."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def monitored(self) -> Iterator[Callable[[], list[str]]]:
        """What other connections send meanwhile: a function that gives a line for each so far."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection,
            connection.makefile("r") as lines,
        ):
            connection.sendall(b"MONITOR\r\n")
            assert lines.readline() == "+OK\n"

            def seen() -> list[str]:
                # A command of our own ends what came before it.
                self.command("ECHO", "monitored")
                return list(iter(lambda: _until_echo(lines.readline()), ""))

            yield seen

    def command(self, *words: str | bytes) -> bytes:
        """The raw answer to one command, on a connection of its own."""
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


def _until_echo(line: str) -> str:
    return "" if '"ECHO" "monitored"' in line else line


def start_redis(folder: Path, *options: str, port: int = 0) -> RedisServer:
    """A redis-server that answers, on a free port if none is given; the caller ends it."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("no redis-server is installed")
    for _ in range(5):
        server = _spawn(program, port or free_port(), folder, options)
        if server.answers():
            return server
        server.kill()
    pytest.fail("redis-server did not start")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def _spawn(program: str, port: int, folder: Path, options: tuple[str, ...]) -> RedisServer:
    command = [
        program,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(folder),
        *redis_acl.options(),
        *options,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return RedisServer(port, process)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = start_redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of a real Redis that holds nothing."""
    assert redis_server.command("FLUSHALL") == b"+OK\r\n"
    return redis_server.url


@pytest.fixture
async def redis_store(redis_url: str) -> AsyncIterator[RedisKeyStore]:
    store = RedisKeyStore(redis_url)
    yield store
    await store.close()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[KeyStore]:
    """Each kind of store in turn, empty."""
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    redis_url: str = request.getfixturevalue("redis_url")
    redis = RedisKeyStore(redis_url)
    yield redis
    await redis.close()


@pytest.fixture
def keys(redis_url: str) -> Keys:
    """Runs `blnk-gateway keys ...` on an empty store; `stdin` is what it reads."""

    def run(*arguments: str, stdin: str | None = None, **environ: str) -> Result:
        given = {"BLNK_GATEWAY_KEYS__STORE": redis_url, **environ}
        return CliRunner().invoke(
            cli, ["keys", *arguments, "--config", SHIPPED], env=given, input=stdin, catch_exceptions=False
        )

    return run


@pytest.fixture
def stored(redis_url: str) -> Stored:
    """Does something with the store, outside of the verbs."""

    def run(work: Callable[[KeyStore], Any]) -> Any:
        async def with_store() -> Any:
            store = RedisKeyStore(redis_url)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(with_store())

    return run
