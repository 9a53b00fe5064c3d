"""A real redis-server on a free loopback port, for tests and tools.

Rules kept here:
- Stores log in as the user in deploy/README.md, so every test runs with those rights and no others.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import redis_acl


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A redis-server that one test or the test session owns."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return redis_acl.url(f"127.0.0.1:{self.port}")

    def answers(self) -> bool:
        """Wait until the server responds; return False after 10 s, or once it has ended."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.process.poll() is None:
            # While it loads its data, it responds -LOADING.
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
        """Suspend the server: it accepts connections and reads nothing, as if a link dropped packets."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def monitored(self) -> Iterator[Callable[[], list[str]]]:
        """Yield a function that returns the lines of MONITOR for the commands of other connections."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection,
            connection.makefile("r") as lines,
        ):
            connection.sendall(b"MONITOR\r\n")
            assert lines.readline() == "+OK\n"

            def seen() -> list[str]:
                # This command marks the end of the lines of all commands before it.
                self.command("ECHO", "monitored")
                return list(iter(lambda: _until_echo(lines.readline()), ""))

            yield seen

    def command(self, *words: str | bytes) -> bytes:
        """Send one command on a connection of its own, and return the raw response."""
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


def commands_of_clients(lines: Iterable[str]) -> list[str]:
    """Return the first word, in capitals, of each command that a client sent, from lines of MONITOR."""
    return [_first_word(line) for line in lines if " lua] " not in line]


def commands_of_scripts(lines: Iterable[str]) -> list[str]:
    """Return the first word, in capitals, of each command that a script called, from lines of MONITOR."""
    return [_first_word(line) for line in lines if " lua] " in line]


def _first_word(line: str) -> str:
    return line.partition("] ")[2].split('"')[1].upper()


def _until_echo(line: str) -> str:
    return "" if '"ECHO" "monitored"' in line else line


def start_redis(folder: Path, *options: str, port: int = 0) -> RedisServer:
    """Start a redis-server on `port`, or on a free port if it is 0; the caller stops it."""
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
