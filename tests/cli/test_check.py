"""`check`: warnings and other remarks, and `--reach`, which identifies the server at an address."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from tests.keys.redis_setups import certificates
from tests.running import ROOT

SHIPPED = str(ROOT / "gateway.yaml")
FILE = """upstream: {url: 'http://127.0.0.1:5100', master_key: '${NOT_SET}'}
keys: {store: 'memory://'}
routes:
  GET /hooks/{id}: master
  GET /hooks/x: deny
  GET /{a}/y: hooks:read
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["check", *map(str, arguments)])


def outcome(result: Result) -> tuple[int, str, str]:
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(FILE)
    return path


def remarks(file: Path) -> str:
    crossing = "crosses GET /{a}/y in line 6 and takes the requests that both match: write a line for those"
    return (
        f"{file}: note: no route requires {', '.join(UNUSED)}: such a scope permits nothing\n"
        f"{file}:4: warning: GET /hooks/{{id}} {crossing}\n"
        f"{file}:4: note: GET /hooks/{{id}} loses requests to GET /hooks/x in line 5\n"
    )


UNUSED = (
    "ledgers:write", "ledgers:read", "balances:write", "balances:read", "balance-monitors:write",
    "balance-monitors:read", "balance-monitors:delete", "transactions:write", "transactions:read",
    "identities:write", "identities:read", "identities:delete", "accounts:write", "accounts:read",
    "metadata:write", "search:write", "search:read", "reconciliation:write", "reconciliation:read",
    "reconciliation:delete", "backup:read", "api-keys:write", "api-keys:read", "api-keys:delete",
)  # fmt: skip


def test_a_remark_names_both_lines_and_is_no_failure(file: Path) -> None:
    assert outcome(run("--config", file)) == (0, f"{remarks(file)}{file}: ok, 3 routes\n", "")


def test_strict_makes_a_warning_fail(file: Path) -> None:
    text = f"{remarks(file)}{file}: refused by --strict, 1 warning\n"
    assert outcome(run("--config", file, "--strict")) == (1, text, "")


def test_a_body_limit_beyond_that_of_core_is_a_warning(file: Path) -> None:
    """A body between `upstream.max_body` and `limits.body` is refused all the same."""
    file.write_text(file.read_text() + "limits: {body: 6MiB}\n")
    assert f"{file}: warning: limits.body is larger than upstream.max_body" in run("--config", file).stdout
    file.write_text(file.read_text().replace("6MiB", "5MiB"))
    assert "upstream.max_body" not in run("--config", file).stdout


def test_coverage_warns_of_each_missing_route_of_core(file: Path) -> None:
    result = run("--config", file, "--coverage", "--strict")
    missing = [line for line in result.stdout.splitlines() if ": warning: no route covers " in line]
    assert len(missing) == 71
    assert missing[0] == f"{file}: warning: no route covers GET / of Core: list it, or deny it on purpose"
    assert result.stdout.endswith(f"{file}: refused by --strict, 72 warnings\n")
    assert result.exit_code == 1


def test_the_shipped_file_has_no_remark() -> None:
    assert outcome(run("--config", SHIPPED, "--strict", "--coverage")) == (
        0,
        f"{SHIPPED}: ok, 73 routes\n",
        "",
    )


def test_env_checks_the_variables_too(file: Path) -> None:
    text = f"{file}:1: upstream.master_key: NOT_SET is not set in the environment\n"
    assert outcome(run("--config", file, "--env")) == (1, text, "")


def members(result: Result) -> Any:
    return json.loads(result.stdout)


def test_json_has_every_finding_and_the_file_by_its_sha256(file: Path) -> None:
    """JSON has the same findings as the text, in the same order; a finding without a line has null."""
    result = run("--config", file, "--output", "json")
    text = run("--config", file).stdout
    assert (result.exit_code, result.stderr) == (0, "")
    found = members(result)
    assert {name: found[name] for name in ("file", "ok", "routes", "policy_sha256")} == {
        "file": str(file),
        "ok": True,
        "routes": 3,
        "policy_sha256": hashlib.sha256(FILE.encode()).hexdigest(),
    }
    assert [(one["level"], one["line"]) for one in found["findings"]] == [
        ("note", None),
        ("warning", 4),
        ("note", 4),
    ]
    assert [one["text"] in line for one, line in zip(found["findings"], text.splitlines(), strict=False)] == [
        True
    ] * 3


