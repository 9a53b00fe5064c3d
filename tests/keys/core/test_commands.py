"""`blnk-gateway keys` with Core as the authority: a real Redis and PostgreSQL, and a stand-in for Core."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from gateway.cli.dependency_failures import UnfinishedError
from gateway.cli.keys.core_client import open_core_client
from gateway.cli.keys.core_writer import CoreKeyWriter
from gateway.cli.keys.operator import operator_name
from gateway.cli.keys.reader import CoreKeyReader
from gateway.cli.keys.rotation import Rotation
from gateway.gocompat.times import Instant
from gateway.keys.api.resource import ApiResponse
from gateway.keys.core.quota import CoreQuota
from gateway.keys.core.records import CoreRow, record_of
from gateway.keys.core.rows import CoreRows
from gateway.keys.core.writer import NOT_IN_CORE, CoreKeyWrites
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.minting import digest
from gateway.keys.quota import Quota
from gateway.keys.record import Change, KeyRecord
from gateway.keys.redis.names import key_name
from gateway.keys.redis.store import RedisKeyStore
from gateway.keys.revocation import revoke_key
from gateway.keys.store import LeftOut
from gateway.policy.terms import KeyTerms, Rate
from gateway.server.clocks import utc_now
from tests.core_stand_in import Behaviour, Exchange, StandInCore, abort, responding
from tests.core_stand_in.api_keys import CoreApi
from tests.keys.core.conftest import CoreKey, Postgres, Table, hashed
from tests.keys.mute import mute_after
from tests.keys.records import instant, revocation
from tests.redis_server import RedisServer
from tests.running import MASTER_KEY, ROOT, configured

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

CREATE = ("create", "--owner", "acme", "--scopes", "ledgers:read", "--expires", "90d", "--print-key")
AT = "2026-01-01T00:00:00Z"
CORRECT = "correct this, then run the command again"
UNKNOWN = "api_key_00000000-0000-4000-8000-0000000000ff"

Keys = Callable[..., Awaitable[Result]]


@pytest.fixture
def core(upstream: StandInCore, table: Table) -> CoreApi:
    api = CoreApi(table)
    upstream.behaviour = api
    return api


@pytest.fixture
def keys(redis_url: str, postgres: Postgres, core: CoreApi, upstream: StandInCore) -> Keys:
    """Return a function that runs `blnk-gateway keys ...` in a thread; the stand-in runs in this one."""
    given = {
        "BLNK_MASTER_KEY": MASTER_KEY,
        "BLNK_GATEWAY_KEYS__AUTHORITY": "core",
        "BLNK_GATEWAY_KEYS__CORE_DATABASE": postgres.url(),
        "BLNK_GATEWAY_KEYS__STORE": redis_url,
        "BLNK_GATEWAY_UPSTREAM__URL": upstream.url,
    }

    async def run(*arguments: str, stdin: str | None = None, **environ: str | None) -> Result:
        shipped = [] if "--config" in arguments else ["--config", str(ROOT / "gateway.yaml")]
        command = ["keys", *arguments, *shipped]
        return await asyncio.to_thread(
            CliRunner().invoke, cli, command, stdin, {**given, **environ}, catch_exceptions=False
        )

    return run


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisKeyStore]:
    opened = RedisKeyStore(redis_url)
    yield opened
    await opened.close()


def outcome(result: Result) -> tuple[int, str, str]:
    return result.exit_code, result.stdout, result.stderr


async def stored(store: RedisKeyStore, key_id: str) -> KeyRecord:
    record = await store.get(key_id)
    assert record is not None
    return record


async def revoked(table: Table, key_id: str) -> Any:
    return await table.value(CoreKey("", key_id, ""), "is_revoked")


class TestCreate:
    async def test_core_creates_the_key_and_the_store_knows_it(
        self, keys: Keys, core: CoreApi, upstream: StandInCore, store: RedisKeyStore
    ) -> None:
        """Standard output has the key alone, and the record says who created it."""
        result = await keys(*CREATE, "--name", "payments")
        key = result.stdout.removesuffix("\n")
        record = await store.get_by_digest(digest(key))
        assert result.exit_code == 0
        assert record is not None
        assert [record.id] == core.minted
        assert (record.owner, record.name, record.scopes) == ("acme", "payments", ("ledgers:read",))
        assert record.created_by == operator_name()
        (request,) = upstream.requests
        assert (request.method, request.target) == ("POST", "/api-keys")
        assert request.values("X-Blnk-Key") == [MASTER_KEY]
        assert key not in result.stderr
        assert MASTER_KEY not in result.stderr

    async def test_an_error_of_core_is_a_failed_dependency(
        self, keys: Keys, core: CoreApi, upstream: StandInCore, tmp_path: Path
    ) -> None:
        core.failing = [responding("500 Internal Server Error", b'{"error":"internal\\u001b server error"}')]
        file = tmp_path / "new.key"
        result = await keys(*CREATE[:-1], "--out", str(file))
        text = (
            f"upstream.url ({upstream.url}): Core responded with 500: internal\\x1b server error; {CORRECT}\n"
        )
        assert outcome(result) == (3, "", text)
        assert not file.exists()

    @pytest.mark.parametrize(
        "sent",
        [b"[]", b'{"error":"\xff"}', b'{"error":' + b"[" * 100_000],
        ids=["a list", "no UTF-8", "nested"],
    )
    async def test_a_response_without_a_key_is_reported(
        self, keys: Keys, core: CoreApi, upstream: StandInCore, sent: bytes
    ) -> None:
        core.failing = [responding("201 Created", sent)]
        reason = f"upstream.url ({upstream.url}): Core responded with 201: a body that cannot be read"
        advice = "Core may have created a key that nobody has: look at 'blnk-gateway keys list'"
        assert outcome(await keys(*CREATE)) == (3, "", f"{reason}; {advice}\n")

    async def test_a_core_that_does_not_respond_is_a_failed_dependency(
        self, keys: Keys, unused_tcp_port: int
    ) -> None:
        url = f"http://127.0.0.1:{unused_tcp_port}"
        result = await keys(*CREATE, BLNK_GATEWAY_UPSTREAM__URL=url)
        refused = f"connection refused (127.0.0.1:{unused_tcp_port})"
        assert outcome(result) == (3, "", f"upstream.url ({url}): {refused}; {CORRECT}\n")

    async def test_a_wrong_master_key_is_reported(self, keys: Keys, upstream: StandInCore) -> None:
        result = await keys(*CREATE, BLNK_MASTER_KEY="not-the-master-key-of-this-core")
        text = f"upstream.url ({upstream.url}): Core refuses the master key; {CORRECT}\n"
        assert outcome(result) == (3, "", text)

    async def test_the_master_key_is_needed(self, keys: Keys) -> None:
        result = await keys(*CREATE, BLNK_MASTER_KEY=None)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "BLNK_MASTER_KEY" in result.stderr

    async def test_the_master_key_may_come_from_its_file(self, keys: Keys, tmp_path: Path) -> None:
        file = tmp_path / "master_key"
        file.write_text(f"{MASTER_KEY}\n")
        given = {"BLNK_GATEWAY_UPSTREAM__MASTER_KEY_FILE": str(file), "BLNK_MASTER_KEY": None}
        assert (await keys(*CREATE, **given)).exit_code == 0
        file.unlink()
        assert (await keys(*CREATE, **given)).exit_code == 1

    async def test_a_store_that_is_down_leaves_no_key_behind(
        self, keys: Keys, core: CoreApi, unused_tcp_port: int
    ) -> None:
        """Core is not asked when the store is down."""
        url = f"redis://127.0.0.1:{unused_tcp_port}/0"
        result = await keys(*CREATE, BLNK_GATEWAY_KEYS__STORE=url)
        assert (result.exit_code, result.stdout) == (3, "")
        assert core.minted == []

    async def test_beyond_the_quota_core_is_not_asked(self, keys: Keys, table: Table, core: CoreApi) -> None:
        """The keys in Core's table count, and a rotation is allowed all the same."""
        key = await table.mint("ledgers:read")
        quota = {"BLNK_GATEWAY_KEYS__PER_OWNER": "1"}
        text = "Too many API keys: live keys of this owner: 1, at most 1 (keys.per_owner); revoke one first\n"
        assert outcome(await keys(*CREATE, **quota)) == (1, "", text)
        assert core.minted == []
        assert (await keys("rotate", key.id, "--print-key", **quota)).exit_code == 0
        assert len(core.minted) == 1


