"""`blnk-gateway keys` against a real Redis: its output, the places where keys are written, its exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from gateway.cli.keys.operator import operator_name
from gateway.gocompat.times import Instant
from gateway.keys.minting import digest, is_key, mint_key
from gateway.keys.record import Event, KeyRecord
from gateway.keys.revocation import revoke_key
from gateway.policy.terms import KeyTerms, Rate, read_network
from gateway.server.clocks import utc_now
from tests.conftest import SHIPPED, Keys, Stored
from tests.keys.mute import mute_after
from tests.keys.records import GLOBEX, OTHER, PENDING, RECORD, instant, revocation
from tests.keys.redis_setups import until
from tests.redis_server import RedisServer
from tests.running import ROOT

pytestmark = pytest.mark.redis

AT = "2026-02-01T00:00:00Z"
HELD_BACK = "finishing the change that has begun; a second Ctrl-C or SIGTERM stops it\n"
CREATE = ("create", "--owner", "acme", "--scopes", "ledgers:read", "--expires", "90d")
UNKNOWN = "api_key_00000000-0000-4000-8000-0000000000ff"


@pytest.fixture
def mute_url(redis_url: str) -> Iterator[str]:
    """Yield the URL of the store over a link that loses the responses to changes."""
    with mute_after(b"EVAL", redis_url) as url:
        yield url


def outcome(result: Result) -> tuple[int, str, str]:
    return result.exit_code, result.stdout, result.stderr


def shown(result: Result) -> dict[str, Any]:
    """Return the JSON of a successful run."""
    assert (result.exit_code, result.stderr) == (0, "")
    found: dict[str, Any] = json.loads(result.stdout)
    return found


class TestCreate:
    def test_a_key_on_a_pipe_needs_to_be_asked_for(self, keys: Keys, stored: Stored) -> None:
        result = keys(*CREATE)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "could end up in a log" in result.stderr
        assert stored(lambda store: store.owned("acme")) == []

    def test_the_key_alone_goes_to_standard_output(self, keys: Keys, stored: Stored) -> None:
        result = keys(*CREATE, "--name", "payments", "--print-key")
        key = result.stdout.removesuffix("\n")
        record: KeyRecord = stored(lambda store: store.get_by_digest(digest(key)))
        assert is_key(key)
        assert result.exit_code == 0
        assert (record.owner, record.name, record.scopes) == ("acme", "payments", ("ledgers:read",))
        assert record.created_by == operator_name()
        assert record.expires_at.unix - record.created_at.unix == 90 * 86400
        assert key not in result.stderr
        curl = """printf 'X-Blnk-Key: %s' "$BLNK_KEY" | curl http://127.0.0.1:5001/ledgers -H @-"""
        assert f"try          read -rs BLNK_KEY; {curl}\n" in result.stderr

    def test_the_file_of_a_key_is_new_and_for_its_owner_alone(
        self, keys: Keys, stored: Stored, tmp_path: Path
    ) -> None:
        file = tmp_path / "acme.key"
        result = keys(*CREATE, "--out", str(file))
        key = file.read_text().removesuffix("\n")
        assert (result.exit_code, result.stdout) == (0, "")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stored(lambda store: store.get_by_digest(digest(key))) is not None
        assert key not in result.stderr
        assert f"""try          printf 'X-Blnk-Key: %s' "$(cat {file})" | curl """ in result.stderr
        assert outcome(keys(*CREATE, "--out", str(file))) == (
            2,
            "",
            f"{file}: File exists: name a new file\n",
        )
        assert file.read_text() == f"{key}\n"
        assert len(stored(lambda store: store.owned("acme"))) == 1

    def test_a_key_has_the_configured_prefix_and_its_file_nothing_else(
        self, keys: Keys, tmp_path: Path
    ) -> None:
        """It is verified without the store, too."""
        file, setting = tmp_path / "acme.key", {"BLNK_GATEWAY_KEYS__PREFIX": "blnk_live_"}
        assert keys(*CREATE, "--out", str(file), **setting).exit_code == 0
        key = file.read_text()
        assert re.fullmatch(r"blnk_live_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}\n", key)
        assert outcome(keys("verify", "--offline", stdin=key)) == (0, "checksum     right\n", "")
        assert keys("verify", stdin=key).exit_code == 0
        other = keys("verify", "--offline", stdin=key.replace("_live_", "_test_"))
        assert outcome(other) == (1, "checksum     wrong, or the key has no prefix\n", "")
        core = keys("verify", "--offline", "--output", "json", stdin=mint_key(os.urandom))
        assert outcome(core) == (1, '{"checksum":false}\n', "")

    def test_the_curl_line_of_a_key_without_a_get_announces_403(self, keys: Keys) -> None:
        wanted = ("create", "--owner", "acme", "--scopes", "transactions:delete", "--expires", "1d")
        assert keys(*wanted, "--print-key").stderr.endswith(
            " -H @-  # 403: its scopes open no GET without parameters\n"
        )

    def test_the_terms_of_a_key_are_stored_and_shown(self, keys: Keys, stored: Stored) -> None:
        fingerprint = ":".join(["0A"] * 32)
        terms = ("--rate", "100/s", "--burst", "20", "--concurrency", "5", "--certificate", fingerprint)
        result = keys(*CREATE, *terms, "--allow-from", "10.0.0.0/8, 2001:db8::1", "--print-key")
        assert result.exit_code == 0
        (record,) = stored(lambda store: store.owned("acme"))
        assert record.terms == KeyTerms(
            rate=Rate(100),
            burst=20,
            concurrency=5,
            allow_from=(read_network("10.0.0.0/8"), read_network("2001:db8::1")),
            certificate="0a" * 32,
        )
        lines = (
            "rate         100/s, 20 at once\nconcurrency  5\n"
            f"allow from   10.0.0.0/8, 2001:db8::1/128\ncertificate  {'0a' * 32}\n"
        )
        assert lines in result.stderr
        assert lines in keys("show", record.id).stdout
        assert shown(keys("show", record.id, "--output", "json"))["terms"] == {
            "rate": "100/s",
            "burst": 20,
            "concurrency": 5,
            "allow_from": ["10.0.0.0/8", "2001:db8::1/128"],
            "certificate": "0a" * 32,
        }

    @pytest.mark.parametrize(
        ("option", "value", "text"),
        [
            (
                "--rate",
                "100",
                "write requests and a unit of time, as 100/s, 600/m or 10000/h",
            ),
            ("--rate", "none", "leave the option out"),
            ("--burst", "20", "a burst needs a rate: name both"),
            ("--concurrency", "0", "write a whole number from 1 to 1000000"),
            ("--allow-from", "10.0.0.1/8", "whose host bits are 0, as 10.0.0.0/8"),
            ("--allow-from", ",".join(["10.0.0.0/8"] * 33 + [f"10.0.0.{n}" for n in range(32)]), "1 to 32"),
            ("--certificate", "ab", "64 hexadecimal digits"),
        ],
    )
    def test_a_term_that_cannot_be_read_is_refused(
        self, keys: Keys, stored: Stored, option: str, value: str, text: str
    ) -> None:
        result = keys(*CREATE, option, value, "--print-key")
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"Invalid value for '{option}'" in result.stderr
        assert text in result.stderr
        assert stored(lambda store: store.owned("acme")) == []

    def test_without_room_for_the_key_none_is_created(
        self, redis_url: str, stored: Stored, tmp_path: Path
    ) -> None:
        file = tmp_path / "acme.key"
        ended = in_a_shell(
            redis_url, f"ulimit -f 0; trap '' XFSZ; {{keys}} {shlex.join(CREATE)} --out {file}"
        )
        assert ended == (2, "", f"{file}: File too large\n")
        assert not file.exists()
        assert stored(lambda store: store.owned("acme")) == []

    def test_a_key_that_cannot_be_printed_is_named_by_its_id(self, redis_url: str, stored: Stored) -> None:
        """The key is in the store by then, so the operator needs its id to revoke it."""
        ended = in_a_shell(redis_url, f"{{keys}} {shlex.join(CREATE)} --print-key >/dev/full")
        (record,) = stored(lambda store: store.owned("acme"))
        unread = f"{record.id} is stored, and nobody has the key: revoke it"
        text = f"the key could not be written: No space left on device; {unread}\n"
        assert ended == (1, "", text)

    def test_no_key_is_created_for_a_closed_output(self, redis_url: str, stored: Stored) -> None:
        ended = in_a_shell(redis_url, f"{{keys}} {shlex.join(CREATE)} --print-key >&-")
        text = "standard output is closed, so the key would be lost: write it into a file with --out FILE\n"
        assert ended == (2, "", text)
        assert stored(lambda store: store.owned("acme")) == []

    def test_a_key_in_its_file_is_not_reported_as_lost(self, redis_url: str, tmp_path: Path) -> None:
        """This holds though there is no room for the text about the key."""
        file = tmp_path / "acme.key"
        line = f"{{keys}} {shlex.join(CREATE)} --out {file} --output json >/dev/full"
        assert in_a_shell(redis_url, line) == (2, "", "blnk-gateway: No space left on device\n")
        assert is_key(file.read_text().strip())

    def test_a_key_that_no_replica_acknowledged_is_printed(self, keys: Keys, stored: Stored) -> None:
        """The key is stored; without it, the owner of the old key would have no successor."""
        result = keys(*CREATE, "--print-key", BLNK_GATEWAY_KEYS__REPLICAS="1")
        record: KeyRecord = stored(
            lambda store: store.get_by_digest(digest(result.stdout.removesuffix("\n")))
        )
        text = (
            f"{record.id} is stored, but a failover may lose it: 0 of 1 replicas have acknowledged the write"
        )
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (3, text)
        result = keys("rotate", record.id, "--overlap", "0s", "--print-key", BLNK_GATEWAY_KEYS__REPLICAS="1")
        new: KeyRecord = stored(lambda store: store.get_by_digest(digest(result.stdout.removesuffix("\n"))))
        assert (result.exit_code, new.replaces) == (3, record.id)

    def test_a_key_that_may_be_stored_is_printed(self, keys: Keys, stored: Stored, mute_url: str) -> None:
        result = keys(*CREATE, "--print-key", BLNK_GATEWAY_KEYS__STORE=mute_url)
        record: KeyRecord = stored(
            lambda store: store.get_by_digest(digest(result.stdout.removesuffix("\n")))
        )
        doubt = f"it is not known whether {record.id} is stored: Redis does not answer in time"
        text = f"{doubt}; look at 'blnk-gateway keys show {record.id}'"
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (3, text)

    @pytest.mark.parametrize(
        ("signals", "code"),
        [([signal.SIGTERM], 3), ([signal.SIGINT], 3), ([signal.SIGTERM] * 2, 143), ([signal.SIGINT] * 2, 1)],
        ids=["SIGTERM", "Ctrl-C", "SIGTERM twice", "Ctrl-C twice"],
    )
    def test_the_first_signal_waits_and_the_second_ends_the_command(
        self,
        redis_server: RedisServer,
        redis_url: str,
        tmp_path: Path,
        signals: list[signal.Signals],
        code: int,
    ) -> None:
        """The second signal ends the command, and no file without a key is left."""
        file = tmp_path / "acme.key"

        def ended() -> tuple[bool, int]:
            """Return whether the first signal was held back, and the exit code."""
            with subprocess.Popen(
                [*COMMAND, *CREATE, "--out", str(file)],
                env=environment(redis_url),
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                assert process.stderr is not None
                until(file.exists, "a file")
                process.send_signal(signals[0])
                held_back = process.stderr.readline() == HELD_BACK
                for number in signals[1:]:
                    process.send_signal(number)
                try:
                    return held_back, process.wait(timeout=20)
                finally:
                    process.kill()

        with redis_server.stalled():
            # The command gives up on Redis after 1.5 s, and on a slow machine the signal may come later.
            outcomes = [ended() for _ in range(3)]
        assert (True, code) in outcomes
        assert {ended_with for _, ended_with in outcomes} <= {code, 3}
        assert not file.exists()

    def test_a_file_without_a_key_is_removed(self, keys: Keys, tmp_path: Path, unused_tcp_port: int) -> None:
        file = tmp_path / "acme.key"
        url = f"redis://127.0.0.1:{unused_tcp_port}/0"
        assert keys(*CREATE, "--out", str(file), BLNK_GATEWAY_KEYS__STORE=url).exit_code == 3
        assert not file.exists()

    def test_json_has_the_key_only_with_print_key(self, keys: Keys, tmp_path: Path) -> None:
        printed = shown(keys(*CREATE, "--print-key", "--output", "json"))
        filed = shown(keys(*CREATE, "--out", str(tmp_path / "k"), "--output", "json"))
        assert is_key(printed["key"])
        assert "key" not in filed
        assert (printed["owner"], printed["state"]) == ("acme", "live")

    @pytest.mark.parametrize(
        "wrong",
        [
            ("--expires", "90"),
            ("--expires", "tomorrow"),
            ("--expires", "2020-01-01T00:00:00Z"),
            ("--expires", "999999w"),
            ("--expires", "9999-12-31T23:59:59-01:00"),
            ("--expires", "0s"),
            ("--scopes", "ledgers"),
            ("--scopes", ""),
            ("--scopes", "a:b:c"),
            ("--scopes", "ledgers:read,"),
            ("--scopes", "led*:read"),
            ("--scopes", "ledgers:reed"),
            ("--owner", ""),
            ("--owner", " "),
            ("--owner", "acme "),
            ("--owner", "acme\n"),
            ("--owner", "a\u2028b"),
            ("--owner", "a" * 257),
            ("--name", "a\x1b[2J"),
            ("--name", "a" * 257),
            ("--out", "-"),
        ],
    )
    def test_a_wrong_option_is_wrong_usage(self, keys: Keys, wrong: tuple[str, str]) -> None:
        """The error has one form, also for an option that only the present time makes wrong."""
        result = keys(*CREATE, "--print-key", *wrong)
        assert (result.exit_code, result.stdout) == (2, "")
        lines = result.stderr.splitlines()
        assert lines[:3] == [
            "Usage: cli keys create [OPTIONS]",
            "Try 'cli keys create --help' for help.",
            "",
        ]
        assert lines[3].startswith(f"Error: Invalid value for '{wrong[0]}': ")

    def test_a_scope_is_stored_once(self, keys: Keys, stored: Stored) -> None:
        keys(*CREATE, "--scopes", "ledgers:read, ledgers:read,ledgers:write", "--print-key")
        (record,) = stored(lambda store: store.owned("acme"))
        assert record.scopes == ("ledgers:read", "ledgers:write")

    def test_beyond_the_quota_no_key_is_created(self, keys: Keys, stored: Stored) -> None:
        """A rotation is allowed all the same."""
        stored(lambda store: store.add(RECORD))
        text = "Too many API keys: live keys of this owner: 1, at most 1 (keys.per_owner); revoke one first\n"
        quota = {"BLNK_GATEWAY_KEYS__PER_OWNER": "1"}
        assert outcome(keys(*CREATE, "--print-key", **quota)) == (1, "", text)
        assert keys("rotate", RECORD.id, "--print-key", **quota).exit_code == 0
        assert len(stored(lambda store: store.owned("acme"))) == 2

    def test_a_terminal_shows_the_key_once(self, redis_url: str) -> None:
        code, text = on_a_terminal(redis_url, *CREATE)
        assert code == 0
        assert len(re.findall(r"[A-Za-z0-9_-]{43}=", text)) == 1


# If the tests run in the background, Ctrl-C is ignored; this restores it.
_RESTORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
COMMAND = (sys.executable, "-c", f"{_RESTORE_CTRL_C}; from gateway.__main__ import main; main()", "keys")


def environment(redis_url: str) -> dict[str, str]:
    return os.environ | {"BLNK_GATEWAY_KEYS__STORE": redis_url}


def in_a_shell(redis_url: str, line: str) -> tuple[int, str, str]:
    """Run a shell line, with `{keys}` for the command; return the exit code and both streams."""
    command = ["bash", "-c", line.format(keys=shlex.join(COMMAND))]
    ended = subprocess.run(
        command, env=environment(redis_url), cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    return ended.returncode, ended.stdout, ended.stderr


def on_a_terminal(redis_url: str, *arguments: str, columns: int = 200, **environ: str) -> tuple[int, str]:
    """Run a command on a terminal; return the exit code and everything that the terminal shows."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        stdin=end,
        stdout=end,
        stderr=end,
        env=environment(redis_url) | {"COLUMNS": str(columns), "TERM": "xterm"} | environ,
    )
    os.close(end)
    text = b""
    try:
        while chunk := os.read(terminal, 65536):
            text += chunk
    except OSError:
        # Linux raises this error once the last writer has closed the terminal.
        pass
    os.close(terminal)
    return process.wait(timeout=20), text.decode()


class TestRotate:
    def test_the_new_key_is_the_old_ones_successor(self, keys: Keys, stored: Stored) -> None:
        terms = KeyTerms(rate=Rate(600, 60), certificate="0a" * 32)
        stored(lambda store: store.add(replace(RECORD, terms=terms)))
        result = keys("rotate", RECORD.id, "--overlap", "2h", "--reason", "yearly", "--print-key")
        new: KeyRecord = stored(lambda store: store.get_by_digest(digest(result.stdout.removesuffix("\n"))))
        old: KeyRecord = stored(lambda store: store.get(RECORD.id))
        assert result.exit_code == 0
        assert (new.owner, new.name, new.scopes, new.replaces) == ("acme", "n", RECORD.scopes, RECORD.id)
        assert new.terms == terms
        assert (
            abs(
                (new.expires_at.unix - new.created_at.unix)
                - (RECORD.expires_at.unix - RECORD.created_at.unix)
            )
            < 1
        )
        assert old.expires_at.unix - new.created_at.unix == 7200
        assert [(event.what, event.by, event.reason) for event in old.history] == [
            ("rotated", operator_name(), "yearly")
        ]

    def test_an_end_before_that_of_the_overlap_is_kept(self, keys: Keys, stored: Stored) -> None:
        soon = str(Instant.of(utc_now() + timedelta(hours=1)))
        stored(lambda store: store.add(replace(RECORD, expires_at=instant(soon))))
        assert keys("rotate", RECORD.id, "--expires", "1d", "--print-key").exit_code == 0
        old: KeyRecord = stored(lambda store: store.get(RECORD.id))
        assert str(old.expires_at) == soon

    def test_a_key_is_rotated_once(self, keys: Keys, stored: Stored) -> None:
        """A rotated key cannot be rotated again, but its successor can."""
        stored(lambda store: store.add(RECORD))
        assert keys("rotate", RECORD.id, "--print-key").exit_code == 0
        (successor,) = stored(lambda store: store.children(RECORD.id))
        text = f"{RECORD.id} was rotated already: rotate {successor.id}\n"
        assert outcome(keys("rotate", RECORD.id, "--print-key")) == (1, "", text)
        assert keys("show", RECORD.id).stdout.endswith(f"\nreplaced by  {successor.id}\n")
        revoked = keys("revoke", RECORD.id, "--descendants")
        assert outcome(revoked) == (
            0,
            f"{RECORD.id}\trevoked\n",
            f"its successor {successor.id} is live\n",
        )

    def test_a_second_rotation_names_no_revoked_successor(self, keys: Keys, stored: Stored) -> None:
        stored(lambda store: store.add(RECORD))
        assert keys("rotate", RECORD.id, "--print-key").exit_code == 0
        (successor,) = stored(lambda store: store.children(RECORD.id))
        stored(lambda store: revoke_key(store, successor.id, revocation(AT, "master")))
        text = f"{RECORD.id} was rotated already: its successor is revoked: create a new key\n"
        assert outcome(keys("rotate", RECORD.id, "--print-key")) == (1, "", text)

    def test_a_successor_survives_a_lost_response(
        self, keys: Keys, stored: Stored, mute_url: str, tmp_path: Path
    ) -> None:
        """The old key is about to end, so its owner needs the new one."""
        file = tmp_path / "new.key"
        stored(lambda store: store.add(RECORD))
        result = keys("rotate", RECORD.id, "--out", str(file), BLNK_GATEWAY_KEYS__STORE=mute_url)
        new: KeyRecord = stored(lambda store: store.get_by_digest(digest(file.read_text().strip())))
        doubt = f"it is not known whether {new.id} has replaced {RECORD.id}: Redis does not answer in time"
        text = f"{doubt}; look at 'blnk-gateway keys show {RECORD.id}'"
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (3, text)
        assert stored(lambda store: store.get(RECORD.id)).rotated

    def test_a_key_without_an_end_has_a_successor_without_one(self, keys: Keys, stored: Stored) -> None:
        stored(lambda store: store.add(replace(RECORD, expires_at=instant("9999-12-31T23:59:59Z"))))
        assert keys("rotate", RECORD.id, "--print-key").exit_code == 0
        (successor,) = stored(lambda store: store.children(RECORD.id))
        assert str(successor.expires_at) == "9999-12-31T23:59:59Z"

    def test_a_revoked_key_has_no_successor(self, keys: Keys, stored: Stored, tmp_path: Path) -> None:
        stored(lambda store: store.add(RECORD.as_revoked(revocation(AT, "master"))))
        file = tmp_path / "new.key"
        assert outcome(keys("rotate", RECORD.id, "--out", str(file))) == (1, "", f"{RECORD.id} is revoked\n")
        assert not file.exists()
        assert len(stored(lambda store: store.owned("acme"))) == 1

    def test_an_overlap_ends_within_the_years(self, keys: Keys, stored: Stored) -> None:
        stored(lambda store: store.add(RECORD))
        text = "Error: Invalid value for '--overlap': write a time before the year 10000 in UTC\n"
        result = keys("rotate", RECORD.id, "--overlap", "999999w", "--print-key")
        assert (result.exit_code, result.stderr.endswith(text)) == (2, True)
        assert stored(lambda store: store.owned("acme")) == [RECORD]


class TestChanges:
    def test_a_revocation_names_who_and_why(self, keys: Keys, stored: Stored) -> None:
        stored(lambda store: store.add(RECORD))
        assert outcome(keys("revoke", RECORD.id, "--reason", "stolen")) == (0, f"{RECORD.id}\trevoked\n", "")
        record: KeyRecord = stored(lambda store: store.get(RECORD.id))
        assert record.revocation is not None
        assert (record.revocation.by, record.revocation.reason) == (operator_name(), "stolen")
        when = f"{str(record.revocation.at)[:19]}Z"
        text = f"it was revoked before, {when} by {operator_name()}: the new reason is not recorded\n"
        again = keys("revoke", RECORD.id, "--reason", "again")
        assert outcome(again) == (0, f"{RECORD.id}\trevoked\n", text)
        assert keys("revoke", RECORD.id).stderr == ""
        assert stored(lambda store: store.get(RECORD.id)) == record

    @pytest.mark.parametrize("command", ["revoke", "disable"])
    def test_a_change_with_a_lost_response_may_have_been_applied(
        self, keys: Keys, stored: Stored, mute_url: str, command: str
    ) -> None:
        stored(lambda store: store.add(RECORD))
        code, out, text = outcome(keys(command, RECORD.id, BLNK_GATEWAY_KEYS__STORE=mute_url))
        assert (code, out) == (3, "")
        assert text.endswith(
            "): Redis does not answer in time; the change may have been applied; run the command again\n"
        )
        record: KeyRecord = stored(lambda store: store.get(RECORD.id))
        assert record.revoked or record.disabled

    @pytest.mark.parametrize("command", ["revoke", "disable"])
    def test_a_change_that_no_replica_acknowledged_is_applied(
        self, keys: Keys, stored: Stored, command: str
    ) -> None:
        stored(lambda store: store.add(RECORD))
        code, out, text = outcome(keys(command, RECORD.id, BLNK_GATEWAY_KEYS__REPLICAS="1"))
        assert (code, out) == (3, "")
        assert text.endswith(
            "): 0 of 1 replicas have acknowledged the write; "
            "the change was applied, but a failover may lose it; "
            "run the command again until it exits with 0\n"
        )
        record: KeyRecord = stored(lambda store: store.get(RECORD.id))
        assert record.revoked or record.disabled

    def test_descendants_are_revoked_too(self, keys: Keys, stored: Stored) -> None:
        stored(lambda store: store.add_all([RECORD, replace(OTHER, created_by=RECORD.id), GLOBEX]))
        result = keys("revoke", RECORD.id, "--descendants", "--output", "json")
        assert [(key["id"], key["state"]) for key in json.loads(result.stdout)] == [
            (RECORD.id, "revoked"),
            (OTHER.id, "revoked"),
        ]
        assert stored(lambda store: store.get(GLOBEX.id)) == GLOBEX

    def test_a_key_is_disabled_and_enabled(self, keys: Keys, stored: Stored) -> None:
        stored(lambda store: store.add(RECORD))
        disabled = (0, f"{RECORD.id}\tdisabled\n", "")
        assert outcome(keys("disable", RECORD.id, "--reason", "unpaid")) == disabled
        assert outcome(keys("disable", RECORD.id)) == disabled
        assert outcome(keys("enable", RECORD.id)) == (0, f"{RECORD.id}\tlive\n", "")
        record: KeyRecord = stored(lambda store: store.get(RECORD.id))
        assert [(event.what, event.reason) for event in record.history] == [
            ("disabled", "unpaid"),
            ("enabled", ""),
        ]

    @pytest.mark.parametrize("command", ["disable", "enable"])
    def test_a_revoked_key_stays_revoked(self, keys: Keys, stored: Stored, command: str) -> None:
        revoked = RECORD.as_revoked(revocation(AT, "master"))
        stored(lambda store: store.add(revoked))
        result = keys(command, RECORD.id)
        assert (result.exit_code, result.stderr) == (1, f"{RECORD.id} is revoked, and stays revoked\n")
        assert stored(lambda store: store.get(RECORD.id)) == revoked

    @pytest.mark.parametrize("prefix", ["", "blnk_live_"])
    @pytest.mark.parametrize("command", ["revoke", "disable", "enable", "show", "rotate", "update"])
    def test_a_key_that_is_given_as_an_id_is_not_printed(self, keys: Keys, command: str, prefix: str) -> None:
        """A key that is given as an id is not printed: terminals and CI logs keep what they show."""
        key = mint_key(os.urandom, prefix)
        result = keys(command, "--", key)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "this looks like a key: write its id, which `keys verify` prints" in result.stderr
        assert key not in result.stderr

    @pytest.mark.parametrize("command", ["revoke", "disable", "enable", "show", "rotate"])
    def test_an_unknown_id_is_a_failure(self, keys: Keys, command: str) -> None:
        more = ["--print-key"] if command == "rotate" else []
        assert outcome(keys(command, UNKNOWN, *more)) == (1, "", f"{UNKNOWN}: no such key\n")
        assert keys(command, "\x1b[2J", *more).stderr == "\\x1b[2J: no such key\n"


class TestReading:
    def test_a_rotated_key_is_listed_as_such(self, keys: Keys, stored: Stored) -> None:
        """A rotated key is live until its overlap has ended."""
        stored(lambda store: store.add(RECORD))
        keys("rotate", RECORD.id, "--print-key")
        states = {line.split("\t")[0]: line.split("\t")[4] for line in keys("list").stdout.splitlines()[1:]}
        assert states.pop(RECORD.id) == "rotated"
        assert list(states.values()) == ["live"]
        listed = json.loads(keys("list", "--output", "json").stdout)
        assert [(member["state"], member["rotated"]) for member in listed] == [
            ("live", False),
            ("live", True),
        ]

    def test_times_have_the_same_number_of_digits_everywhere(self, keys: Keys, stored: Stored) -> None:
        """In JSON, times have six decimals and are in UTC; for people they have none; the last year stays."""
        event = Event(instant("2026-01-01T00:00:00.5Z"), "disabled", "cli:ann")
        record = replace(
            RECORD,
            created_at=instant("2026-01-01T01:00:00.12345+01:00"),
            expires_at=instant("2999-01-02T03:04:05.123456789Z"),
            history=(event,),
        )
        stored(
            lambda store: store.add_all(
                [record, replace(OTHER, expires_at=instant("9999-12-31T23:59:59-01:00"))]
            )
        )
        members = shown(keys("show", RECORD.id, "--output", "json"))
        assert {
            name: members[name] for name in ("created_at", "expires_at", "last_used_at", "revoked_at")
        } == {
            "created_at": "2026-01-01T00:00:00.123450Z",
            "expires_at": "2999-01-02T03:04:05.123457Z",
            "last_used_at": None,
            "revoked_at": None,
        }
        assert members["history"][0]["at"] == "2026-01-01T00:00:00.500000Z"
        text = keys("show", RECORD.id).stdout
        assert "created      2026-01-01T00:00:00Z by master\nexpires      2999-01-02T03:04:05Z\n" in text
        assert "disabled     2026-01-01T00:00:00Z by cli:ann\n" in text
        assert "9999-12-31T23:59:59-01:00" in keys("show", OTHER.id, "--output", "json").stdout

    def test_a_list_on_a_pipe_is_lines_with_tabs(self, keys: Keys, stored: Stored) -> None:
        hostile = replace(GLOBEX, name="\x1b[2Jgone\n", scopes=("a:b", "c:d"))
        stored(lambda store: store.add_all([RECORD.as_revoked(revocation(AT, "master")), OTHER, hostile]))
        stored(lambda store: store.record_uses({OTHER.id: 1_800_000_000.0}))
        head = "id\towner\tname\tscopes\tstate\texpires\tlast used\n"
        lines = (
            f"{OTHER.id}\tacme\tn\tledgers:read\tlive\t2999-01-02T03:04:05Z\t2027-01-15T08:00:00Z\n",
            f"{RECORD.id}\tacme\tn\tledgers:read\trevoked\t2999-01-02T03:04:05Z\tnever\n",
        )
        assert outcome(keys("list", "--owner", "acme")) == (0, head + "".join(lines), "")
        everything = keys("list").stdout
        assert f"{GLOBEX.id}\tglobex\t\\x1b[2Jgone\\n\ta:b,c:d\tlive\t" in everything
        assert everything.count("\n") == 4
        assert outcome(keys("list", "--owner", "nobody")) == (0, head, "")

    @pytest.mark.parametrize("columns", [80, 160])
    def test_ids_in_a_table_are_whole(self, redis_url: str, stored: Stored, columns: int) -> None:
        """Long names, which clients choose, do not shorten the ids."""
        stored(lambda store: store.add_all([RECORD, replace(OTHER, owner="x" * 300, name="y" * 300)]))
        code, text = on_a_terminal(redis_url, "list", columns=columns)
        assert code == 0
        assert [key_id in text for key_id in (RECORD.id, OTHER.id)] == [True, True]
        assert max(map(len, re.sub(r"\x1b\[[0-9]*m", "", text).split("\r\n"))) <= columns

    @pytest.mark.parametrize("columns", [80, 139, 140])
    def test_missing_columns_are_named(self, redis_url: str, stored: Stored, columns: int) -> None:
        stored(lambda store: store.add(RECORD))
        _, text = on_a_terminal(redis_url, "list", columns=columns)
        note = "not shown: name, scopes, last used (widen to 140 columns, or --output json)"
        assert (note in text) is (columns < 140)

    def test_a_letter_that_the_terminal_cannot_show_is_escaped(self, redis_url: str, stored: Stored) -> None:
        stored(lambda store: store.add(replace(RECORD, owner="h\u00e9")))
        code, text = on_a_terminal(redis_url, "list", PYTHONIOENCODING="ascii")
        assert (code, "h\\xe9" in text) == (0, True)

    def test_a_list_on_a_terminal_is_a_table(self, redis_url: str, stored: Stored) -> None:
        stored(lambda store: store.add(replace(RECORD, name="[red]x[/red]\x1b[2J")))
        code, text = on_a_terminal(redis_url, "list", columns=160)
        assert code == 0
        assert "[red]x[/red]\\x1b[2J" in text
        assert "\x1b[2J" not in text
        assert "\t" not in text

    def test_a_list_on_a_narrow_terminal_is_lines(self, redis_url: str, stored: Stored) -> None:
        """Lines show the whole ids, which a narrow table would cut."""
        stored(lambda store: store.add(RECORD))
        code, text = on_a_terminal(redis_url, "list", columns=60)
        assert (code, f"{RECORD.id}\tacme\t" in text) == (0, True)

    def test_a_long_list_on_a_terminal_is_lines_too(self, redis_url: str, stored: Stored) -> None:
        """A table of 30,000 rows would take most of a minute."""
        many = [replace(RECORD, id=f"{RECORD.id[:-4]}{n:04}", digest=f"{n:064x}") for n in range(1001)]
        stored(lambda store: store.add_all(many))
        code, text = on_a_terminal(redis_url, "list", "--owner", "acme")
        assert (code, text.count("\tacme\t")) == (0, 1001)

    def test_show_prints_everything_about_a_revoked_key(self, keys: Keys, stored: Stored) -> None:
        record = RECORD.as_disabled(instant(AT), "cli:ann", "unpaid").as_revoked(
            revocation(AT, "cli:bob", "stolen")
        )
        stored(lambda store: store.add(record))
        text = (
            f"id           {RECORD.id}\nstate        revoked\nowner        acme\nname         n\n"
            "scopes       ledgers:read\ncreated      2026-01-01T00:00:00Z by master\n"
            "expires      2999-01-02T03:04:05Z\nlast used    never\n"
            f"revoked      {AT} by cli:bob: stolen\ndisabled     {AT} by cli:ann: unpaid\n"
        )
        assert outcome(keys("show", RECORD.id)) == (0, text, "")
        members = shown(keys("show", RECORD.id, "--output", "json"))
        assert (members["state"], members["revoked_by"]) == ("revoked", "cli:bob")

    def test_no_event_controls_the_terminal(self, keys: Keys, stored: Stored) -> None:
        """An import refuses such an event, but other programs may write to the store."""
        stored(lambda store: store.add(replace(RECORD, history=(Event(instant(AT), "\x1b[2J", "x"),))))
        assert "\n\\x1b[2J" in keys("show", RECORD.id).stdout

    @pytest.mark.parametrize("command", [("list",), ("show", PENDING.id), ("export",)])
    def test_no_command_reveals_the_key(self, keys: Keys, stored: Stored, command: tuple[str, ...]) -> None:
        stored(lambda store: store.add_all([PENDING, replace(RECORD, owner="initech")]))
        for more in ((), ("--output", "json")) if command != ("export",) else ((),):
            text = keys(*command, *more).stdout
            assert PENDING.id in text
            assert [word for word in (PENDING.bcrypt, PENDING.prefix, RECORD.digest) if word in text] == []

    def test_an_export_with_digests_can_be_imported(
        self, keys: Keys, stored: Stored, redis_server: RedisServer
    ) -> None:
        records = [
            RECORD.as_revoked(revocation(AT, "master")),
            OTHER.as_disabled(instant(AT), "cli:ann"),
            PENDING,
        ]
        stored(lambda store: store.add_all(records))
        exported = keys("export", "--digests")
        redis_server.command("FLUSHALL")
        assert outcome(keys("import", "-", stdin=exported.stdout)) == (
            0,
            "3 imported, 0 already in the store\n",
            "",
        )
        assert stored(lambda store: store.get(RECORD.id)) == records[0]
        assert stored(lambda store: store.get(OTHER.id)) == records[1]
        assert stored(lambda store: store.get(PENDING.id)) == PENDING


class TestVerify:
    @pytest.mark.parametrize(
        ("record", "state", "code"),
        [
            (RECORD, "live", 0),
            (RECORD.as_revoked(revocation(AT, "master")), "revoked", 1),
            (RECORD.as_disabled(instant(AT), "master"), "disabled", 1),
            (replace(RECORD, expires_at=instant(AT)), "expired", 1),
        ],
    )
    def test_verify_shows_the_owner(
        self, keys: Keys, stored: Stored, record: KeyRecord, state: str, code: int
    ) -> None:
        stored(lambda store: store.add(record))
        result = keys("verify", stdin="first\n")
        assert (result.exit_code, result.stderr) == (code, "")
        assert f"id           {RECORD.id}\nstate        {state}\nowner        acme\n" in result.stdout
        assert keys("verify", "--output", "json", stdin="first").exit_code == code

    def test_verify_shows_the_last_use(self, keys: Keys, stored: Stored) -> None:
        stored(lambda store: store.add(RECORD))
        stored(lambda store: store.record_uses({RECORD.id: 1_800_000_000.0}))
        assert "\nlast used    2027-01-15T08:00:00Z\n" in keys("verify", stdin="first").stdout
        changed = json.loads(keys("disable", RECORD.id, "--output", "json").stdout)
        assert changed[0]["last_used_at"] == "2027-01-15T08:00:00.000000Z"

    @pytest.mark.parametrize("cost", ["00", "31", "99"])
    def test_a_hash_that_is_too_expensive_matches_no_key(self, keys: Keys, stored: Stored, cost: str) -> None:
        """A gateway ignores such a hash too, and an import refuses it."""
        dear = PENDING.bcrypt[:4] + cost + PENDING.bcrypt[6:]
        stored(lambda store: store.add_all([replace(PENDING, bcrypt=dear)]))
        assert outcome(keys("verify", stdin="A" * 43 + "=")) == (1, "state        unknown\n", "")

    def test_an_unknown_key_is_a_failure(self, keys: Keys) -> None:
        assert outcome(keys("verify", stdin="nothing\n")) == (1, "state        unknown\n", "")
        argument = keys("verify", "--", "a-key-that-others-could-see")
        assert (argument.exit_code, argument.stdout) == (2, "")
        assert "Error: a key must not be an argument, which other users can see" in argument.stderr
        assert "a-key-that" not in argument.stderr
        assert outcome(keys("verify", "--output", "json", stdin="x")) == (1, '{"state":"unknown"}\n', "")
        assert outcome(keys("verify", stdin="")) == (
            2,
            "",
            "no key was given: type it, or send it to standard input\n",
        )

    def test_a_pending_key_is_verified_and_stays_pending(self, keys: Keys, stored: Stored) -> None:
        stored(lambda store: store.add_all([PENDING]))
        assert keys("verify", stdin="A" * 43 + "=").exit_code == 0
        assert keys("verify", stdin="A" * 42 + "B=").exit_code == 1
        assert stored(lambda store: store.get(PENDING.id)) == PENDING

    def test_a_key_is_not_accepted_as_an_argument(self, keys: Keys) -> None:
        assert keys("verify", "first").exit_code == 2


RESUME = "run the command again: keys that are imported already are left unchanged"


class TestImport:
    LINE = json.dumps(
        {
            "digest": RECORD.digest,
            "id": RECORD.id,
            "name": "n",
            "owner": "acme",
            "scopes": ["ledgers:read"],
            "expires_at": str(RECORD.expires_at),
            "created_at": str(RECORD.created_at),
        }
    )

    def test_a_file_of_digests_is_imported(self, keys: Keys, stored: Stored, tmp_path: Path) -> None:
        file = tmp_path / "keys.jsonl"
        file.write_text(self.LINE)
        assert outcome(keys("import", str(file), "--dry-run")) == (
            0,
            "1 would be imported, 0 already in the store\n",
            "",
        )
        assert stored(lambda store: store.get_by_digest(RECORD.digest)) is None
        assert shown(keys("import", str(file), "--output", "json")) == {
            "dry_run": False,
            "added": 1,
            "there": 0,
            "revoked": [],
            "conflicts": [],
            "unprefixed": [],
            "unusable": [],
        }
        assert stored(lambda store: store.get_by_digest(RECORD.digest)) == replace(
            RECORD, created_by=operator_name()
        )
        assert outcome(keys("import", str(file))) == (0, "0 imported, 1 already in the store\n", "")

    def test_a_file_with_a_bad_line_imports_nothing(self, keys: Keys, stored: Stored) -> None:
        result = keys("import", "-", stdin=f'{self.LINE}\n{{"key":"secret"}}\n')
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("-:2: a key does not belong here")
        assert "secret" not in result.stderr
        assert stored(lambda store: store.is_empty())

    def test_an_import_accepts_the_scopes_that_create_accepts(self, keys: Keys, stored: Stored) -> None:
        """The scopes of live keys must be known; --any-scopes accepts all that Core accepts."""
        odd = json.dumps({**json.loads(self.LINE), "scopes": ["ledgers:read", "ledger:raed"]})
        result = keys("import", "-", stdin=odd)
        text = "a scope is a resource of Core or *, and read, write, delete or *, as ledgers:read"
        assert outcome(result) == (
            1,
            "",
            f"-:1: scopes, item 2: {text}; --any-scopes takes it all the same\n"
            "wrong lines: 1; nothing was imported: correct them, then run the command again\n",
        )
        dead = json.dumps({**json.loads(odd), "revoked_at": AT})
        assert keys("import", "-", "--dry-run", stdin=dead).exit_code == 0
        assert keys("import", "-", "--any-scopes", stdin=odd).exit_code == 0
        assert stored(lambda store: store.get(RECORD.id)).scopes == ("ledgers:read", "ledger:raed")

    def test_a_failure_of_the_store_is_reported_with_advice(self, keys: Keys, unused_tcp_port: int) -> None:
        url = f"redis://127.0.0.1:{unused_tcp_port}/0"
        result = keys("import", "-", stdin=self.LINE, BLNK_GATEWAY_KEYS__STORE=url)
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr.endswith(f"; {RESUME}\n")

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
    def test_an_import_that_a_signal_ends_prints_the_same_advice(
        self, tmp_path: Path, number: signal.Signals, code: int
    ) -> None:
        file = tmp_path / "keys.jsonl"
        file.write_text(self.LINE)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
            command = [*COMMAND, "import", str(file)]
            with subprocess.Popen(
                command, env=environment(url), stderr=subprocess.PIPE, text=True
            ) as process:
                silent.settimeout(20)
                connection, _ = silent.accept()
                # Once the command has sent something, it is connected and waits for a response.
                assert connection.recv(1)
                process.send_signal(number)
                _, text = process.communicate(timeout=20)
                connection.close()
        text = text.removesuffix("\nAborted!\n")
        assert text.strip() == f"stopped before the end; {RESUME}"
        assert process.returncode == code

    def test_an_import_fails_until_a_replica_acknowledges_it(self, keys: Keys) -> None:
        """The import fails each time until a replica acknowledges it."""
        for _ in range(2):
            result = keys("import", "-", stdin=self.LINE, BLNK_GATEWAY_KEYS__REPLICAS="1")
            assert (result.exit_code, result.stdout) == (3, "")
            assert "0 of 1 replicas have acknowledged the write" in result.stderr
        assert outcome(keys("import", "-", stdin=self.LINE)) == (
            0,
            "0 imported, 1 already in the store\n",
            "",
        )

    def test_a_conflict_is_named(self, keys: Keys, stored: Stored) -> None:
        stored(lambda store: store.add(replace(RECORD, digest="0" * 64)))
        result = keys("import", "-", stdin=self.LINE)
        assert (result.exit_code, result.stdout) == (1, "0 imported, 0 already in the store\n")
        assert result.stderr == f"left out: 1 with the id or the digest of another key: {RECORD.id}\n"

    def test_keys_that_the_import_revokes_are_counted(self, keys: Keys, stored: Stored) -> None:
        stored(lambda store: store.add(RECORD))
        line = json.dumps({**json.loads(self.LINE), "revoked_at": AT})
        assert (
            keys("import", "-", stdin=line).stdout
            == "0 imported, 1 already in the store, 1 of them revoked\n"
        )

    @pytest.mark.parametrize("arguments", [("import",), ("import", "x", "--core"), ("import", "/absent")])
    def test_a_file_or_core_must_be_named(self, keys: Keys, arguments: tuple[str, ...]) -> None:
        assert keys(*arguments).exit_code == 2

    def test_the_database_of_core_must_be_named(self, keys: Keys) -> None:
        result = keys("import", "--core")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("keys.core_database is not set")

    def test_an_unreachable_database_is_a_dependency(self, keys: Keys, unused_tcp_port: int) -> None:
        url = f"postgres://u:secret@127.0.0.1:{unused_tcp_port}/blnk"
        result = keys("import", "--core", BLNK_GATEWAY_KEYS__CORE_DATABASE=url)
        text = f"keys.core_database: Core's database cannot be reached as keys.core_database says; {RESUME}\n"
        assert outcome(result) == (3, "", text)


class TestWithoutAFile:
    """Without a configuration file, the environment alone may name the store."""

    @pytest.fixture
    def bare(self, tmp_path: Path) -> Keys:
        """Return a function that runs `blnk-gateway keys ...` in a directory without a file."""

        def run(*arguments: str, **environ: str | None) -> Result:
            with contextlib.chdir(tmp_path):
                return CliRunner().invoke(cli, ["keys", *arguments], env=environ, catch_exceptions=False)

        return run

    def test_a_variable_names_the_store(self, bare: Keys, redis_url: str, stored: Stored) -> None:
        created = bare(*CREATE, "--print-key", BLNK_GATEWAY_KEYS__STORE=redis_url)
        assert (created.exit_code, is_key(created.stdout.strip())) == (0, True)
        assert len(stored(lambda store: store.owned("acme"))) == 1

    def test_a_problem_of_the_variable_is_printed(self, bare: Keys) -> None:
        result = bare("list", BLNK_GATEWAY_KEYS__STORE="http://127.0.0.1")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("BLNK_GATEWAY_KEYS__STORE: ")

    def test_a_named_file_must_exist(self, bare: Keys, redis_url: str) -> None:
        result = bare("list", "--config", "gateway.yaml", BLNK_GATEWAY_KEYS__STORE=redis_url)
        advice = "write one with 'blnk-gateway init', or name another with --config"
        text = f"gateway.yaml: cannot be read: No such file or directory; {advice}\n"
        assert outcome(result) == (2, "", text)

    def test_a_file_or_the_variable_is_needed(self, bare: Keys) -> None:
        result = bare("list", BLNK_GATEWAY_KEYS__STORE=None)
        assert (result.exit_code, result.stdout) == (2, "")


EVERY = [
    (*CREATE, "--print-key"),
    ("rotate", RECORD.id, "--print-key"),
    ("revoke", RECORD.id),
    ("revoke", RECORD.id, "--descendants"),
    ("disable", RECORD.id),
    ("enable", RECORD.id),
    ("list",),
    ("list", "--owner", "acme"),
    ("show", RECORD.id),
    ("verify",),
    ("export",),
    ("import", "-"),
    ("prune", "--dead-before", "1d", "--no-export"),
]


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_an_unreachable_store_is_a_dependency(
    keys: Keys, command: tuple[str, ...], unused_tcp_port: int
) -> None:
    url = f"redis://u:secret@127.0.0.1:{unused_tcp_port}/0"
    result = keys(*command, stdin=TestImport.LINE, BLNK_GATEWAY_KEYS__STORE=url)
    assert (result.exit_code, result.stdout) == (3, "")
    shown_url = f"redis://127.0.0.1:{unused_tcp_port}/0"
    assert result.stderr.startswith(
        f"keys.store ({shown_url}): Redis cannot be reached: connection refused; "
    )
    assert "secret" not in result.stderr


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_the_memory_of_another_process_is_wrong_usage(keys: Keys, command: tuple[str, ...]) -> None:
    text = "keys.store is memory://, which no other process can use: name a Redis there\n"
    result = keys(*command, stdin=TestImport.LINE, BLNK_GATEWAY_KEYS__STORE="memory://")
    assert outcome(result) == (2, "", text)


def test_a_store_url_with_an_unset_variable_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    text = (ROOT / "gateway.yaml").read_text()
    file.write_text(re.sub(r"store: redis://\S+", "store: redis://:${ABSENT_PASSWORD}@127.0.0.1/0", text))
    result = CliRunner().invoke(cli, ["keys", "list", "--config", str(file)], env={})
    expected = f"{file}: keys.store names a variable that is not set in the environment\n"
    assert outcome(result) == (1, "", expected)


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_with_core_as_the_authority_its_table_is_needed(keys: Keys, command: tuple[str, ...]) -> None:
    """Commands that change keys in Core need the master key too."""
    environ = {
        "BLNK_GATEWAY_KEYS__AUTHORITY": "core",
        "BLNK_GATEWAY_KEYS__CORE_DATABASE": "postgres://reader@127.0.0.1:1/blnk",
    }
    result = keys(*command, stdin=TestImport.LINE, **environ)
    if command[0] in ("create", "rotate", "revoke"):
        assert result.exit_code == 1
        assert "BLNK_MASTER_KEY" in result.stderr
    elif command[0] == "import":
        text = f"{SHIPPED}: keys.authority is core: the keys are in Core's table, so none can be imported\n"
        assert outcome(result) == (2, "", text)
    elif command[0] == "verify":
        assert outcome(result) == (1, "state        unknown\n", "")
    else:
        assert (result.exit_code, result.stdout) == (3, "")
        reason = "Core's database cannot be reached as keys.core_database says"
        advice = "correct this, then run the command again"
        assert result.stderr == f"keys.core_database: {reason}; {advice}\n"


def test_a_key_in_the_store_is_disabled_without_core(keys: Keys, stored: Stored) -> None:
    stored(lambda store: store.add(RECORD))
    environ = {
        "BLNK_GATEWAY_KEYS__AUTHORITY": "core",
        "BLNK_GATEWAY_KEYS__CORE_DATABASE": "postgres://reader@127.0.0.1:1/blnk",
    }
    assert outcome(keys("disable", RECORD.id, **environ)) == (0, f"{RECORD.id}\tdisabled\n", "")


@pytest.mark.parametrize("command", sorted({command[0] for command in EVERY}))
def test_the_help_of_each_command_has_examples_and_the_exit_codes(command: str) -> None:
    result = CliRunner().invoke(cli, ["keys", command, "--help"])
    assert result.exit_code == 0
    assert f"blnk-gateway keys {command}" in result.stdout
    assert "Examples:" in result.stdout
    assert "Exit codes" in result.stdout


def test_the_operator_is_the_user_of_the_process() -> None:
    """An environment variable does not change the name of the operator."""
    named = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout
    assert operator_name() == f"cli:{named.strip()}"