def test_json_of_a_refused_file_has_its_problems(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(FILE + "\tx: y\n")
    result = run("--config", file, "--output", "json")
    problem = {
        "level": "problem", "path": str(file), "line": 7, "text": "there is a tab here: use blanks instead",
    }  # fmt: skip
    assert (result.exit_code, result.stderr) == (1, "")
    assert members(result) == {
        "file": str(file), "ok": False, "routes": None, "policy_sha256": None, "findings": [problem],
    }  # fmt: skip


def test_a_missing_file_is_reported_as_json_too(tmp_path: Path) -> None:
    result = run("--config", tmp_path / "absent.yaml", "--output", "json")
    assert (result.exit_code, result.stderr) == (2, "")
    assert [one["level"] for one in members(result)["findings"]] == ["problem"]


def test_strict_refuses_in_json_as_well(file: Path) -> None:
    result = run("--config", file, "--output", "json", "--strict")
    assert (result.exit_code, members(result)["ok"]) == (1, False)


def test_a_secret_in_plain_text_is_a_warning_and_fails_only_with_strict(file: Path) -> None:
    file.write_text(FILE.replace("${NOT_SET}", "$NOT_SET"))
    text = (
        f"{file}:1: warning: upstream.master_key: '$NAME' is taken literally: "
        "write ${NAME} in gateway.yaml for the value of a variable\n"
    )
    lenient, strict = run("--config", file), run("--config", file, "--strict")
    assert (lenient.exit_code, strict.exit_code) == (0, 1)
    assert text in lenient.stdout
    assert strict.stdout.endswith(f"{file}: refused by --strict, 2 warnings\n")


class Responding(BaseHTTPRequestHandler):
    """Responds to each path with the status, headers and body that a subclass has for it."""

    pages: ClassVar[dict[str, tuple[int, dict[str, str], bytes]]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Record the request, and respond."""
        self.asked.append(f"{self.path} {'X-Blnk-Key' in self.headers}")
        status, headers, body = self.pages.get(self.path, (404, {}, b"not found"))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Keep the tests' output clean."""


ASKED = "/ledgers?limit=1"
MISSING = json.dumps(
    {"error": "x", "error_detail": {"code": "AUTH_MISSING_API_KEY", "message": "x"}}
).encode()
Pages = dict[str, tuple[int, dict[str, str], bytes]]
HOME: Pages = {"/": (200, {}, b'"server running..."')}
CORE = "a Core responds, so clients can bypass the gateway: let only the gateway connect to Core"


@contextmanager
def responding(pages: Pages, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Open a listener on a free port of loopback; yield its URL."""

    class Handler(Responding):
        asked: ClassVar[list[str]] = []

    Handler.pages = pages
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
    assert [one for one in Handler.asked if not one.endswith(" False")] == []


@pytest.mark.parametrize(
    ("pages", "code", "text"),
    [
        ({ASKED: (401, {}, MISSING)}, 1, CORE),
        ({ASKED: (401, {}, b'{"error":"older"}'), **HOME}, 1, CORE),
        ({ASKED: (429, {}, b""), **HOME}, 1, CORE),
        (
            {ASKED: (200, {}, b"[]"), **HOME},
            1,
            f"{CORE}; it requires no key at all: set server.secure to true",
        ),
        ({ASKED: (401, {"Proxy-Status": "blnk-gateway; error=x"}, MISSING)}, 0, "the gateway responds"),
        ({ASKED: (404, {}, b"nginx")}, 0, "another server responds, with 404"),
        ({ASKED: (200, {}, b'{"error_detail":[]}')}, 0, "another server responds, with 200"),
        ({ASKED: (503, {}, b"")}, 3, "a server responds with 503: try again, or use Core's own address"),
    ],
)
def test_reach_identifies_what_responds(pages: Pages, code: int, text: str) -> None:
    with responding(pages) as url:
        result = run("--reach", url, "--config", "absent.yaml")
    assert (result.exit_code, result.output) == (code, f"{url}: {text}\n")


def test_reach_names_an_untrusted_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Core is identified behind any certificate, trusted or not."""
    made = certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.certificate, made.key)
    with responding({ASKED: (401, {}, MISSING)}, tls) as url:
        distrusted = run("--reach", url)
        monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
        trusted = run("--reach", url)
    reason = "this machine does not trust its certificate: unable to get local issuer certificate"
    assert outcome(distrusted) == (1, f"{url}: {CORE}; {reason}\n", "")
    assert outcome(trusted) == (1, f"{url}: {CORE}\n", "")


def test_reach_can_print_json() -> None:
    with responding({ASKED: (401, {}, MISSING)}) as url:
        result = run("--reach", url, "--output", "json")
    assert (result.exit_code, members(result)) == (1, {"url": url, "who": "core", "text": CORE})


def test_an_address_without_a_response_passes() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert outcome(run("--reach", url)) == (0, f"{url}: nothing responds: Connection refused\n", "")


def test_an_unknown_host_name_proves_nothing() -> None:
    result = run("--reach", "http://core.invalid:5001")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "this machine does not know the host name: use Core's IP address" in result.stderr


def test_plain_http_at_an_https_address_proves_nothing() -> None:
    with responding({ASKED: (401, {}, MISSING)}) as url:
        result = run("--reach", url.replace("http:", "https:"))
    assert result.exit_code == 3
    assert "something listens, but does not speak TLS: use http://" in result.stderr


def test_another_protocol_proves_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def respond() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-x\r\n")

        thread = threading.Thread(target=respond)
        thread.start()
        result = run("--reach", f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert result.exit_code == 3
    assert "something listens, but sends no HTTP response: " in result.stderr


@pytest.mark.parametrize(
    "url", ["127.0.0.1:1", "ftp://h", "http://[::1", "http://h:x", "http://h:0", "http://", ""]
)
def test_a_malformed_address_is_wrong_usage(url: str) -> None:
    result = run("--reach", url)
    assert result.exit_code == 2
    assert "Invalid value for '--reach': write http://host:port" in result.stderr