class TestRotate:
    async def test_the_end_of_the_overlap_is_stored_with_the_new_key(
        self, keys: Keys, core: CoreApi, table: Table, store: RedisKeyStore
    ) -> None:
        """A key that only Core knew gets a record with the end, and Core's row stays live until then."""
        old = await table.mint("ledgers:read", "balances:read")
        result = await keys("rotate", old.id, "--overlap", "2h", "--reason", "yearly", "--print-key")
        assert result.exit_code == 0, result.stderr
        new = await store.get_by_digest(digest(result.stdout.removesuffix("\n")))
        assert new is not None
        assert (new.owner, new.name, new.scopes) == ("acme", "n", ("ledgers:read", "balances:read"))
        assert (new.replaces, new.created_by, [new.id]) == (old.id, operator_name(), core.minted)
        record = await stored(store, old.id)
        (event,) = record.history
        assert (event.what, event.by, event.reason) == ("rotated", operator_name(), "yearly")
        assert record.pending
        assert record.expires_at.unix - event.at.unix == 7200
        assert await store.awaiting_core_revocation() == [record]
        assert not await revoked(table, old.id)

    async def test_a_successor_has_no_scope_that_core_has_taken_away(
        self, keys: Keys, table: Table, store: RedisKeyStore
    ) -> None:
        """The successor has the owner and the scopes in Core's row, though the store has more."""
        key = (await keys(*CREATE)).stdout.removesuffix("\n")
        record = await store.get_by_digest(digest(key))
        assert record is not None
        made = CoreKey(key, record.id, "acme")
        await table.change(made, "scopes = '{balances:read}', owner_id = 'globex'")
        result = await keys("rotate", made.id, "--print-key")
        new = await store.get_by_digest(digest(result.stdout.removesuffix("\n")))
        assert new is not None
        assert (new.owner, new.scopes) == ("globex", ("balances:read",))

    @pytest.mark.parametrize("where", ["core", "store"])
    async def test_a_revoked_key_has_no_successor(
        self, keys: Keys, core: CoreApi, table: Table, store: RedisKeyStore, where: str
    ) -> None:
        """Nothing is created, whether the key was revoked in Core or in the store."""
        old = await table.mint("ledgers:read")
        if where == "core":
            await table.change(old, "is_revoked = true")
        else:
            await keys("disable", old.id)
            await revoke_key(store, old.id, revocation("2026-02-01T00:00:00Z", "master"))
        assert outcome(await keys("rotate", old.id, "--print-key")) == (1, "", f"{old.id} is revoked\n")
        assert core.minted == []

    async def test_a_key_revoked_meanwhile_has_no_successor(
        self, keys: Keys, core: CoreApi, table: Table, store: RedisKeyStore
    ) -> None:
        """The key that Core has created by then is revoked, because nobody has it."""
        old = await table.mint("ledgers:read")

        async def revoked_first(exchange: Exchange) -> None:
            await revoke_key(store, old.id, revocation("2026-02-01T00:00:00Z", "master"))
            await core.respond(exchange)

        core.failing = [revoked_first]
        assert outcome(await keys("rotate", old.id, "--print-key")) == (1, "", f"{old.id} is revoked\n")
        assert [await revoked(table, key_id) for key_id in core.minted] == [True]

    async def test_a_successor_survives_a_lost_response(
        self, keys: Keys, table: Table, redis_url: str, store: RedisKeyStore
    ) -> None:
        """The old key is about to end, so its owner needs the new one."""
        old = await table.mint("ledgers:read")
        await keys("enable", old.id)
        with mute_after(b"EVAL", redis_url) as url:
            result = await keys("rotate", old.id, "--print-key", BLNK_GATEWAY_KEYS__STORE=url)
        key = result.stdout.removesuffix("\n")
        new = await store.get_by_digest(digest(key))
        assert new is not None
        assert (result.exit_code, new.replaces) == (3, old.id)
        assert f"it is not known whether {new.id} has replaced {old.id}" in result.stderr
        assert (await stored(store, old.id)).rotated
        assert not await revoked(table, new.id)

    async def test_a_rotation_that_is_cancelled_after_the_response_of_core_leaves_no_key(
        self, core: CoreApi, upstream: StandInCore, table: Table, redis_url: str, postgres: Postgres
    ) -> None:
        """A rotation that the second Ctrl-C ends after Core's response revokes the new key."""
        reached = asyncio.Event()

        class Stuck(RedisKeyStore):
            async def revise(self, *_: object, **__: object) -> KeyRecord | None:
                reached.set()
                await asyncio.Event().wait()
                return None

        old, rows, store = await table.mint("ledgers:read"), CoreRows(postgres.url()), Stuck(redis_url)
        config = configured(upstream, {})
        async with open_core_client(config) as ask:
            writes = CoreKeyWrites(ask, rows, store, list[KeyRecord]().append, utc_now)
            changes = CoreKeyWriter(store, writes, [], utc_now(), CoreQuota(rows, store, Quota))
            rotating = asyncio.ensure_future(
                changes.rotate(old.id, Rotation(Instant.of(utc_now()), None, ""))
            )
            await reached.wait()
            rotating.cancel()
            with pytest.raises(asyncio.CancelledError):
                await rotating
        assert [await revoked(table, key_id) for key_id in core.minted] == [True]
        await store.close()
        rows.close()

    async def test_a_store_that_fails_after_the_response_of_core_leaves_no_key(
        self, keys: Keys, core: CoreApi, table: Table, redis_server: RedisServer, redis_url: str
    ) -> None:
        """The new key is revoked in Core; if that fails too, the error names the key."""
        old = await table.mint("ledgers:read")
        store = f"keys.store (redis://{redis_url.rpartition('@')[2]})"

        async def out_of_memory(exchange: Exchange) -> None:
            redis_server.command("CONFIG", "SET", "maxmemory", "1")
            await core.respond(exchange)

        core.failing = [out_of_memory]
        try:
            result = await keys("rotate", old.id, "--print-key")
            assert (result.exit_code, result.stdout) == (3, "")
            reason = f"{store}: Redis takes no change: it is out of memory (maxmemory)"
            assert result.stderr == f"{reason}; {CORRECT}\n"
            assert [await revoked(table, key_id) for key_id in core.minted] == [True]
            redis_server.command("CONFIG", "SET", "maxmemory", "0")
            core.failing = [out_of_memory, abort]
            result = await keys("rotate", old.id, "--print-key")
        finally:
            redis_server.command("CONFIG", "SET", "maxmemory", "0")
        warning = f"{core.minted[1]}, a new key that nobody has, is still live in Core: revoke it\n"
        assert outcome(result) == (3, "", f"{reason}; {warning}")


