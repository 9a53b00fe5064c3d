"""`blnk-gateway denials`: what was refused, and what would have been, by key and route."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import cli
from gateway.cli.denials import MOST_ROWS, rank
from gateway.telemetry import AccessEntry, AccessLog

READ = "GET /ledgers/{id}"
LACKS = "AUTH_INSUFFICIENT_PERMISSIONS"


def log_of(*entries: AccessEntry) -> bytes:
    """The lines that the gateway itself would write."""
    stream = io.StringIO()
    log = AccessLog(stream, console=False)
    for entry in entries:
        log.record(entry)
    log.flush()
    return stream.getvalue().encode()


def entry(**members: Any) -> AccessEntry:
    known: dict[str, Any] = {"time": 1.0, "method": "GET", "path": "/ledgers/x", "route": READ, "status": 200}
    return AccessEntry(**(known | {"decision": "allow"} | members))


def would(**members: Any) -> AccessEntry:
    return entry(decision="would_deny", would_code=LACKS, **members)


def deny(**members: Any) -> AccessEntry:
    return entry(**({"decision": "deny", "code": LACKS, "status": 403} | members))


LOG = log_of(
    *[would(key_id="api_key_1", owner="acme")] * 3,
    *[deny(key_id="api_key_2", owner="ops")] * 2,
    entry(key_id="api_key_1"),
    deny(code="AUTH_MISSING_API_KEY", status=401, route=""),
    would(key_id="api_key_1", owner="acme", route="POST /ledgers"),
    entry(code="GEN_RATE_LIMITED", status=429, key_id="api_key_3"),
    entry(code="GATEWAY_UPSTREAM_UNREACHABLE", status=502, key_id="api_key_3"),
)


def run(*arguments: str, stdin: bytes = LOG) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, ["denials", *arguments], input=stdin)
    return done.exit_code, done.stdout, done.stderr


RANKED = [
    ("3", "would deny", "api_key_1", "acme", READ, LACKS),
    ("2", "deny", "api_key_2", "ops", READ, LACKS),
    ("1", "deny", "(no key)", "", "GET /ledgers/x (no route)", "AUTH_MISSING_API_KEY"),
    ("1", "would deny", "api_key_1", "acme", "POST /ledgers", LACKS),
    ("1", "deny", "api_key_3", "", READ, "GEN_RATE_LIMITED"),
]


def test_the_most_frequent_come_first_and_failures_are_no_denials() -> None:
    """On a pipe, lines with tabs; what was allowed or failed is not among them."""
    code, out, err = run()
    assert (code, err) == (0, "")
    assert [tuple(line.split("\t")) for line in out.splitlines()] == RANKED


def test_a_file_is_read_as_standard_input_is(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    file.write_bytes(LOG)
    assert run(str(file), stdin=b"") == run("-") == run()


def test_top_cuts_the_list() -> None:
    assert len(run("--top", "2")[1].splitlines()) == 2


def test_json_is_for_machines() -> None:
    """Every member of a row, and how many requests there were in all."""
    found = json.loads(run("--output", "json", "--top", "1")[1])
    row = {"count": 3, "kind": "would_deny", "key_id": "api_key_1", "owner": "acme"}
    assert found == {"requests": 10, "denials": [row | {"route": READ, "code": LACKS}]}


def test_a_table_is_for_people() -> None:
    out = run("--output", "table")[1]
    assert "8 denials in 10 requests" in out
    assert all(word in out for word in ("would deny", "api_key_2", "AUTH_MISSING"))


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("AUTH_MISSING_API_KEY", "(no key)"),
        ("AUTH_INVALID_API_KEY", "(unknown key)"),
        ("GATEWAY_KEY_STORE_UNAVAILABLE", "(not looked up)"),
        ("GEN_BAD_REQUEST", "(none)"),
    ],
)
def test_who_has_no_id_is_told_by_what_is_known(code: str, shown: str) -> None:
    """First days are full of keys that the store does not know yet."""
    out = run(stdin=log_of(entry(decision="would_deny", would_code=code)))[1]
    assert out.split("\t")[2] == shown


def test_what_is_no_line_of_the_log_is_counted() -> None:
    """Other programs write to the same stream; what a collector puts before a line does no harm."""
    others = b'starting up\n[1]\n{"half": \n\n{"event":"listening"}\n' + b"[" * 100_000 + b"\n" + b'"x"\n'
    code, out, err = run("--top", "1", stdin=others + b"pod-1 | " + LOG)
    assert (code, out.split("\t")[0]) == (0, "3")
    assert err == "5 lines are no JSON of the log, and were left out\n"


def test_members_of_other_kinds_are_left_aside() -> None:
    """A log that others wrote to may hold anything."""
    line = {"event": "request", "decision": "deny", "code": 7, "key_id": ["x"], "path": None, "status": "x"}
    assert run(stdin=json.dumps(line).encode())[1] == "1\tdeny\t(none)\t\t  (no route)\t\n".replace(
        "  (no route)", "(no route)"
    )


def test_a_path_cannot_steer_the_terminal() -> None:
    """A client chose it; it is shown escaped, and in part."""
    out = run(stdin=log_of(deny(route="", path="/\x1b[2J\t" + "x" * 1000)))[1]
    assert "\x1b" not in out
    assert len(out.split("\t")) == 6
    assert len(out) < 400


def test_memory_is_bounded() -> None:
    """Paths that nobody lists can be made up without end."""
    line = '{"event":"request","decision":"deny","method":"GET","path":"/%d"}'
    ranking = rank((line % number).encode() for number in range(MOST_ROWS + 5))
    assert (len(ranking.rows), ranking.uncounted) == (MOST_ROWS, 5)


def test_a_missing_file_is_a_usage_error() -> None:
    assert run("no-such.log")[0] == 2
