"""`blnk-gateway audit` against a real Redis: what it prints, and how a shipper resumes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.audit import AuditEntry, Author, Kind, Way
from gateway.audit.shipping import Unshipped
from gateway.cli import cli
from gateway.cli.keys.operator import operator_name
from gateway.errors import GatewayError
from gateway.keys.record import KeyRecord
from gateway.keys.redis.names import AUDIT, AUDIT_COUNTS, audit_position_name
from gateway.keys.redis.store import KeptEntries, RedisKeyStore
from gateway.keys.revocation import revoke_key
from gateway.keys.store import KeyStore
from tests import redis_acl
from tests.conftest import SHIPPED, Keys, Stored
from tests.keys.records import GLOBEX, OTHER, RECORD, revocation
from tests.keys.redis_setups import replicated, sentinels, until
from tests.keys.streams import fill_stream
from tests.redis_server import RedisServer, start_redis
from tests.running import ROOT

pytestmark = pytest.mark.redis

ANN = Author("cli:ann", Way.CLI)
AT = "2026-02-01T00:00:00Z"
COMMAND = (sys.executable, "-m", "gateway", "audit")
PATIENCE = 20.0
PERSISTS = ("--appendonly", "yes", "--appendfsync", "always")

Audit = Callable[..., Result]


@pytest.fixture
def audit(redis_url: str) -> Audit:
    """Return a function that runs `blnk-gateway audit ...` on an empty store."""

    def run(*arguments: str, **environ: str) -> Result:
        given = {"BLNK_GATEWAY_KEYS__STORE": redis_url, **environ}
        return CliRunner().invoke(
            cli, ["audit", *arguments, "--config", SHIPPED], env=given, catch_exceptions=False
        )

    return run


async def change(store: KeyStore) -> None:
    """Make three entries, about two owners."""
    ann = store.acting_as(ANN)
    await ann.add(RECORD)
    await ann.add(GLOBEX)
    await revoke_key(ann, RECORD.id, revocation(AT, "cli:ann", "laptop stolen"))


def printed(text: str | bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def kinds(text: str | bytes) -> list[tuple[str, str]]:
    return [(entry["kind"], entry["key_id"]) for entry in printed(text)]


CREATED, CREATED_OTHER, REVOKED = (
    ("key_created", RECORD.id),
    ("key_created", GLOBEX.id),
    ("key_revoked", RECORD.id),
)


class TestPrint:
    def test_each_entry_is_a_line_of_json_with_its_id_and_time_first(
        self, audit: Audit, stored: Stored
    ) -> None:
        stored(change)
        result = audit()
        assert (result.exit_code, kinds(result.stdout)) == (0, [CREATED, CREATED_OTHER, REVOKED])
        last = printed(result.stdout)[-1]
        assert list(last)[:3] == ["id", "at", "kind"]
        assert last["at"].endswith("Z")
        del last["id"], last["at"]
        assert last == {
            "kind": "key_revoked",
            "by": "cli:ann",
            "way": "cli",
            "reason": "laptop stolen",
            "key_id": RECORD.id,
            "owner": "acme",
            "after": {"revoked_at": AT, "revoked_by": "cli:ann", "revoked_reason": "laptop stolen"},
        }

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (["--key", RECORD.id], [CREATED, REVOKED]),
            (["--owner", "globex"], [CREATED_OTHER]),
            (["--owner", "nobody"], []),
            (["--since", "1h"], [CREATED, CREATED_OTHER, REVOKED]),
            (["--since", "0s"], []),
        ],
    )
    def test_entries_are_selected(
        self, audit: Audit, stored: Stored, options: Sequence[str], expected: list[tuple[str, str]]
    ) -> None:
        stored(change)
        time.sleep(0.005)  # an age of 0s begins now, and the ids of entries have milliseconds
        assert kinds(audit(*options).stdout) == expected

    def test_commands_that_change_keys_are_recorded_with_who_ran_them(self, audit: Audit, keys: Keys) -> None:
        keys("create", "--owner", "acme", "--scopes", "ledgers:read", "--expires", "1d", "--print-key")
        (key_id,) = (entry["key_id"] for entry in printed(audit().stdout))
        keys("update", key_id, "--name", "payments", "--reason", "a better name")
        keys("disable", key_id)
        keys("enable", key_id)
        keys("rotate", key_id, "--print-key")
        keys("revoke", "--owner", "acme", "--yes", "--reason", "left")
        told = [
            (entry["kind"], entry["by"], entry["way"], entry.get("reason", ""))
            for entry in printed(audit("--key", key_id).stdout)
        ]
        by = (operator_name(), "cli")
        assert told == [
            ("key_created", *by, ""),
            ("key_updated", *by, "a better name"),
            ("key_disabled", *by, ""),
            ("key_enabled", *by, ""),
            ("key_rotated", *by, ""),
            ("key_revoked", *by, "left"),
        ]

    def test_after_an_id_only_later_ones_are_printed(self, audit: Audit, stored: Stored) -> None:
        stored(change)
        first = printed(audit().stdout)[0]["id"]
        assert kinds(audit("--after", first).stdout) == [CREATED_OTHER, REVOKED]

    def test_a_table_has_a_line_for_each_entry_and_controls_no_terminal(
        self, audit: Audit, stored: Stored
    ) -> None:
        entry = AuditEntry(kind=Kind.ACCESS_DENIED, replica="r", owner="\x1b[2J\n", count=3, status=401)
        stored(lambda store: store.append_entries([entry]))
        (line,) = audit("--output", "table").stdout.splitlines()
        assert line.split()[1:] == ["access_denied", "r", "owner=\\x1b[2J\\n", "status=401", "count=3"]

    def test_an_entry_of_a_newer_version_is_printed_whole(
        self, audit: Audit, redis_server: RedisServer
    ) -> None:
        redis_server.command("XADD", AUDIT, "7-0", "entry", '{"kind":"tide_turned","height":[1]}')
        redis_server.command("XADD", AUDIT, "8-0", "entry", "no JSON")
        assert printed(audit().stdout) == [
            {"id": "7-0", "at": "1970-01-01T00:00:00.007Z", "kind": "tide_turned", "height": [1]},
            {"id": "8-0", "at": "1970-01-01T00:00:00.008Z", "kind": "unreadable"},
        ]

    def test_a_stream_of_another_type_is_said_to_be_one(
        self, audit: Audit, redis_server: RedisServer
    ) -> None:
        redis_server.command("SET", AUDIT, "x")
        result = audit()
        assert (result.exit_code, result.stdout) == (3, "")
        assert "Redis holds a value of another type under one of the gateway's names" in result.stderr

    def test_an_entry_whose_id_is_no_time_has_none(self, audit: Audit, redis_server: RedisServer) -> None:
        redis_server.command("XADD", AUDIT, "18446744073709551615-1", "entry", '{"kind":"policy_live"}')
        assert printed(audit().stdout) == [
            {"id": "18446744073709551615-1", "at": "", "kind": "policy_live"},
        ]
        result = audit("--output", "table")
        assert (result.exit_code, result.stdout.split()) == (0, ["policy_live"])
        assert audit("--after", "18446744073709551615-0").stdout == audit().stdout
        assert audit("--after", "18446744073709551615-1").stdout == ""

    @pytest.mark.parametrize(
        "text",
        [
            "{}",
            '{"kind":"x","at":5}',
            '{"kind":[]}',
            '{"kind":"x","key_id":[]}',
            b'{"kind":"x","owner":"\xff"}',
            '{"kind":"\\ud800"}',
            '{"kind":"x","owner":' + "[" * 100_000,
        ],
        ids=["empty", "a number", "a list", "a listed id", "no UTF-8", "a surrogate", "nested"],
    )
    def test_an_entry_of_another_shape_ends_no_table(
        self, audit: Audit, redis_server: RedisServer, text: str | bytes
    ) -> None:
        redis_server.command("XADD", AUDIT, "7-0", "entry", text)
        result = audit("--output", "table")
        assert (result.exit_code, result.stdout.split()) == (0, ["1970-01-01T00:00:00", "unreadable"])

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            (["--since", "1h", "--after", "1-0"], "use --since or --after, not both"),
            (["--name", "siem"], "--name is for a shipper"),
            (["--after", "yesterday"], "write the id of an entry"),
            (["--after", "1764295200000-99999999999999999999"], "write the id of an entry"),
            (["--follow", "--name", "a b"], "write at most 64 letters"),
        ],
    )
    def test_a_wrong_use_is_named(self, audit: Audit, options: list[str], text: str) -> None:
        result = audit(*options)
        assert result.exit_code == 2
        assert text in result.stderr

    @pytest.mark.parametrize(
        ("environ", "trims"), [({}, False), ({"BLNK_GATEWAY_AUDIT__KEPT": "1000"}, True)]
    )
    def test_a_command_without_the_configuration_file_trims_nothing(
        self,
        redis_server: RedisServer,
        redis_url: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        environ: dict[str, str],
        trims: bool,
    ) -> None:
        """Only who knows `audit.kept` does: by the file, or by its variable."""
        fill_stream(redis_server, 100_500)
        monkeypatch.chdir(tmp_path)
        given = {"BLNK_GATEWAY_KEYS__STORE": redis_url, **environ}
        new_key = ("--owner", "acme", "--scopes", "ledgers:read", "--expires", "1d", "--print-key")
        created = CliRunner().invoke(cli, ["keys", "create", *new_key], env=given)
        assert created.exit_code == 0
        kept = int(redis_server.command("XLEN", AUDIT)[1:])
        assert kept < 100_500 if trims else kept == 100_501

    def test_keys_in_memory_have_no_stream_to_read(self, audit: Audit) -> None:
        result = audit(BLNK_GATEWAY_KEYS__STORE="memory://")
        text = "keys.store is memory://: its audit stream is in the gateway's process"
        assert (result.exit_code, result.stderr.partition(",")[0]) == (2, text)

    def test_a_redis_that_is_away_is_a_failed_dependency(self, audit: Audit) -> None:
        result = audit(BLNK_GATEWAY_KEYS__STORE="redis://127.0.0.1:1/0")
        assert result.exit_code == 3
        assert result.stderr.startswith("keys.store (redis://127.0.0.1:1/0): Redis cannot be reached")


async def append(entry: AuditEntry, store: KeyStore) -> None:
    await store.append_entries([entry])


class Shipper:
    """`audit --follow >> file`, as a process."""

    def __init__(self, url: str, file: Path, *options: str) -> None:
        self.file = file
        with file.open("ab") as end:
            self.process = subprocess.Popen(
                [*COMMAND, "--follow", *options],
                cwd=ROOT,
                env=os.environ | {"BLNK_GATEWAY_KEYS__STORE": url},
                stdout=end,
                stderr=subprocess.PIPE,
            )

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """Return the entries in the file once there are so many."""
        deadline = time.monotonic() + PATIENCE
        while len(found := self.file.read_bytes().splitlines()) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} entries"
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            time.sleep(0.02)
        return printed(self.file.read_bytes())

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code and what was said."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said.decode()


@contextlib.contextmanager
def shipping(url: str, file: Path, *options: str) -> Iterator[Shipper]:
    shipper = Shipper(url, file, *options)
    try:
        yield shipper
    finally:
        shipper.process.kill()
        shipper.process.communicate()


@contextlib.contextmanager
def piped(url: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`audit --follow` on a pipe, as a process."""
    process = subprocess.Popen(
        [*COMMAND, "--follow", *options],
        cwd=ROOT,
        env=os.environ | {"BLNK_GATEWAY_KEYS__STORE": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def unshipped(stored: Stored) -> Unshipped:
    found: Unshipped = stored(lambda store: store.unshipped())
    return found


class TestShip:
    def test_it_continues_where_it_was_ended(self, redis_url: str, stored: Stored, tmp_path: Path) -> None:
        """Ended by a signal, it exits with 0, and the next one prints no entry twice and leaves none out."""
        stored(change)
        file = tmp_path / "audit.jsonl"
        with shipping(redis_url, file) as first:
            first.wait_for(3)
            assert first.end(signal.SIGTERM) == (0, "")
        assert unshipped(stored) == Unshipped("default", 0, None)
        stored(lambda store: store.add(OTHER))
        assert unshipped(stored).entries == 1
        with shipping(redis_url, file) as second:
            entries = second.wait_for(4)
            assert second.end(signal.SIGINT) == (0, "")
        assert kinds(file.read_bytes()) == [CREATED, CREATED_OTHER, REVOKED, ("key_created", OTHER.id)]
        assert sorted(entry["id"] for entry in entries) == [entry["id"] for entry in entries]

    @pytest.mark.parametrize("position", [b"\xff", b"yesterday", b"99999999999999999999-0", b""])
    def test_from_a_position_that_is_none_it_begins_with_the_first_entry(
        self, redis_url: str, redis_server: RedisServer, stored: Stored, tmp_path: Path, position: bytes
    ) -> None:
        """It prints entries twice, and leaves none out; counts that are none do not end it either."""
        stored(change)
        redis_server.command("SET", audit_position_name("default"), position)
        for counted in (b"written", b"shipped:default"):
            redis_server.command("ZADD", AUDIT_COUNTS, "inf", counted)
        assert unshipped(stored).entries == 0
        file = tmp_path / "audit.jsonl"
        with shipping(redis_url, file) as shipper:
            shipper.wait_for(3)
            assert shipper.end(signal.SIGTERM) == (0, "")
        assert kinds(file.read_bytes()) == [CREATED, CREATED_OTHER, REVOKED]

    def test_killed_it_prints_again_what_it_had_not_acknowledged(
        self, redis_url: str, stored: Stored, tmp_path: Path
    ) -> None:
        """Each entry is printed at least once, whenever the shipper is killed."""
        file = tmp_path / "audit.jsonl"
        made = 0
        for _ in range(3):
            with shipping(redis_url, file) as shipper:
                for _ in range(50):
                    made += 1
                    entry = AuditEntry(kind=Kind.POLICY_LIVE, replica=str(made))
                    stored(partial(append, entry))
                shipper.wait_for(made // 2)
                shipper.process.kill()
        with shipping(redis_url, file) as shipper:
            deadline = time.monotonic() + PATIENCE
            while unshipped(stored).entries:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            shipper.end()
        assert {int(entry["replica"]) for entry in printed(file.read_bytes())} == set(range(1, made + 1))

    def test_begun_later_it_stores_that_position_with_its_count(
        self, redis_url: str, stored: Stored, tmp_path: Path
    ) -> None:
        """Entries before --since count as shipped, and are not printed at the next start either."""
        stored(change)
        time.sleep(0.005)  # an age of 0s begins now, and the ids of entries have milliseconds
        file = tmp_path / "audit.jsonl"
        with shipping(redis_url, file, "--since", "0s") as first:
            until(lambda: unshipped(stored) == Unshipped("default", 0, None), "an acknowledgement")
            assert first.end() == (0, "")
        stored(lambda store: store.add(OTHER))
        with shipping(redis_url, file) as second:
            second.wait_for(1)
            assert second.end() == (0, "")
        assert kinds(file.read_bytes()) == [("key_created", OTHER.id)]

    def test_a_line_that_a_crash_has_cut_costs_no_other(
        self, redis_url: str, stored: Stored, tmp_path: Path
    ) -> None:
        file = tmp_path / "audit.jsonl"
        file.write_bytes(b'{"id":"17')
        stored(lambda store: store.add(RECORD))
        with shipping(redis_url, file) as shipper:
            deadline = time.monotonic() + PATIENCE
            while file.read_bytes().count(b"\n") < 2:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            shipper.end()
        cut, line = file.read_bytes().splitlines()
        assert (cut, kinds(line)) == (b'{"id":"17', [CREATED])

    def test_it_goes_on_when_redis_is_back(self, tmp_path: Path) -> None:
        server = start_redis(tmp_path, *PERSISTS)
        file = tmp_path / "audit.jsonl"

        def do(work: Callable[[KeyStore], Any]) -> None:
            async def run() -> None:
                store = RedisKeyStore(server.url)
                await work(store)
                await store.close()

            asyncio.run(run())

        try:
            do(change)
            with shipping(server.url, file) as shipper:
                shipper.wait_for(3)
                server.kill()
                assert shipper.process.stderr is not None
                assert shipper.process.stderr.readline().startswith(b"waiting for Redis: ")
                server = start_redis(tmp_path, *PERSISTS, port=server.port)
                do(lambda store: store.add(OTHER))
                shipper.wait_for(4)
                code, _ = shipper.end()
            assert code == 0
            assert kinds(file.read_bytes()) == [CREATED, CREATED_OTHER, REVOKED, ("key_created", OTHER.id)]
        finally:
            server.kill()

    def test_it_goes_on_at_the_new_primary_after_a_failover(self, tmp_path: Path) -> None:
        file = tmp_path / "audit.jsonl"

        def add(url: str, record: KeyRecord) -> None:
            async def run() -> None:
                store = RedisKeyStore(url)
                async with asyncio.timeout(PATIENCE):
                    while True:
                        with contextlib.suppress(GatewayError):
                            await store.add(record)
                            break
                        await asyncio.sleep(0.1)
                await store.close()

            asyncio.run(run())

        with replicated(tmp_path) as pair, sentinels(tmp_path, pair.primary.port) as watching:
            add(watching.url, RECORD)
            with shipping(watching.url, file) as shipper:
                shipper.wait_for(1)
                pair.primary.kill()
                until(pair.promoted, "a promotion")
                add(watching.url, OTHER)
                shipper.wait_for(2)
                assert shipper.end()[0] == 0
        assert kinds(file.read_bytes()) == [CREATED, ("key_created", OTHER.id)]

    def test_who_reads_a_pipe_without_a_name_is_no_shipper(
        self, redis_url: str, redis_server: RedisServer, stored: Stored
    ) -> None:
        """A person who runs `audit --follow | jq` makes no shipper skip entries."""
        stored(change)
        with piped(redis_url) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(3)]
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=PATIENCE) == 0
        assert kinds(b"".join(lines)) == [CREATED, CREATED_OTHER, REVOKED]
        assert redis_server.command("EXISTS", audit_position_name("default")) == b":0\r\n"

    def test_a_closed_pipe_is_its_usual_end(self, redis_url: str, stored: Stored) -> None:
        stored(change)
        process = subprocess.Popen(
            [*COMMAND, "--follow"],
            cwd=ROOT,
            env=os.environ | {"BLNK_GATEWAY_KEYS__STORE": redis_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        stored(lambda store: store.add(OTHER))
        assert process.wait(timeout=PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stderr.close()

    def test_what_nobody_has_read_from_the_pipe_is_not_acknowledged(
        self, redis_url: str, redis_server: RedisServer, stored: Stored
    ) -> None:
        """A reader that crashes loses the buffer of the pipe: the next one gets those entries again."""
        stored(change)
        with piped(redis_url, "--name", "siem") as crashed:
            assert crashed.stdout is not None
            assert select.select([crashed.stdout], [], [], PATIENCE)[0]
            crashed.send_signal(signal.SIGTERM)
            assert crashed.wait(timeout=PATIENCE) == 0
        assert redis_server.command("EXISTS", audit_position_name("siem")) == b":0\r\n"
        with piped(redis_url, "--name", "siem") as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(3)]
            until(lambda: unshipped(stored) == Unshipped("siem", 0, None), "an acknowledgement")
        assert kinds(b"".join(lines)) == [CREATED, CREATED_OTHER, REVOKED]

    def test_a_pipe_that_nobody_reads_does_not_outlive_a_signal(self, redis_url: str, stored: Stored) -> None:
        """The lines that the pipe could not take are not acknowledged."""
        many = [AuditEntry(kind=Kind.POLICY_LIVE, replica="r" * 200)] * 1000
        stored(lambda store: store.append_entries(many))
        process = subprocess.Popen(
            [*COMMAND, "--follow", "--name", "siem"],
            cwd=ROOT,
            env=os.environ | {"BLNK_GATEWAY_KEYS__STORE": redis_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.read(1) == b"{"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 0
        process.communicate()
        assert unshipped(stored).entries == 1000

    def test_each_name_has_a_position_of_its_own(
        self, redis_url: str, stored: Stored, audit: Audit, tmp_path: Path
    ) -> None:
        """The slowest shipper counts, until it is forgotten."""
        stored(lambda store: store.add(RECORD))
        with shipping(redis_url, tmp_path / "one", "--name", "one") as one:
            one.wait_for(1)
            one.end()
        stored(lambda store: store.add(OTHER))
        with shipping(redis_url, tmp_path / "two", "--name", "two") as two:
            two.wait_for(2)
            two.end()
        assert (unshipped(stored).shipper, unshipped(stored).entries) == ("one", 1)
        assert audit("--forget", "one").exit_code == 0
        assert unshipped(stored) == Unshipped("two", 0, None)
        again = audit("--forget", "one")
        assert (again.exit_code, again.stderr) == (1, "one: no such shipper\n")

    @pytest.mark.parametrize("options", [["--peek"], ["--owner", "acme"]])
    def test_who_does_not_print_everything_for_good_is_no_shipper(
        self, redis_url: str, redis_server: RedisServer, stored: Stored, tmp_path: Path, options: list[str]
    ) -> None:
        stored(change)
        with shipping(redis_url, tmp_path / "audit.jsonl", *options) as reader:
            reader.wait_for(2)
            reader.end()
        assert redis_server.command("EXISTS", audit_position_name("default")) == b":0\r\n"

    def test_entries_that_come_with_earlier_ids_after_a_failover_are_printed(
        self, redis_url: str, redis_server: RedisServer, stored: Stored, tmp_path: Path
    ) -> None:
        """The clock of the new primary may be behind that of the one that has lost the last entry."""
        file = tmp_path / "audit.jsonl"
        stored(lambda store: store.add(RECORD))
        with shipping(redis_url, file) as shipper:
            printed_last = shipper.wait_for(1)[0]["id"]
            earlier = f"{int(printed_last.partition('-')[0]) - 2000}-0"
            redis_server.command("DEL", AUDIT)
            redis_server.command("XADD", AUDIT, earlier, "entry", '{"kind":"policy_live"}')
            assert [entry["id"] for entry in shipper.wait_for(2)] == [printed_last, earlier]
            assert shipper.end()[0] == 0

    def test_it_says_that_entries_were_trimmed_before_it_printed_them(
        self, redis_url: str, stored: Stored, tmp_path: Path
    ) -> None:
        file = tmp_path / "audit.jsonl"
        stored(lambda store: store.add(RECORD))
        with shipping(redis_url, file) as first:
            position = first.wait_for(1)[0]["id"]
            first.end()

        async def flood(_: KeyStore) -> None:
            small = RedisKeyStore(redis_url, kept=KeptEntries(audit=lambda: 100))
            await small.append_entries([AuditEntry(kind=Kind.POLICY_LIVE)] * 1000)
            await small.close()

        stored(flood)
        with shipping(redis_url, file) as second:
            second.wait_for(50)
            _, said = second.end()
        assert said.startswith(f"the entry {position} is gone, and perhaps others that were not printed")

    def test_the_documented_users_can_ship_and_read_and_do_nothing_else(
        self, redis_server: RedisServer, stored: Stored, tmp_path: Path
    ) -> None:
        """A shipper can change nothing but its position, and a reader nothing at all."""
        text = (ROOT / "deploy/README.md").read_text()
        rules = {
            name: redis_acl.documented(text, name) for name in ("blnk-audit-shipper", "blnk-audit-reader")
        }
        for name, words in rules.items():
            assert redis_server.command("ACL", "SETUSER", name, "on", ">p", *words) == b"+OK\r\n"
        stored(change)
        place = f"127.0.0.1:{redis_server.port}/0"
        with shipping(f"redis://blnk-audit-shipper:p@{place}", tmp_path / "shipped") as shipper:
            shipper.wait_for(3)
            assert shipper.end() == (0, "")
        assert unshipped(stored) == Unshipped("default", 0, None)
        with shipping(f"redis://blnk-audit-reader:p@{place}", tmp_path / "read", "--peek") as reader:
            reader.wait_for(3)
            assert reader.end() == (0, "")
        for name in rules:
            for words in (["GET", "{blnk-gateway}:id:x"], ["XADD", AUDIT.decode(), "*", "a", "b"]):
                answer = redis_server.command("ACL", "DRYRUN", name, *words)
                assert b"has no permissions" in answer or b"NOPERM" in answer