class TestUpdate:
    async def test_a_key_of_core_gets_terms_which_its_successor_keeps(
        self, keys: Keys, core: CoreApi, table: Table, store: RedisKeyStore, upstream: StandInCore
    ) -> None:
        """The store did not know the key, and Core is not asked for an update."""
        key = await table.mint("ledgers:read")
        result = await keys("update", key.id, "--rate", "100/s", "--reason", "noisy")
        assert (result.exit_code, result.stderr) == (0, "")
        record = await stored(store, key.id)
        (event,) = record.history
        assert record.terms == KeyTerms(rate=Rate(100))
        assert (event.by, event.reason, event.changes) == (
            operator_name(),
            "noisy",
            (Change("rate", "", "100/s"),),
        )
        assert upstream.requests == []
        assert (await keys("rotate", key.id, "--print-key")).exit_code == 0
        (new_id,) = core.minted
        assert (await stored(store, new_id)).terms == KeyTerms(rate=Rate(100))

    async def test_what_core_has_of_a_key_is_not_changed(
        self, keys: Keys, table: Table, store: RedisKeyStore
    ) -> None:
        key = await table.mint("ledgers:read")
        for option in (("--scopes", "balances:read"), ("--expires", "90d"), ("--name", "x")):
            result = await keys("update", key.id, *option, "--rate", "1/s")
            assert outcome(result) == (1, "", f"{NOT_IN_CORE}\n")
        assert await store.get(key.id) is None
        unknown = await keys("update", UNKNOWN, "--rate", "1/s")
        assert outcome(unknown) == (1, "", f"{UNKNOWN}: no such key\n")


