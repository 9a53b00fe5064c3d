"""All commands: their output and exit codes, with real files and real listeners."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from gateway.server.exit_codes import Exit

ROOT = Path(__file__).parents[2]
SHIPPED = str(ROOT / "gateway.yaml")
COMMANDS = (
    "serve", "init", "schema", "check", "explain", "test", "diff", "keys", "audit", "denials", "health",
    "demo", "completion", "man",
)  # fmt: skip
ABSENT = (
    "cannot be read: No such file or directory; write one with 'blnk-gateway init', or name another with "
    "--config"
)
BAD = "listen: 5001\nroutes:\n  GET /health: pubic\n"


class AdminListener(BaseHTTPRequestHandler):
    """A stand-in for the private listener: it is alive, not ready, and responds 404 to other paths."""

    pages: ClassVar = {
        "/health/alive": (200, b'{"status":"alive"}\n'),
        "/health/ready": (503, b'{"status":"draining"}'),
    }

    def do_GET(self) -> None:
        """Respond as `pages` says; ready is 200 only with the token."""
        status, body = self.pages.get(self.path, (404, b""))
        if self.path == "/health/ready" and self.headers["Authorization"] == "Bearer t0ken":
            status, body = 200, b'{"status":"ready"}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Keep the tests' output clean."""


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler] = AdminListener) -> Iterator[int]:
    """Open a listener on a free port of loopback; yield the port."""
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(cli, arguments, env=environ)


def outcome(result: Result) -> tuple[int, str, str]:
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.yaml"
    file.write_text(BAD)
    return file


def problems(file: Path) -> str:
    texts = (
        '1: listen: the host is missing: write host:port, as 127.0.0.1:5001, or "[::1]:5001" in quotes; '
        "0.0.0.0 is every interface",
        "1: upstream.url is missing: write 'url: http://127.0.0.1:5100'",
        "1: keys.store is missing: write 'store: redis://127.0.0.1:6379/0'",
        "1: upstream.master_key is missing: write 'master_key: ${BLNK_MASTER_KEY}', or master_key_file",
        "3: GET /health: a scope is a resource of Core and read, write or delete, as ledgers:read; "
        "did you mean 'public'?",
    )
    return "".join(f"{file}:{text}\n" for text in texts)


def test_the_exit_codes_are_one_table() -> None:
    assert {code.name: code.value for code in Exit} == {"OK": 0, "FAILED": 1, "USAGE": 2, "DEPENDENCY": 3}


def test_check_says_ok_on_one_line() -> None:
    assert outcome(run("check", "--config", SHIPPED)) == (0, f"{SHIPPED}: ok, 73 routes\n", "")


def test_check_prints_every_problem_with_its_line(bad: Path) -> None:
    assert outcome(run("check", "--config", str(bad))) == (1, problems(bad), "")


def test_serve_refuses_the_same_file_on_stderr(bad: Path) -> None:
    assert outcome(run("serve", "--config", str(bad))) == (1, "", problems(bad))


def test_serve_needs_the_variables_that_the_file_names() -> None:
    text = f"{SHIPPED}:9: upstream.master_key: BLNK_MASTER_KEY is empty in the environment\n"
    assert outcome(run("serve", "--config", SHIPPED, BLNK_MASTER_KEY="")) == (1, "", text)


def test_the_environment_is_checked_too() -> None:
    text = "BLNK_GATEWAY_LISTN: no such setting: did you mean BLNK_GATEWAY_LISTEN?\n"
    assert outcome(run("check", "--config", SHIPPED, BLNK_GATEWAY_LISTN="x")) == (1, text, "")


