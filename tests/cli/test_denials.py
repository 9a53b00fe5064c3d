"""`blnk-gateway denials`: refused requests, and requests that a policy would refuse, by key and route."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import cli
from gateway.cli.denials import MOST_ROWS, count_denials
from gateway.telemetry import AccessEntry, Log

READ = "GET /ledgers/{id}"
KEY_ID = "api_key_01234567-89ab-4cde-8f01-23456789abcd"
LACKS = "AUTH_INSUFFICIENT_PERMISSIONS"


def log_of(*entries: AccessEntry, fmt: str = "json") -> bytes:
    """Return the lines that the gateway itself writes."""
    stream = io.StringIO()
    log = Log(stream, fmt)
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


def test_the_most_frequent_denials_come_first() -> None:
    """A pipe gets lines with tabs; requests that were allowed or failed are not counted."""
    code, out, err = run()
    assert (code, err) == (0, "")
    assert [tuple(line.split("\t")) for line in out.splitlines()] == RANKED


def test_a_file_is_read_as_standard_input_is(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    file.write_bytes(LOG)
    assert run(str(file), stdin=b"") == run("-") == run()


def test_top_cuts_the_list() -> None:
    assert len(run("--top", "2")[1].splitlines()) == 2


def test_json_has_every_member() -> None:
    """JSON has every member of a row, and the number of all requests."""
    found = json.loads(run("--output", "json", "--top", "1")[1])
    row = {"count": 3, "kind": "would_deny", "key_id": "api_key_1", "owner": "acme"}
    assert found == {
        "requests": 10,
        "rows_left_out": 4,
        "denials_uncounted": 0,
        "lines_unread": 0,
        "denials": [row | {"route": READ, "code": LACKS}],
    }


MANY = log_of(*(deny(key_id=f"api_key_{number:03}") for number in range(200)))


def test_json_has_every_row() -> None:
    """JSON has every row, because a program must not mistake the first rows for all."""
    code, out, err = run("--output", "json", stdin=MANY)
    found = json.loads(out)
    assert (code, err, found["rows_left_out"]) == (0, "", 0)
    assert [row["key_id"] for row in found["denials"]] == [f"api_key_{number:03}" for number in range(200)]


@pytest.mark.parametrize("output", ["text", "table"])
def test_rows_that_are_left_out_are_counted(output: str) -> None:
    """The last line counts the rows that are left out, and names the option that shows them."""
    code, out, err = run("--output", output, stdin=MANY)
    assert (code, out.count("api_key_")) == (0, 30)
    assert err == "rows left out: 170; see them with --top 200\n"


def test_a_log_for_people_gives_the_same_ranking() -> None:
    """The format of a terminal and of `log.format: console` is read too, and a path may hold anything."""
    entries = [
        would(key_id="api_key_1", owner="the ops", path="/a b=c"),
        deny(key_id="api_key_2", route="", path='/x" decision=allow', method="DELETE"),
        entry(code="GEN_RATE_LIMITED", status=429, key_id="api_key_3"),
        entry(),
    ]
    assert run(stdin=log_of(*entries, fmt="console")) == run(stdin=log_of(*entries))
    assert json.loads(run("--output", "json", stdin=log_of(*entries, fmt="console"))[1])["requests"] == 4


def on_a_terminal(columns: int, *entries: AccessEntry) -> str:
    arguments = ["denials", "--output", "table"]
    return CliRunner().invoke(cli, arguments, input=log_of(*entries), env={"COLUMNS": str(columns)}).stdout


def test_a_table_has_a_title_for_each_column() -> None:
    out = on_a_terminal(160, deny(key_id=KEY_ID, owner="acme"), would())
    title, _, heads, *_ = out.splitlines()
    assert title.strip() == "2 denials in 2 requests"
    assert heads.replace("┃", " ").split() == ["count", "decision", "key", "owner", "route", "code"]
    assert "would deny" in out


@pytest.mark.parametrize("columns", [40, 80, 120, 165])
def test_ids_and_codes_are_never_wrapped(columns: int) -> None:
    """Ids and codes can be copied on the narrowest terminal."""
    out = on_a_terminal(columns, deny(key_id=KEY_ID, owner="acme"), would(code="AUTH_MISSING_API_KEY"))
    assert [text for text in (KEY_ID, LACKS, READ, "acme", "would deny") if text not in out] == []


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("AUTH_MISSING_API_KEY", "(no key)"),
        ("AUTH_INVALID_API_KEY", "(unknown key)"),
        ("GATEWAY_KEY_STORE_UNAVAILABLE", "(not looked up)"),
        ("GEN_BAD_REQUEST", "(none)"),
    ],
)
def test_a_caller_without_an_id_is_named_by_the_code(code: str, shown: str) -> None:
    """In the first days, many keys are unknown to the store."""
    out = run(stdin=log_of(entry(decision="would_deny", would_code=code)))[1]
    assert out.split("\t")[2] == shown


def test_lines_of_other_programs_are_counted() -> None:
    """Other programs may write to the same stream, and a collector may put text before each line."""
    others = b'starting up\n[1]\n{"half": \n\n{"event":"listening"}\n' + b"[" * 100_000 + b"\n" + b'"x"\n'
    code, out, err = run("--top", "1", stdin=others + b"pod-1 | " + LOG)
    assert (code, out.split("\t")[0]) == (0, "3")
    assert err.splitlines() == [
        "rows left out: 4; see them with --top 5",
        "lines left out, because they are not from the gateway's log: 5",
    ]


def test_members_of_wrong_types_are_ignored() -> None:
    """Other programs may write anything to the same stream."""
    line = {"event": "request", "decision": "deny", "code": 7, "key_id": ["x"], "path": None, "status": "x"}
    assert run(stdin=json.dumps(line).encode())[1] == "1\tdeny\t(none)\t\t  (no route)\t\n".replace(
        "  (no route)", "(no route)"
    )


def test_a_path_cannot_control_the_terminal() -> None:
    """The client chose the path; it is shown escaped and shortened."""
    out = run(stdin=log_of(deny(route="", path="/\x1b[2J\t" + "x" * 1000)))[1]
    assert "\x1b" not in out
    assert len(out.split("\t")) == 6
    assert len(out) < 400


def test_memory_is_bounded() -> None:
    """Clients can invent any number of paths that no route matches."""
    line = '{"event":"request","decision":"deny","method":"GET","path":"/%d"}'
    counts = count_denials((line % number).encode() for number in range(MOST_ROWS + 5))
    assert (len(counts.kinds), counts.further) == (MOST_ROWS, 5)


def test_a_missing_file_is_wrong_usage() -> None:
    assert run("no-such.log")[0] == 2