class TestList:
    @pytest.mark.parametrize("arguments", [(), ("--owner", "acme")])
    async def test_a_key_that_the_store_has_revoked_is_not_listed_as_live_once_its_record_is_damaged(
        self,
        keys: Keys,
        core: CoreApi,
        table: Table,
        store: RedisKeyStore,
        redis_server: RedisServer,
        arguments: tuple[str, ...],
    ) -> None:
        """Core had no part in that revocation, so its table has a live key."""
        kept, lost = [await table.mint("ledgers:read") for _ in range(2)]
        core.failing = [responding("500 Internal Server Error", b"{}")]
        await keys("revoke", lost.id)
        record = await stored(store, lost.id)
        redis_server.command("SET", key_name(record.digest), "{")
        result = await keys("list", *arguments, "--output", "json")
        assert [key["id"] for key in json.loads(result.stdout)] == [kept.id]
        assert (record.revoked, await revoked(table, lost.id), result.exit_code) == (True, False, 3)
        named, counted = result.stderr.splitlines()
        assert named.startswith(
            f"{lost.id}: its record is left out: {key_name(record.digest).decode()} in Redis"
        )
        assert counted.startswith("records that cannot be read: 1; ")


class TestRevoke:
    @pytest.mark.usefixtures("core")
    async def test_a_record_that_cannot_be_read_keeps_no_other_key_of_the_owner_live(
        self, keys: Keys, table: Table, store: RedisKeyStore, redis_server: RedisServer
    ) -> None:
        """The command names that key, which is revoked nowhere."""
        kept, lost = [await table.mint("ledgers:read") for _ in range(2)]
        for key in (kept, lost):
            assert (await keys("update", key.id, "--rate", "1/s")).exit_code == 0
        name = key_name((await stored(store, lost.id)).digest)
        redis_server.command("SET", name, json.dumps({"id": lost.id}))
        result = await keys("revoke", "--owner", "acme", "--yes")
        assert (result.exit_code, result.stdout) == (3, f"{kept.id}\trevoked\n")
        assert f"{lost.id}: not revoked: {name.decode()} in Redis holds no record" in result.stderr
        assert [await revoked(table, key.id) for key in (kept, lost)] == [True, False]

    async def test_all_keys_of_an_owner_are_revoked_here_before_core_is_asked(
        self, keys: Keys, core: CoreApi, table: Table, store: RedisKeyStore
    ) -> None:
        """If Core fails, the gateways refuse every key at once, and keep asking Core."""
        mine = [await table.mint("ledgers:read") for _ in range(2)]
        other = await table.mint("ledgers:read", owner="globex")
        core.failing = [responding("500 Internal Server Error", b"{}")]
        result = await keys("revoke", "--owner", "acme", "--yes")
        assert (result.exit_code, result.stdout) == (3, "")
        assert "the gateways already refuse the key, and keep asking Core" in result.stderr
        assert [(await stored(store, key.id)).revoked for key in mine] == [True, True]
        assert sorted([await revoked(table, key.id) for key in mine]) == [False, True]
        assert await revoked(table, other.id) is False
        assert (await store.get(other.id)) is None

    async def test_a_revocation_is_in_core_and_in_the_store(
        self, keys: Keys, table: Table, store: RedisKeyStore
    ) -> None:
        """A key that the store did not know is revoked too, and a second revocation changes nothing."""
        key = await table.mint("ledgers:read", owner="a&b=c")
        for reason in ("stolen", "again"):
            result = await keys("revoke", key.id, "--reason", reason)
            assert (result.exit_code, result.stdout) == (0, f"{key.id}\trevoked\n")
        assert await revoked(table, key.id)
        record = await stored(store, key.id)
        assert record.revocation is not None
        assert (record.revocation.by, record.revocation.reason) == (operator_name(), "stolen")

    async def test_descendants_are_revoked_too(self, keys: Keys, table: Table, store: RedisKeyStore) -> None:
        """Descendants are revoked in Core and in the store."""
        top = await table.mint("api-keys:write")
        minted = json.loads((await keys(*CREATE, "--output", "json")).stdout)["id"]
        other = json.loads((await keys(*CREATE, "--output", "json")).stdout)["id"]
        await keys("disable", top.id)
        await store.revise(minted, lambda record: replace(record, created_by=top.id))
        result = await keys("revoke", top.id, "--descendants", "--output", "json")
        assert [key["id"] for key in json.loads(result.stdout)] == [top.id, minted]
        assert [await revoked(table, key_id) for key_id in (top.id, minted, other)] == [True, True, False]

    async def test_a_key_whose_row_is_gone_is_revoked_in_the_store(
        self, keys: Keys, table: Table, store: RedisKeyStore, upstream: StandInCore
    ) -> None:
        key = await table.mint("ledgers:read")
        await keys("disable", key.id)
        await table.delete(key)
        assert outcome(await keys("revoke", key.id)) == (0, f"{key.id}\trevoked\n", "")
        assert (await stored(store, key.id)).revoked
        assert upstream.requests == []

    @pytest.mark.parametrize(
        ("failure", "reason"),
        [
            (
                responding("429 Too Many Requests", b'{"error":"slow down"}'),
                "Core responded with 429: slow down",
            ),
            (abort, "Core closed the connection without a byte of a response"),
        ],
    )
    async def test_a_key_that_core_fails_to_revoke_is_refused_by_the_gateways_at_once(
        self,
        keys: Keys,
        core: CoreApi,
        upstream: StandInCore,
        table: Table,
        store: RedisKeyStore,
        failure: Behaviour,
        reason: str,
    ) -> None:
        """The gateways keep asking Core, and a second command revokes the key in Core, too."""
        key = await table.mint("ledgers:read")
        core.failing = [failure]
        later = "the gateways already refuse the key, and keep asking Core to revoke it"
        text = f"upstream.url ({upstream.url}): {reason}; {later}\n"
        assert outcome(await keys("revoke", key.id, "--reason", "stolen")) == (3, "", text)
        record = await stored(store, key.id)
        assert record.revocation is not None
        assert (record.revocation.by, record.revocation.reason) == (operator_name(), "stolen")
        assert (await store.awaiting_core_revocation(), await revoked(table, key.id)) == ([record], False)
        assert outcome(await keys("revoke", key.id)) == (0, f"{key.id}\trevoked\n", "")
        assert (await store.awaiting_core_revocation(), await revoked(table, key.id)) == ([], True)
        assert await stored(store, key.id) == replace(record, awaiting_core_revocation=False)


