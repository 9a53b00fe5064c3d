"""`check --env`: the state of Core and the key store, with reasons."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner

from gateway.cli import cli
from tests.running import MASTER_KEY, ROOT
from tests.tls import SelfSigned, self_signed

OK = "ok, 73 routes"
UNTRUSTED = (
    "(self-signed certificate): name a PEM file with the certificate of its authority in upstream.ca_file"
)


class CoreHandler(BaseHTTPRequestHandler):
    """Responds as a Core with or without `server.secure`."""

    secret: ClassVar[str] = MASTER_KEY
    secure: ClassVar[bool] = True
    seen: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        """Refuse all but the master key, where secure."""
        key = self.headers["X-Blnk-Key"]
        self.seen.append(key)
        self.send_response(401 if self.secure and key != self.secret else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Keep the tests' output clean."""


@contextmanager
def running_core(
    *, secret: str = MASTER_KEY, secure: bool = True, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[str | None]]]:
    """Run a Core on loopback; yield its port, and the keys that it gets."""

    class Handler(CoreHandler):
        seen: ClassVar[list[str | None]] = []

    Handler.secret, Handler.secure = secret, secure
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1], Handler.seen
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def closed_port() -> Iterator[int]:
    """Yield a port on which nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def localhost(tmp_path: Path) -> SelfSigned:
    return self_signed(tmp_path, "DNS:localhost", "IP:127.0.0.1")


def check(url: str, *options: str, store: str = "memory://", **more: str) -> tuple[int, list[str]]:
    """Run `check --env` on the shipped file; return the exit code, and the lines without the file's name."""
    file = str(ROOT / "gateway.yaml")
    environment = {"BLNK_MASTER_KEY": MASTER_KEY, "BLNK_GATEWAY_UPSTREAM__URL": url} | more
    environment["BLNK_GATEWAY_KEYS__STORE"] = store
    result = CliRunner().invoke(cli, ["check", "--env", "--config", file, *options], env=environment)
    assert result.stderr == ""
    assert MASTER_KEY not in result.stdout
    return result.exit_code, [line.removeprefix(f"{file}: ") for line in result.stdout.splitlines()]


def test_a_usable_core_is_a_note() -> None:
    with running_core() as (port, seen):
        url = f"http://127.0.0.1:{port}"
        good = f"note: upstream.url: Core at {url} responds and accepts the master key"
        assert check(url, "--strict") == (0, [good, OK])
        assert seen == [None, MASTER_KEY]


def test_an_unreachable_core_is_a_warning_with_the_reason() -> None:
    """An unreachable Core is a warning, because `serve` waits for it."""
    with closed_port() as port:
        reason = f"Core is not reachable: connection refused (127.0.0.1:{port})"
        warning = f"warning: upstream.url: {reason}"
        url = f"http://127.0.0.1:{port}"
        assert check(url) == (0, [warning, OK])
        assert check(url, "--strict") == (1, [warning, "refused by --strict, 1 warning"])


def test_a_core_that_requires_no_key_is_unsafe() -> None:
    with running_core(secure=False) as (port, seen):
        code, lines = check(f"http://127.0.0.1:{port}")
        assert (code, len(lines)) == (3, 1)
        reason = "Core responds with 200 to a request without a key: set server.secure to true"
        assert lines[0].startswith(f"error: upstream.url: {reason}")
        assert seen == [None]


def test_a_core_with_another_master_key_is_unsafe() -> None:
    with running_core(secret="another") as (port, _):
        text = "Core refuses the master key: upstream.master_key must be server.secret_key of blnk.json"
        assert check(f"http://127.0.0.1:{port}") == (3, [f"error: upstream.url: {text}"])


def test_an_unreachable_key_store_is_a_warning() -> None:
    with running_core() as (port, _), closed_port() as redis:
        code, lines = check(f"http://127.0.0.1:{port}", store=f"redis://127.0.0.1:{redis}/0")
        assert (code, lines[-1]) == (0, OK)
        assert [line.startswith("warning: keys.store: Redis ") for line in lines] == [False, True, False]


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "BLNK_GATEWAY_UPSTREAM__CA_FILE"])
def test_a_certificate_is_trusted_by_its_file_and_without_it_no_key_is_sent(
    localhost: SelfSigned, variable: str
) -> None:
    with running_core(tls=localhost.listener()) as (port, seen):
        url = f"https://localhost:{port}"
        reason = f"Core is not reachable: the certificate of localhost is not trusted {UNTRUSTED}"
        assert check(url) == (0, [f"warning: upstream.url: {reason}", OK])
        assert seen == []
        good = f"note: upstream.url: Core at {url} responds and accepts the master key"
        assert check(url, **{variable: str(localhost.certificate)}) == (0, [good, OK])
        assert seen == [None, MASTER_KEY]
