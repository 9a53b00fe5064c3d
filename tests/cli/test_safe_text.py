"""What commands print controls no terminal, whatever clients put into names and owners."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import cli
from gateway.cli.safe_text import safe_json, safe_text
from gateway.keys.record_json import from_members
from tests.conftest import SHIPPED, Keys, Stored
from tests.keys.records import RECORD
from tests.running import ROOT

HOSTILE = "\x00\x1b[31m\x7f\x85\x9b31m\u200b\u2028\u202e\u2066\ufeff\U000e0001 Jos\u00e9 \u20ac \U0001f4b6"
ESCAPED = (
    "\\u0000\\u001b[31m\\u007f\\u0085\\u009b31m\\u200b\\u2028\\u202e\\u2066\\ufeff\\udb40\\udc01 "
    "Jos\u00e9 \u20ac \U0001f4b6"
)
RECORD_OF_HOSTILE = replace(RECORD, owner=HOSTILE, name=HOSTILE)


def controls(text: str) -> list[str]:
    """Return the characters of an output that are neither printable, nor a tab or the end of a line."""
    return [character for character in text if not character.isprintable() and character not in "\t\r\n"]


def test_json_has_escapes_and_is_the_same_value() -> None:
    written = safe_json({HOSTILE: [HOSTILE, 1]}, "utf-8")
    assert written.decode() == f'{{"{ESCAPED}":["{ESCAPED}",1]}}'
    assert json.loads(written) == {HOSTILE: [HOSTILE, 1]}
    assert safe_json({"a": [HOSTILE]}, "UTF8", indent=2).decode() == f'{{\n  "a": [\n    "{ESCAPED}"\n  ]\n}}'


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
def test_json_is_ascii_where_the_stream_is_not_utf_8(encoding: str) -> None:
    written = safe_json({HOSTILE: 1}, encoding)
    assert written.isascii()
    assert json.loads(written) == {HOSTILE: 1}


def test_text_for_people_has_escapes_and_keeps_its_lines_and_tabs() -> None:
    assert safe_text("a\tb\nc\r\x9b\u202e\u00e9") == "a\tb\nc\\r\\x9b\\u202e\u00e9"


@pytest.mark.redis
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize(
    "command",
    [
        ("keys", "list", "--output", "json"),
        ("keys", "list"),
        ("keys", "show", RECORD.id, "--output", "json"),
        ("keys", "show", RECORD.id),
        ("keys", "export"),
        ("keys", "disable", RECORD.id, "--reason", "\x9b\u202e", "--output", "json"),
        ("keys", "revoke", "--owner", HOSTILE[1:], "--yes"),
        ("audit", "--output", "json"),
        ("audit", "--output", "table"),
        ("explain", "GET", "/ledgers", "--key-id", RECORD.id, "--output", "json"),
        ("explain", "GET", "/ledgers", "--key-id", RECORD.id),
    ],
    ids=" ".join,
)
def test_a_command_prints_no_control_character_on_a_terminal(
    redis_url: str, stored: Stored, command: tuple[str, ...], encoding: str
) -> None:
    stored(lambda store: store.add(replace(RECORD_OF_HOSTILE, owner=HOSTILE[1:], name=HOSTILE[1:])))
    code, printed = on_terminal([*command, "--config", SHIPPED], encoding, BLNK_GATEWAY_KEYS__STORE=redis_url)
    assert code in (0, 1)
    assert "Traceback" not in printed
    assert RECORD.id in printed or "GET /ledgers" in printed
    assert controls(printed) == []


@pytest.mark.parametrize("output", ["table", "text", "json"])
def test_denials_are_printed_on_a_terminal_that_is_not_utf_8(tmp_path: Path, output: str) -> None:
    log = tmp_path / "access.log"
    log.write_text(
        json.dumps({"event": "request", "decision": "deny", "code": "X", "owner": "Jos\u00e9 \u20ac"})
    )
    code, printed = on_terminal(["denials", str(log), "--output", output], "latin-1")
    assert code == 0
    assert "\\u20ac" in printed
    assert controls(printed) == []


def on_terminal(command: Sequence[str], encoding: str, **environ: str) -> tuple[int, str]:
    """Return the exit code of a command and what it prints on a terminal of an encoding."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", *command],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", "TERM": "dumb", "PYTHONIOENCODING": encoding, **environ},
        stdin=subprocess.DEVNULL,
        stdout=end,
        stderr=end,
    )
    os.close(end)
    printed = b""
    try:
        while some := os.read(terminal, 65_536):
            printed += some
    except OSError:  # Linux says so once nobody has the other end
        pass
    return process.wait(), printed.decode(encoding)


@pytest.mark.redis
def test_an_export_with_escapes_has_the_record_as_it_is(keys: Keys, stored: Stored) -> None:
    stored(lambda store: store.add(RECORD_OF_HOSTILE))
    exported = keys("export", "--digests").stdout
    assert controls(exported) == []
    assert from_members(json.loads(exported)) == RECORD_OF_HOSTILE


@pytest.mark.parametrize("command", [("check",), ("explain", "GET", "/ledgers", "--scopes", "*:*")])
def test_the_name_of_a_file_controls_no_terminal(tmp_path: Path, command: tuple[str, ...]) -> None:
    file = tmp_path / "a\x9b31m\u202e.yaml"
    for code in (2, 0):
        result = CliRunner().invoke(cli, [*command, "--config", str(file)])
        assert (result.exit_code, controls(result.output)) == (code, [])
        assert "a\\x9b31m\\u202e.yaml" in result.output
        file.write_bytes(Path(SHIPPED).read_bytes())