class TestDisable:
    async def test_a_key_that_the_store_does_not_know_is_disabled(
        self, keys: Keys, table: Table, store: RedisKeyStore, upstream: StandInCore
    ) -> None:
        """Such a key is disabled and enabled without Core and without the master key."""
        key = await table.mint("ledgers:read")
        result = await keys("disable", key.id, "--reason", "unpaid", BLNK_MASTER_KEY=None)
        assert outcome(result) == (0, f"{key.id}\tdisabled\n", "")
        assert (await stored(store, key.id)).prefix == key.key[:16]
        assert outcome(await keys("enable", key.id)) == (0, f"{key.id}\tlive\n", "")
        assert upstream.requests == []

    async def test_a_key_that_is_revoked_in_core_stays_revoked(self, keys: Keys, table: Table) -> None:
        key = await table.mint("ledgers:read")
        await table.change(key, "is_revoked = true")
        result = await keys("disable", key.id)
        assert (result.exit_code, result.stderr) == (1, f"{key.id} is revoked, and stays revoked\n")


@pytest.mark.parametrize("command", ["revoke", "disable", "enable", "rotate"])
async def test_an_unknown_id_is_a_failure(keys: Keys, command: str) -> None:
    more = ["--print-key"] if command == "rotate" else []
    assert outcome(await keys(command, UNKNOWN, *more)) == (1, "", f"{UNKNOWN}: no such key\n")
    assert (await keys(command, "\x1b[2J", *more)).stderr == "\\x1b[2J: no such key\n"