@pytest.mark.parametrize("command", [("check",), ("serve",), ("health", "alive")])
def test_a_missing_file_is_wrong_usage(command: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "absent.yaml"
    assert outcome(run(*command, "--config", str(file))) == (2, "", f"{file}: {ABSENT}\n")


@pytest.mark.parametrize("command", [("check",), ("serve",), ("explain", "GET", "/"), ("health", "alive")])
def test_an_unreadable_file_is_reported_like_any_other_problem(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    text = f"{tmp_path}: cannot be read: Is a directory\n"
    assert outcome(run(*command, "--config", str(tmp_path))) == (2, "", text)


@pytest.mark.parametrize("command", [("check",), ("serve",), ("init",)])
def test_a_dash_does_not_name_standard_input(command: tuple[str, ...]) -> None:
    result = run(*command, "--config", "-")
    assert result.exit_code == 2
    assert "standard input is not read: name a file, or /dev/stdin" in result.stderr


@pytest.mark.parametrize("arguments", [("frobnicate",), ("health",), ("health", "well"), ("check", "--x")])
def test_a_wrong_argument_is_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_health_asks_the_admin_listener() -> None:
    with listening() as port:
        environ = {"BLNK_GATEWAY_ADMIN": f"127.0.0.1:{port}"}
        assert outcome(run("health", "alive", "--config", SHIPPED, **environ)) == (
            0,
            '{"status":"alive"}\n',
            "",
        )
        assert outcome(run("health", "ready", "--config", SHIPPED, **environ)) == (
            1,
            '{"status":"draining"}\n',
            "",
        )


def test_health_sends_the_token_to_the_admin_listener(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken\n")
    with listening() as port:
        environ = {
            "BLNK_GATEWAY_ADMIN": f"0.0.0.0:{port}",
            "BLNK_GATEWAY_ADMIN_TOKEN_FILE": str(tmp_path / "token"),
        }
        assert outcome(run("health", "ready", "--config", SHIPPED, **environ)) == (
            0,
            '{"status":"ready"}\n',
            "",
        )


def test_health_without_the_token_says_so() -> None:
    text = "admin_token_file: the file cannot be read: check the path and who may read it\n"
    environ = {"BLNK_GATEWAY_ADMIN_TOKEN_FILE": "/absent"}
    assert outcome(run("health", "ready", "--config", SHIPPED, **environ)) == (2, "", text)


def test_health_prefers_the_health_listener_and_sends_it_no_token() -> None:
    with listening() as port:
        environ = {
            "BLNK_GATEWAY_HEALTH": f"0.0.0.0:{port}",
            "BLNK_GATEWAY_ADMIN_TOKEN_FILE": "/absent",
        }
        assert outcome(run("health", "ready", "--config", SHIPPED, **environ)) == (
            1,
            '{"status":"draining"}\n',
            "",
        )


def test_health_asks_the_given_address_and_no_proxy() -> None:
    with listening() as port:
        url = f"http://127.0.0.1:{port}"
        result = run("health", "alive", "--url", url, http_proxy="http://127.0.0.1:1")
        assert outcome(result) == (0, '{"status":"alive"}\n', "")


def test_a_response_without_a_body_is_reported_by_its_status() -> None:
    class Elsewhere(AdminListener):
        pages: ClassVar = {}

    with listening(Elsewhere) as port:
        url = f"http://127.0.0.1:{port}"
        text = f"{url}/health/alive: response 404 without a body\n"
        assert outcome(run("health", "alive", "--url", url)) == (1, text, "")


def test_no_response_is_an_unreachable_dependency() -> None:
    with HTTPServer(("127.0.0.1", 0), AdminListener, bind_and_activate=False) as closed:
        closed.server_bind()
        url = f"http://127.0.0.1:{closed.server_address[1]}"
        reason = "Connection refused; start the gateway, or name its address with --url"
        text = f"{url}/health/alive: no response: {reason}\n"
        assert outcome(run("health", "alive", "--url", url)) == (3, "", text)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:1", "ftp://h", "http://[::1", "http://h:x", "http://h:99999", "http://", ""]
)
def test_a_malformed_address_is_wrong_usage(url: str) -> None:
    result = run("health", "alive", "--url", url)
    assert result.exit_code == 2
    assert "Invalid value for '--url': write http://host:port" in result.stderr


def test_ctrl_c_while_it_loads_prints_no_traceback() -> None:
    """Ctrl-C during the first import of a library ends the command without a traceback."""
    interrupted = """
import os, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)

class Interrupting:
    def find_spec(name, *_):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting)
from gateway.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", interrupted], check=False, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_has_examples_and_the_exit_codes(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"blnk-gateway {command}" in result.stdout
    assert "Examples:" in result.stdout
    assert [f"\n    {code.value}  " in result.stdout for code in Exit] == [True] * 4


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["help"], ["--help"]),
        (["help", "check"], ["check", "--help"]),
        (["help", "keys"], ["keys", "--help"]),
        (["help", "keys", "create"], ["keys", "create", "--help"]),
        (["keys", "help", "create"], ["keys", "create", "--help"]),
    ],
)
def test_the_word_help_is_the_option_help(words: list[str], option: list[str]) -> None:
    assert outcome(run(*words)) == outcome(run(*option))


def test_help_about_an_unknown_command_is_wrong_usage() -> None:
    assert run("help", "frobnicate").exit_code == 2


@pytest.mark.parametrize("columns", ["80", "140"])
@pytest.mark.parametrize("group", [(), ("keys",)])
def test_the_help_of_a_group_has_whole_summaries_and_fits(group: tuple[str, ...], columns: str) -> None:
    text = run(*group, "--help", COLUMNS=columns).stdout
    listed = " ".join(text.partition("Commands:")[2].split())
    commands = cli.commands["keys"].commands if group else cli.commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        assert f"{name} {command.get_short_help_str(1000)}" in listed
    assert max(map(len, text.splitlines())) <= int(columns)


def test_every_command_is_known() -> None:
    assert set(cli.commands) == set(COMMANDS)


def test_the_version_is_printed() -> None:
    assert run("--version").stdout.startswith("blnk-gateway, version ")


def test_a_command_loads_nothing_of_the_others() -> None:
    """Neither rich nor the server is imported before a command asks for it."""
    modules = {"rich", "gateway.server.build", "gateway.demo"}
    script = f"import sys, gateway.cli; print({modules!r} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("schema >/dev/full", 2, "blnk-gateway: No space left on device\n"),
        ("schema >&-", 0, ""),
        ("check --config /absent 2>/dev/full", 2, ""),
        ("schema <&- >/dev/null", 0, ""),
        ("check --config /absent 2>&-", 2, ""),
    ],
)
def test_a_full_or_closed_stream_prints_no_traceback(line: str, code: int, text: str) -> None:
    main = shlex.join((sys.executable, "-c", "from gateway.__main__ import main; main()"))
    done = subprocess.run(
        ["bash", "-c", f"{main} {line}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", text)


def test_what_a_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    file = tmp_path / "gr\u00fcn.yaml"
    done = subprocess.run(
        [sys.executable, "-c", "from gateway.__main__ import main; main()", "check", "--config", str(file)],
        cwd=ROOT,
        capture_output=True,
        check=False,
        env={"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "1"},
    )
    assert done.returncode == 2
    assert done.stderr.decode() == f"{tmp_path}/gr\\xfcn.yaml: {ABSENT}\n"
