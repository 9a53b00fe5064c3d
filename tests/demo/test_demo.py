"""The demo: every step is as expected, a failed step is shown, and there is never a traceback."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from rich.console import Console

from gateway.config import Secret
from gateway.demo import demo
from gateway.demo.printer import curl
from gateway.demo.steps import DemoRequest, Key
from gateway.demo.walkthrough import AMOUNT, Walkthrough
from gateway.demo.wrapping import command_lines, json_lines
from gateway.server.exit_codes import Exit
from tests.running import ROOT

MASTER = "the-master-key-of-a-demo"
DEMO = (sys.executable, "-c", "from gateway.__main__ import main; main()", "demo")
STATUSES = ["201", "201", "401", "401", "200", "403", "201", "200", "201", "200", "204", "401"]

Ledger = TestClient[Any, Any]


async def run_demo(*, terminal: bool = False, width: int = 80, **options: Any) -> tuple[int, str]:
    """Return the exit code and the text of `demo --once` on a free port."""
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=terminal, width=width, color_system="standard" if terminal else None
    )
    code = await demo(console, once=True, **{"port": 0} | options)
    return code, out.getvalue()


def marks(text: str) -> list[tuple[str, str]]:
    """Return the mark and the status of every step."""
    return re.findall(r"^    (✓|✗) (\S+)", text, re.MULTILINE)


# The steps.


async def test_every_step_comes_out() -> None:
    """Every step is as expected over real HTTP: minting, 401, 403, stamps and digits stored, revocation."""
    code, text = await run_demo()
    assert (code, marks(text)) == (Exit.OK, [("✓", status) for status in STATUSES])
    ids = re.findall(r'"api_key_id":"(\w[\w-]+)"', text)
    stored = re.findall(r'"precise_amount":(\d+),"meta_data":(\{[^}]*\})\}$', text, re.MULTILINE)
    assert stored == [
        (str(AMOUNT), f'{{"order":"1","BLNK_GENERATED_BY":"{ids[1]}"}}'),
        (str(AMOUNT), f'{{"BLNK_GENERATED_BY":"{ids[1]}"}}'),
    ]


async def test_a_ledger_that_rounds_fails_the_steps_that_look_at_digits() -> None:
    """The steps that look at digits have a cross, and the exit code is that of a failure."""

    def rounding(master: Secret) -> web.Application:
        async def respond(request: web.Request) -> web.Response:
            if request.headers.get("X-Blnk-Key") != master.reveal():
                return web.Response(status=401)
            if request.path == "/ledgers":
                return web.Response(body=b"[]")
            body = b'{"transaction_id":"txn_1","precise_amount":12345678901234567000}'
            return web.Response(status=201 if request.method == "POST" else 200, body=body)

        return served_by(respond)

    code, text = await run_demo(ledger=rounding)
    crossed = [number for number, (mark, _) in enumerate(marks(text), 1) if mark == "✗"]
    assert (code, crossed) == (Exit.FAILED, [8, 10])
    assert "2 of 12 steps did not go as expected." in text


async def test_a_ledger_that_is_open_to_anyone_is_refused_in_words() -> None:
    """The gateway's own check at the start gives the message and the exit code."""

    async def respond(_: web.Request) -> web.Response:
        return web.Response()

    code, text = await run_demo(ledger=lambda _: served_by(respond))
    assert code == Exit.DEPENDENCY
    assert "The gateway cannot start: Core responds with 200 to a request without a key" in text