@pytest.mark.parametrize("command", ["revoke", "disable", "rotate"])
async def test_a_database_that_does_not_respond_is_a_failed_dependency(
    keys: Keys, command: str, unused_tcp_port: int
) -> None:
    url = f"postgres://reader:secret@127.0.0.1:{unused_tcp_port}/blnk"
    more = ["--print-key"] if command == "rotate" else []
    result = await keys(command, UNKNOWN, *more, BLNK_GATEWAY_KEYS__CORE_DATABASE=url)
    reason = "Core's database cannot be reached as keys.core_database says"
    assert outcome(result) == (3, "", f"keys.core_database: {reason}; {CORRECT}\n")


async def test_a_database_url_with_an_unset_variable_is_refused(keys: Keys, tmp_path: Path) -> None:
    """The PostgreSQL client, which would read other variables of the environment, is not started."""
    file = tmp_path / "gateway.yaml"
    shipped = (ROOT / "gateway.yaml").read_text()
    file.write_text(shipped.replace("\nkeys:\n", "\nkeys:\n  core_database: ${ABSENT_DATABASE}\n"))
    result = await keys(
        "disable", UNKNOWN, "--config", str(file), BLNK_GATEWAY_KEYS__CORE_DATABASE=None, ABSENT_DATABASE=None
    )
    text = "keys.core_database names a variable that is not set in the environment\n"
    assert outcome(result) == (1, "", text)


class TestPrune:
    async def test_keys_that_core_still_accepts_stay(
        self, keys: Keys, table: Table, store: RedisKeyStore, core: CoreApi
    ) -> None:
        """Keys that Core is yet to revoke stay too; a key without a row is removed by its age."""
        long_ago = "2020-01-01T00:00:00Z"
        dead, taken_back, retiring, gone, young = [await table.mint("ledgers:read") for _ in range(5)]
        for key in (dead, taken_back, retiring):
            record = record_of(await row_of_table(table, key), digest(key.key))
            await store.add(
                replace(record, created_at=instant(long_ago)).as_revoked(
                    revocation(long_ago, "master"), awaiting_core=key is retiring
                )
            )
        for key, created_at in ((gone, long_ago), (young, "2999-01-01T00:00:00Z")):
            record = record_of(await row_of_table(table, key), digest(key.key))
            await store.add(replace(record, created_at=instant(created_at)))
            await table.delete(key)
        for key in (dead, retiring):
            await table.change(key, f"is_revoked = true, revoked_at = '{long_ago}'")
        result = await keys("prune", "--dead-before", "30d", "--no-export")
        assert outcome(result) == (0, "2 removed\n", "")
        left = {record.id async for batch in store.scan() for record in batch}
        assert left == {taken_back.id, retiring.id, young.id}

    async def test_a_key_that_was_revoked_in_core_is_refused_once_its_record_is_gone(
        self, keys: Keys, table: Table, store: RedisKeyStore
    ) -> None:
        """Its row says that it is revoked, and `verify` shows that."""
        key = await table.mint("ledgers:read")
        await store.add(
            record_of(await row_of_table(table, key), digest(key.key)).as_revoked(revocation(AT, "master"))
        )
        await table.change(key, f"is_revoked = true, revoked_at = '{AT}'")
        assert (await keys("prune", "--dead-before", "30d", "--no-export")).stdout == "1 removed\n"
        verified = await keys("verify", stdin=key.key)
        assert (verified.exit_code, "state        revoked\n" in verified.stdout) == (1, True)


