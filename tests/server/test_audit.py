"""What a running gateway adds to the audit stream, and what it says of the stream."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from structlog.typing import FilteringBoundLogger

from gateway.admin.health import Health
from gateway.audit import AuditEntry, Author, Kind, Way
from gateway.audit.queue import MOST_WAITING
from gateway.audit.shipping import Unshipped
from gateway.cli import cli
from gateway.config.sections.operation import AuditConfig
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.redis.audit_reader import RedisAuditReader
from gateway.keys.redis.names import AUDIT
from gateway.keys.redis.store import KeptEntries, RedisKeyStore
from gateway.keys.store import KeyChange
from gateway.server.audit_recorder import AuditRecorder
from gateway.server.audit_watch import EVENT, AuditWatch
from gateway.server.audit_writer import LEFT, AuditWriter
from gateway.server.learned_changes import MOST_LINES, LearnedChanges
from gateway.telemetry import AccessEntry, Log
from tests.conftest import Start
from tests.keys.records import RECORD
from tests.keys.streams import fill_stream
from tests.raw_client import request
from tests.redis_server import RedisServer, start_redis
from tests.running import MASTER_KEY, Running, eventually

NOW = datetime(2026, 11, 28, 2, 0, tzinfo=UTC)
BODY = b'{"name":"n","owner":"acme","scopes":["ledgers:read"],"expires_at":"2999-01-01T00:00:00Z"}'


def members(entries: Sequence[AuditEntry]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = msgspec.to_builtins(entries)
    return found


async def entries_at_the_end(gateway: Running, store: MemoryKeyStore) -> list[dict[str, Any]]:
    """Close the gateway, and return all entries; denied attempts are written by then."""
    await gateway.gateway.close()
    return members(store.audit_entries)


class TestGateway:
    async def test_start_policy_and_stop_are_recorded_with_the_policy_and_the_process(
        self, start_gateway: Start
    ) -> None:
        store = MemoryKeyStore()
        gateway = await start_gateway(store=store)
        sha256 = gateway.gateway.config.sha256
        live, started, stopped = await entries_at_the_end(gateway, store)
        assert (live["kind"], live["policy_sha256"]) == ("policy_live", sha256)
        assert (started["kind"], started["policy_sha256"]) == ("gateway_started", sha256)
        assert started["version"]
        assert stopped["kind"] == "gateway_stopped"
        assert len({live["replica"], started["replica"], stopped["replica"]}) == 1

    async def test_a_change_over_http_names_the_caller_its_request_and_its_client(
        self, start_gateway: Start
    ) -> None:
        store = MemoryKeyStore()
        gateway = await start_gateway(store=store)
        caller = await gateway.mint("api-keys:*", "ledgers:read")
        created = await gateway.ask("POST", "/api-keys", key=caller.key, body=BODY)
        key_id = created.json()["api_key_id"]
        target = f"/api-keys/{key_id}?owner=acme"
        updated = await gateway.ask(
            "PATCH", target, key=MASTER_KEY, body=b'{"name":"payments","reason":"a better name"}'
        )
        revoked = await gateway.ask("DELETE", target, key=MASTER_KEY)
        told = [entry for entry in await entries_at_the_end(gateway, store) if entry.get("key_id") == key_id]
        said = [(entry["kind"], entry["by"], entry["way"], entry["client"]) for entry in told]
        assert said == [
            ("key_created", caller.id, "http", "127.0.0.1"),
            ("key_updated", "master", "http", "127.0.0.1"),
            ("key_revoked", "master", "http", "127.0.0.1"),
        ]
        ids = [response.value("x-request-id") for response in (created, updated, revoked)]
        assert [entry["request_id"] for entry in told] == ids
        assert (told[1]["before"], told[1]["after"]) == ({"name": "n"}, {"name": "payments"})
        assert told[1]["reason"] == "a better name"
        assert created.json()["key"] not in str(told)

    async def test_denied_attempts_on_keys_are_recorded_and_others_are_not(
        self, start_gateway: Start
    ) -> None:
        """The entry names the key, if it is known; other statuses and routes are no attempt on keys."""
        store = MemoryKeyStore()
        gateway = await start_gateway(store=store)
        poor = await gateway.mint("ledgers:read")
        dead = await gateway.mint("api-keys:*", revoked=True)
        rich, other = await gateway.mint("api-keys:*"), await gateway.mint("ledgers:read", owner="other")
        foreign = f"/api-keys/{other.id}"
        for key, method, target in (
            (None, "GET", "/api-keys?owner=acme"),
            (poor.key, "POST", "/api-keys"),
            (poor.key, "PUT", "/%61pi-keys/x"),
            (dead.key, "GET", "/api-keys"),
            (None, "GET", "/ledgers"),
            (MASTER_KEY, "DELETE", "/api-keys/x?owner=acme"),
            (poor.key, "GET", "/ledgers"),
            (rich.key, "DELETE", foreign),
            (rich.key, "PATCH", foreign),
            (MASTER_KEY, "PATCH", f"{foreign}?owner=acme"),
        ):
            body = b'{"name":"x"}' if method in ("POST", "PATCH") else None
            await gateway.ask(method, target, key=key, body=body)
        entries = await entries_at_the_end(gateway, store)
        told = [
            (entry.get("key_id", ""), entry["route"], entry["status"], entry["code"], entry["count"])
            for entry in entries
            if entry["kind"] == "access_denied"
        ]
        assert sorted(told) == sorted(
            [
                ("", "GET /api-keys", 401, "AUTH_MISSING_API_KEY", 1),
                (poor.id, "POST /api-keys", 403, "AUTH_INSUFFICIENT_PERMISSIONS", 1),
                (poor.id, "PUT /api-keys...", 403, "AUTH_INSUFFICIENT_PERMISSIONS", 1),
                (dead.id, "GET /api-keys", 401, "AUTH_EXPIRED_API_KEY", 1),
                (rich.id, "DELETE /api-keys/{id}", 404, "APIKEY_NOT_FOUND", 1),
                (rich.id, "PATCH /api-keys/{id}", 403, "AUTH_MASTER_KEY_REQUIRED", 1),
            ]
        )

    async def test_ten_thousand_denied_attempts_of_many_networks_make_a_few_entries(
        self, start_gateway: Start
    ) -> None:
        """A client without a key cannot fill the stream, nor trim what is in it."""
        store = MemoryKeyStore()
        gateway = await start_gateway(store=store, trusted_proxies=_loopback())
        async with await gateway.connect(keep=False) as client:
            for start in range(0, 10_000, 50):
                many = (
                    request("GET", "/api-keys", headers=[("X-Forwarded-For", f"198.51.{n // 250}.{n % 250}")])
                    for n in range(start, start + 50)
                )
                await client.send(b"".join(many))
                for _ in range(50):
                    assert (await client.response()).status == 401
        entries = await entries_at_the_end(gateway, store)
        denied = [entry for entry in entries if entry["kind"] == "access_denied"]
        assert len(denied) <= 22
        assert sum(entry["count"] for entry in denied) == 10_000

    @pytest.mark.redis
    async def test_another_replica_logs_what_was_changed_and_by_whom(
        self, start_gateway: Start, redis_url: str
    ) -> None:
        gateway = await start_gateway(store=RedisKeyStore(redis_url))
        other = RedisKeyStore(redis_url, author=Author("cli:ann", Way.CLI))
        await other.add(RECORD)
        await other.close()
        log = await gateway.logged("learned of a change of a key")
        (line,) = (json.loads(line) for line in log.splitlines() if "learned of a change" in line)
        assert {name: line[name] for name in ("key_id", "what", "by", "way")} == {
            "key_id": RECORD.id,
            "what": "key_created",
            "by": "cli:ann",
            "way": "cli",
        }

    @pytest.mark.redis
    async def test_what_happened_while_redis_was_away_is_written_when_it_is_back(
        self, start_gateway: Start, tmp_path: Path
    ) -> None:
        """The start of a gateway without its Redis is in the stream later, with its own time."""
        persists = ("--appendonly", "yes", "--appendfsync", "always")
        server = start_redis(tmp_path, *persists)
        server.kill()
        try:
            gateway = await start_gateway(store=RedisKeyStore(server.url))
            began = datetime.now(UTC)
            await asyncio.sleep(0.1)
            server = start_redis(tmp_path, *persists, port=server.port)
            reader = RedisAuditReader(server.url)
            while len((batch := await _patiently(reader)).entries) < 2:
                await asyncio.sleep(0.05)
            await reader.close()
            kinds = [json.loads(entry.text)["kind"] for entry in batch.entries]
            assert kinds == ["policy_live", "gateway_started"]
            started = datetime.fromisoformat(json.loads(batch.entries[1].text)["at"])
            assert began - timedelta(seconds=1) < started < began
            await gateway.gateway.close()
        finally:
            server.kill()


async def _patiently(reader: RedisAuditReader) -> Any:
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(StoreUnavailableError):
                return await reader.read("0-0")
            await asyncio.sleep(0.05)


def _loopback() -> Any:
    from gateway.config import values

    return (values.network("127.0.0.0/8"),)


def quiet() -> FilteringBoundLogger:
    """Return a log that nobody reads."""
    return Log(io.StringIO(), "json").events


class Stream:
    """A stream that fails until it is mended, and keeps what it gets."""

    def __init__(self) -> None:
        self.failing = True
        self.audited: dict[str, int] = {}
        self.entries: list[AuditEntry] = []
        self.behind = Unshipped("", 0, None)

    async def append_entries(self, entries: Sequence[AuditEntry]) -> None:
        if self.failing:
            raise StoreUnavailableError(reason="down")
        self.entries += entries

    async def unshipped(self) -> Unshipped:
        return self.behind


class TestWriter:
    async def test_entries_wait_for_the_store_and_are_written_in_order(self) -> None:
        stream, recorder = Stream(), AuditRecorder("host:1", lambda: NOW)
        recorder.policy_live("a")
        recorder.started("1.0", "a")
        writing = asyncio.create_task(AuditWriter(recorder, stream, quiet()).run())
        await asyncio.sleep(0.01)
        recorder.policy_refused("b", ["wrong"] * 9, "a")
        stream.failing = False
        await eventually(lambda: len(stream.entries) == 3, "three entries")
        writing.cancel()
        assert [entry.kind for entry in stream.entries] == [
            Kind.POLICY_LIVE,
            Kind.GATEWAY_STARTED,
            Kind.POLICY_REFUSED,
        ]
        assert stream.entries[2].problems == ("wrong",) * 5
        assert {entry.at for entry in stream.entries} == {"2026-11-28T02:00:00Z"}

    async def test_denied_attempts_become_entries_after_a_while(self) -> None:
        stream, recorder = Stream(), AuditRecorder("host:1", lambda: NOW)
        stream.failing = False
        writing = asyncio.create_task(AuditWriter(recorder, stream, quiet(), settle=0.05).run())
        for _ in range(3):
            recorder.refused(AccessEntry(time=0.0, status=401, code="C", method="GET", path="/api-keys"))
        await eventually(lambda: bool(stream.entries), "an entry")
        writing.cancel()
        assert [entry.count for entry in stream.entries] == [3]

    def test_made_up_methods_are_one_kind(self) -> None:
        """Otherwise one client could use up all the kinds, and hide the attempts of others."""
        recorder = AuditRecorder("host:1", lambda: NOW)
        for method in ("GET", *(f"M{number}" for number in range(100))):
            recorder.refused(
                AccessEntry(time=0.0, status=403, code="C", method=method, path="/api-keys", key_id="k")
            )
        recorder.settle_denials()
        told = [(entry.route, entry.count) for entry in recorder.queue.first(9)]
        assert told == [("GET /api-keys...", 1), ("other /api-keys...", 100)]

    async def test_a_store_that_is_away_does_not_hold_up_the_end_and_the_log_has_what_is_left(self) -> None:
        recorder, log = AuditRecorder("host:1", lambda: NOW), io.StringIO()
        recorder.policy_live("a")
        recorder.started("1.0", "a")
        recorder.stopped(0)
        for _ in range(MOST_WAITING):
            recorder.policy_live("b")
        await AuditWriter(recorder, Stream(), Log(log, "json").events).finish()
        said = json.loads(log.getvalue())
        assert {name: said[name] for name in ("level", "event", "count")} == {
            "level": "warning", "event": LEFT, "count": MOST_WAITING + 3,
        }  # fmt: skip
        kinds = {name: said[name] for name in Kind if name in said}
        assert kinds == {
            "policy_live": MOST_WAITING - 2, "gateway_started": 1, "gateway_stopped": 1, "entries_lost": 3,
        }  # fmt: skip

    async def test_an_end_that_leaves_nothing_logs_nothing(self) -> None:
        recorder, stream, log = AuditRecorder("host:1", lambda: NOW), Stream(), io.StringIO()
        stream.failing = False
        recorder.policy_live("a")
        await AuditWriter(recorder, stream, Log(log, "json").events).finish()
        assert (len(stream.entries), log.getvalue()) == (1, "")


class Watched:
    """A watch over a stream whose shippers a test sets."""

    def __init__(self, **settings: Any) -> None:
        self.stream, self.health, self._log = Stream(), Health(version="1"), io.StringIO()
        self.watch = AuditWatch(
            self.stream, lambda: AuditConfig(**settings), Log(self._log, "json").events, self.health
        )

    async def sees(self, shipper: str, entries: int) -> list[str]:
        """Let the watch look once; return the warnings of health."""
        self.stream.behind = Unshipped(shipper, entries, 1.0)
        looking = asyncio.create_task(self.watch.run())
        await eventually(lambda: self.watch.unshipped == self.stream.behind, "a look")
        looking.cancel()
        return list(self.health.warnings)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.getvalue().splitlines()]


class TestWatch:
    async def test_a_shipper_that_is_late_is_reported_before_anything_is_trimmed(self) -> None:
        """The warning comes at 80 % of what is kept, is logged once, and ends below 70 %."""
        watched = Watched(kept=1000)
        assert await watched.sees("siem", 800) == []
        (warning,) = await watched.sees("siem", 801)
        assert warning.startswith("audit: the shipper siem is behind by more than 80% of audit.kept")
        assert await watched.sees("siem", 750) == [warning]
        assert await watched.sees("siem", 700) == []
        (event,) = watched.events
        assert (event["event"], event["shipper"], event["unshipped"], event["kept"]) == (
            EVENT,
            "siem",
            801,
            1000,
        )

    async def test_a_stream_that_nobody_ships_is_reported_too(self) -> None:
        (warning,) = await Watched(kept=1000).sees("", 900)
        assert warning.startswith("audit: no shipper prints the audit stream")

    async def test_whoever_does_not_ship_can_say_so(self) -> None:
        assert await Watched(kept=1000, unshipped="drop").sees("", 5000) == []

    @pytest.mark.redis
    async def test_a_stream_in_redis_is_seen_to_be_trimmed_soon(
        self, start_gateway: Start, redis_url: str
    ) -> None:
        """Health, log and metrics of a running gateway show it."""
        store = RedisKeyStore(redis_url, kept=KeptEntries(audit=lambda: 1000))
        await store.append_entries([AuditEntry(kind=Kind.POLICY_LIVE)] * 850)
        gateway = await start_gateway(store=store, audit={"kept": 1000})
        await gateway.logged(EVENT)
        (warning,) = [text for text in gateway.gateway.health.warnings if text.startswith("audit: ")]
        assert "no shipper" in warning
        page, _ = gateway.gateway.metrics.exposition("")
        (value,) = [
            line for line in page.decode().splitlines() if line.startswith("blnk_gateway_audit_unshipped_e")
        ]
        assert float(value.split()[1]) >= 850
        assert "\nblnk_gateway_audit_trims_unshipped 1.0\n" in page.decode()


class TestLearned:
    def test_many_changes_that_are_read_at_once_are_one_line(self) -> None:
        """An import of many keys does not fill the log of every replica."""
        log = io.StringIO()
        one = KeyChange("d", "api_key_1", revoked=False, what="key_created", by="cli:ann", way="import")
        LearnedChanges(Log(log, "json").events).take([one] * 1000)
        lines = [json.loads(line) for line in log.getvalue().splitlines()]
        assert len(lines) == MOST_LINES + 1
        assert (lines[-1]["count"], lines[-1]["key_created"]) == (1000 - MOST_LINES,) * 2

    def test_a_change_of_an_older_version_says_nothing(self) -> None:
        log = io.StringIO()
        LearnedChanges(Log(log, "json").events).take([KeyChange("d", "api_key_1", revoked=True)])
        assert log.getvalue() == ""


@pytest.mark.redis
class TestRefusedStart:
    @pytest.mark.parametrize("in_file", [True, False])
    async def test_a_file_that_is_refused_at_the_start_is_recorded(
        self, redis_url: str, tmp_path: Path, in_file: bool
    ) -> None:
        """The store is that of the file, or of the environment if the file cannot be read so far."""
        file = tmp_path / "gateway.yaml"
        broken = "listen: nowhere\n" if in_file else "listen: [\n"
        file.write_text(f"{broken}keys: {{store: {redis_url}}}\n" if in_file else broken)
        variables = {} if in_file else {"BLNK_GATEWAY_KEYS__STORE": redis_url}
        ended = await asyncio.to_thread(
            CliRunner().invoke, cli, ["serve", "--config", str(file)], env=variables, catch_exceptions=False
        )
        assert ended.exit_code == 1
        reader = RedisAuditReader(redis_url)
        (entry,) = (await reader.read("0-0")).entries
        await reader.close()
        told = json.loads(entry.text)
        assert told["kind"] == "policy_refused"
        assert told["refused_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert all("gateway.yaml:" in problem for problem in told["problems"])
        assert redis_url not in ended.stderr

    async def test_a_refused_start_trims_nothing(
        self, redis_server: RedisServer, redis_url: str, tmp_path: Path
    ) -> None:
        """`audit.kept` may be more than the default; whoever could not read the file does not know."""
        fill_stream(redis_server, 100_500)
        file = tmp_path / "gateway.yaml"
        file.write_text(f"listen: nowhere\nkeys: {{store: {redis_url}}}\n")
        await asyncio.to_thread(CliRunner().invoke, cli, ["serve", "--config", str(file)])
        assert redis_server.command("XLEN", AUDIT) == b":100501\r\n"

    async def test_a_store_that_is_away_does_not_hold_up_the_refusal(self, tmp_path: Path) -> None:
        file = tmp_path / "gateway.yaml"
        file.write_text("listen: nowhere\nkeys: {store: 'redis://127.0.0.1:1/0'}\n")
        ended = await asyncio.to_thread(CliRunner().invoke, cli, ["serve", "--config", str(file)])
        assert ended.exit_code == 1
        assert ended.stderr.startswith(f"{file}:1: listen: ")