def served_by(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.Application:
    """Return an application that gives every request to one handler."""
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", handler)
    return application


@pytest.mark.parametrize("body", [b"", b"{}", b"[1", b'{"key":7}', b"\xff\x00"])
async def test_no_response_makes_the_steps_raise(
    body: bytes, aiohttp_client: Callable[..., Awaitable[Ledger]]
) -> None:
    """A gateway that gives any response gets twelve crosses and no traceback."""

    async def respond(_: web.Request) -> web.Response:
        return web.Response(status=299, body=body)

    client = await aiohttp_client(served_by(respond))
    walkthrough = Walkthrough(client.session, str(client.make_url("/")).rstrip("/"), Secret(MASTER))
    assert [step.as_expected async for step in walkthrough.steps()] == [False] * 12


async def test_a_gateway_that_is_gone_fails_every_step() -> None:
    """Without a connection every step fails and shows the reason."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with aiohttp.ClientSession() as session:
        walkthrough = Walkthrough(session, f"http://127.0.0.1:{port}", Secret(MASTER))
        steps = [step async for step in walkthrough.steps()]
    assert {(step.as_expected, step.response.status) for step in steps} == {(False, 0)}
    assert all(step.excerpt.startswith("no response: ") for step in steps)


async def test_a_taken_port_is_left_alone() -> None:
    """The demo uses another port if its own is taken, as by a Core on 5001."""
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        code, text = await run_demo(port=port)
    assert code == Exit.OK
    assert f"\nPort {port} is taken by another program, so clients get a free one.\n" in text
    assert f":{port}" not in text


async def test_a_port_that_is_free_is_used_without_a_word() -> None:
    """The text says nothing of taken ports if the port is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code, text = await run_demo(port=port)
    assert (code, f"  clients   http://127.0.0.1:{port}\n" in text) == (Exit.OK, True)
    assert "is taken" not in text


async def test_it_says_where_operators_connect_and_what_to_try_next() -> None:
    """The text has the admin listener, and commands that need no gateway, with the name of the program."""
    _, text = await run_demo(program=".venv/bin/blnk-gateway")
    assert re.search(
        r"^  admin     http://127\.0\.0\.1:\d+   health, metrics, explain, console$", text, re.MULTILINE
    )
    assert re.findall(r"^\.venv/bin/blnk-gateway (\w+)", text, re.MULTILINE) == ["init", "explain", "diff"]


async def test_every_variable_of_a_command_is_set_above_it() -> None:
    """The commands can be pasted from the top down."""
    _, text = await run_demo()
    known: set[str] = set()
    for line in text.splitlines():
        if found := re.match(r"    \$ ([A-Z_]+)=\S+$", line):
            known.add(found[1])
        assert set(re.findall(r"\$([A-Z_]+)", line)) <= known
    assert known == {"MASTER_KEY", "READ_KEY", "READ_KEY_ID", "KEY"}


# The output.


@pytest.mark.parametrize("width", [80, 120])
async def test_on_a_terminal_no_word_is_cut(width: int) -> None:
    """Every line fits the terminal, so that the terminal breaks none."""
    _, shown = await run_demo(terminal=True, width=width)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert [line for line in lines if len(line) > width] == []


BODY = '{"a":["b","c"],"precise_amount":12345678901234567890,"meta_data":{"BLNK_GENERATED_BY":"x"}}'


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_a_command_that_is_broken_into_lines_is_the_same_to_a_shell(width: int) -> None:
    """A command in several lines has the same words, and the same JSON as its body."""
    words = ["curl", '-H "X-Blnk-Key: $KEY"', f"-d {shlex.quote(BODY)}", "http://h/transactions"]
    lines = command_lines(words, width)
    assert len(lines) > 1
    script = "\n    ".join(lines).replace("curl", r"printf '%s\0'", 1)
    done = subprocess.run(["sh", "-c", script], env={"KEY": "k"}, capture_output=True, text=True, check=True)
    *others, data, url, _ = done.stdout.split("\0")
    assert (others, json.loads(data), url) == (
        ["-H", "X-Blnk-Key: k", "-d"],
        json.loads(BODY),
        "http://h/transactions",
    )


def test_what_has_no_place_to_break_stays_whole() -> None:
    assert (json_lines("x" * 90, 80), command_lines(["x" * 90], 80)) == (["x" * 90], ["x" * 90])


async def test_a_pipe_gets_plain_text_and_a_terminal_colours() -> None:
    """Only a terminal gets escape sequences; lines to be copied are whole on both."""
    _, piped = await run_demo()
    _, shown = await run_demo(terminal=True)
    assert ("\x1b" in piped, "\x1b" in shown) == (False, True)
    assert max(map(len, piped.splitlines())) > 80


async def test_marks_are_words_where_the_encoding_has_no_others() -> None:
    """On an ASCII terminal the marks are words."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    code = await demo(Console(file=out), once=True, port=0)
    out.seek(0)
    assert (code, out.read().count("    ok ")) == (Exit.OK, len(STATUSES))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (DemoRequest("GET", "/ledgers"), ["curl", "http://h/ledgers"]),
        (
            DemoRequest("GET", "/a?b=c", Key("KEY", Secret("s"))),
            ["curl", "-H", "X-Blnk-Key: $KEY", "http://h/a?b=c"],
        ),
        (
            DemoRequest("DELETE", "/a", Key("", Secret("s"))),
            ["curl", "-X", "DELETE", "-H", "X-Blnk-Key: s", "http://h/a"],
        ),
        (DemoRequest("GET", "/a/x?b", shown="/a/$ID?b"), ["curl", "http://h/a/$ID?b"]),
        (
            DemoRequest("POST", "/a", None, '{"n":"it\'s"}'),
            ["curl", "-H", "Content-Type: application/json", "-d", '{"n":"it\'s"}', "http://h/a"],
        ),
    ],
)
def test_a_shown_request_is_the_one_that_was_sent(request_: DemoRequest, words: list[str]) -> None:
    """A shell makes of the line the method, target, key and body that were sent."""
    assert shlex.split(" ".join(curl("http://h", request_))) == words


# The process.


def test_once_exits_by_the_table() -> None:
    """`demo --once` prints all steps on standard output and nothing on standard error, and exits with 0."""
    done = subprocess.run([*DEMO, "--once"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr, len(marks(done.stdout))) == (Exit.OK, "", len(STATUSES))


def test_it_stays_up_until_ctrl_c() -> None:
    """The first pasted command works, with its live key and port, until SIGINT ends the demo with 0."""
    with subprocess.Popen(
        DEMO, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        text = "".join(lines)
        (key,) = re.findall(r"^KEY=(.+)$", text, re.MULTILINE)
        _, _, header, _, _, url = shlex.split(lines[lines.index("# read\n") + 1])
        assert get(url, header.replace("$KEY", key)) == (200, b"[]")
        (metrics,) = re.findall(r"^curl (\S+/metrics)$", text, re.MULTILINE)
        assert get(metrics, "Accept: text/plain")[0] == 200
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (Exit.OK, "")


def get(url: str, header: str) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request("GET", parts.path, headers=dict([header.split(": ")]))
    response = connection.getresponse()
    got = response.status, response.read()
    connection.close()
    return got


def test_a_reader_that_leaves_is_no_traceback() -> None:
    """`demo --once | head -1` writes nothing on standard error."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*DEMO, "--once"], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (Exit.FAILED, b"")


def test_the_package_carries_the_configuration_that_ships() -> None:
    """An installed gateway, which has no checkout, reads the configuration from its package."""
    carried = resources.files("gateway").joinpath("gateway.yaml").read_bytes()
    assert carried == (ROOT / "gateway.yaml").read_bytes()