async def row_of_table(table: Table, key: CoreKey) -> CoreRow:
    """Return the row of a key as the gateway reads it."""
    hashed = await table.value(key, "key")
    return CoreRow(key.id, hashed, "n", key.owner, ("ledgers:read",), 32_472_144_245.0, 0.0, revoked=False)


class TestReading:
    async def test_keys_that_were_never_used_here_are_listed(self, keys: Keys, table: Table) -> None:
        """A team that has just started with the gateway sees all its keys, without the master key."""
        live = await table.mint("ledgers:read")
        dead = await table.mint("ledgers:read", owner="globex")
        await table.change(dead, "is_revoked = true, revoked_at = '2026-02-01T00:00:00Z'")
        listed = (await keys("list", BLNK_MASTER_KEY=None)).stdout
        assert f"\n{live.id}\tacme\tn\tledgers:read\tlive\t2999-01-02T03:04:05Z\t" in listed
        assert f"\n{dead.id}\tglobex\tn\tledgers:read\trevoked\t" in listed
        assert f"{live.id}\t" not in (await keys("list", "--owner", "globex")).stdout
        shown = json.loads((await keys("show", dead.id, "--output", "json")).stdout)
        assert (shown["revoked_at"], shown["revoked_by"], shown["pending"]) == (
            "2026-02-01T00:00:00.000000Z",
            "core",
            True,
        )
        exported = (await keys("export")).stdout
        assert [json.loads(line)["id"] for line in exported.splitlines()] == [live.id, dead.id]
        assert live.key[:16] not in listed + exported

    async def test_a_key_is_shown_with_its_current_row_and_its_record(
        self, keys: Keys, table: Table, store: RedisKeyStore
    ) -> None:
        """The scopes and the owner are those of the row; the store knows who disabled the key."""
        key = await table.mint("ledgers:read")
        await keys("disable", key.id, "--reason", "unpaid")
        await table.change(key, "scopes = '{balances:read}', owner_id = 'globex'")
        assert (await keys("list", "--owner", "acme")).stdout.count("\n") == 1
        row = (await keys("list", "--owner", "globex")).stdout.splitlines()[1].split("\t")
        assert row[:5] == [key.id, "globex", "n", "balances:read", "disabled"]
        assert f" by {operator_name()}: unpaid\n" in (await keys("show", key.id)).stdout
        assert (await stored(store, key.id)).owner == "acme"

    async def test_a_key_that_is_created_during_a_list_is_live(
        self, table: Table, redis_url: str, postgres: Postgres
    ) -> None:
        """A key that is in the store, but not in the rows that were read before, is looked up again."""
        await table.mint("ledgers:read")

        class Later(RedisKeyStore):
            async def scan(self, left_out: LeftOut | None = None) -> AsyncIterator[list[KeyRecord]]:
                new = await table.mint("ledgers:read")
                row = (await rows.by_ids([new.id]))[new.id]
                await self.add(record_of(row, digest(new.key)))
                async for batch in super().scan(left_out):
                    yield batch

        rows, later = CoreRows(postgres.url()), Later(redis_url)
        readings = CoreKeyReader(later, rows, utc_now())
        found = [record async for batch in readings.scan() for record in batch]
        assert [record.revoked for record in found] == [False, False]
        await later.close()
        rows.close()

    async def test_a_last_use_beyond_the_years_fails_no_command(self, keys: Keys, table: Table) -> None:
        key = await table.mint("ledgers:read")
        await table.change(key, "last_used_at = '30000-01-01'")
        for command in ("show", "disable", "enable", "revoke"):
            assert (await keys(command, key.id)).exit_code == 0

    async def test_a_change_prints_the_state_in_the_row(self, keys: Keys, table: Table) -> None:
        """Core may have revoked or lost a key that is live in the store."""
        expired, revoked_, gone = [await table.mint("ledgers:read") for _ in range(3)]
        for key in (expired, revoked_, gone):
            await keys("disable", key.id)
        await table.change(expired, "expires_at = '2026-01-01T00:00:00Z'")
        await table.change(revoked_, "is_revoked = true")
        await table.delete(gone)
        assert outcome(await keys("enable", expired.id)) == (0, f"{expired.id}\texpired\n", "")
        for key in (revoked_, gone):
            result = await keys("enable", key.id)
            assert (result.exit_code, result.stderr) == (1, f"{key.id} is revoked, and stays revoked\n")

    @pytest.mark.parametrize("command", ["show", "verify", "list"])
    async def test_a_database_that_is_down_is_not_reported_as_a_failure_of_the_store(
        self, keys: Keys, table: Table, unused_tcp_port: int, command: str
    ) -> None:
        url = f"postgres://reader@127.0.0.1:{unused_tcp_port}/blnk"
        more = [UNKNOWN] if command == "show" else []
        stdin = "A" * 43 + "="
        result = await keys(command, *more, stdin=stdin, BLNK_GATEWAY_KEYS__CORE_DATABASE=url)
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr.startswith("keys.core_database: Core's database ")

    async def test_a_key_whose_row_is_gone_is_dead(self, keys: Keys, table: Table) -> None:
        """A key whose row is gone is shown as revoked, because records of the ledger may still name it."""
        key = await table.mint("ledgers:read")
        await keys("disable", key.id)
        await keys("enable", key.id)
        await table.delete(key)
        for command in (("show", key.id), ("list",), ("list", "--owner", "acme")):
            text = (await keys(*command)).stdout
            assert key.id in text
            assert "revoked" in text
        assert "by core: its row is gone from Core's table\n" in (await keys("show", key.id)).stdout
        assert outcome(await keys("show", UNKNOWN)) == (1, "", f"{UNKNOWN}: no such key\n")

    async def test_a_key_is_verified_by_its_row(self, keys: Keys, table: Table, store: RedisKeyStore) -> None:
        """A key is verified whether it was used here or not, and nothing is stored."""
        key = await table.mint("ledgers:read")
        result = await keys("verify", stdin=key.key)
        assert (result.exit_code, f"id           {key.id}\nstate        live\n" in result.stdout) == (0, True)
        assert await store.is_empty()
        bad = key.key[:20] + ("A" if key.key[20] != "A" else "B") + key.key[21:]
        assert outcome(await keys("verify", stdin=bad)) == (1, "state        unknown\n", "")
        await table.change(key, "is_revoked = true")
        result = await keys("verify", stdin=key.key)
        assert (result.exit_code, "\nstate        revoked\n" in result.stdout) == (1, True)

    async def test_a_key_that_the_store_knows_is_verified_by_its_row_too(
        self, keys: Keys, table: Table, store: RedisKeyStore
    ) -> None:
        """A key whose hash in the row was replaced is unknown, though the store knows it."""
        key = (await keys(*CREATE)).stdout.removesuffix("\n")
        record = await store.get_by_digest(digest(key))
        assert record is not None
        made = CoreKey(key, record.id, "acme")
        assert (await keys("verify", stdin=key)).exit_code == 0
        await table.change(made, "expires_at = '2026-01-01T00:00:00Z'")
        result = await keys("verify", stdin=key)
        assert (result.exit_code, "\nstate        expired\n" in result.stdout) == (1, True)
        await store.revise(record.id, lambda found: replace(found, bcrypt=hashed(key)))
        await table.change(made, f"key = '{hashed('another')}'")
        assert outcome(await keys("verify", stdin=key)) == (1, "state        unknown\n", "")


async def test_descendants_that_are_not_revoked_are_reported(
    table: Table, postgres: Postgres, redis_url: str
) -> None:
    """If the store cannot name the descendants, the command says that they may not be revoked."""
    failure = StoreUnavailableError(reason="Redis cannot be reached")

    class Failing(RedisKeyStore):
        async def children(self, key_id: str) -> list[KeyRecord]:
            raise failure

    async def never_asked(method: str, target: str, body: bytes) -> ApiResponse:
        raise AssertionError

    key, changed = await table.mint("api-keys:write"), list[KeyRecord]()
    store, rows = Failing(redis_url), CoreRows(postgres.url())
    writes = CoreKeyWrites(never_asked, rows, store, changed.append, utc_now)
    changes = CoreKeyWriter(store, writes, changed, utc_now(), CoreQuota(rows, store, Quota))
    with pytest.raises(UnfinishedError) as unfinished:
        await changes.revoke(key.id, "stolen", descendants=True)
    advice = "some of the keys are revoked, others are not: run the command again"
    assert (unfinished.value.failure, unfinished.value.advice) == (failure, advice)
    await store.close()
    rows.close()
