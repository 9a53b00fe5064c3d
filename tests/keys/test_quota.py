"""The quota of keys for an owner: over each store, over HTTP, and in a Redis that is nearly full."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import Code
from gateway.keys.api.resource import ApiKeys, ApiResponse
from gateway.keys.minting import digest
from gateway.keys.new_record import NewKeyRules
from gateway.keys.quota import MAX_LISTED, MAX_SCOPE, MAX_SCOPES, MAX_TEXT, Quota, QuotaError
from gateway.keys.record import KeyRecord
from gateway.keys.redis.names import PREFIX
from gateway.keys.redis.store import RedisKeyStore
from gateway.keys.revocation import revoke_key
from gateway.keys.store import CreatorRevokedError, KeyStore
from gateway.policy.principals import MASTER, ApiKey, Principal
from gateway.policy.values import Deny
from tests.conftest import Start
from tests.keys.records import GLOBEX, RECORD, instant, revocation
from tests.redis_server import RedisServer, start_redis
from tests.running import MASTER_KEY

AT = "2026-02-01T00:00:00Z"
TOO_MANY = "live keys of this owner: {0}, at most {0} (keys.per_owner); revoke one first"
FULL = (
    "records of this owner: {0}, at most {0}, with those of revoked and expired keys; "
    "an operator has to remove old ones (blnk-gateway keys prune)"
)
CALLER = ApiKey("api_key_caller", "acme", ("api-keys:write",), 4e9)
BODY = b'{"name":"n","owner":"acme","scopes":[],"expires_at":"2999-01-02T03:04:05Z"}'


def made(number: int, **changes: Any) -> KeyRecord:
    """Return the record of one more key of acme."""
    key_id = f"api_key_11111111-0000-4000-8000-{number:012}"
    return replace(replace(RECORD, id=key_id, digest=digest(key_id)), **changes)


async def refusal(adding: Awaitable[None]) -> str:
    """Return why a record was not stored; empty if it was stored."""
    try:
        await adding
    except QuotaError as refused:
        return str(refused).removeprefix("Too many API keys: ")
    return ""


async def test_an_owner_has_as_many_live_keys_as_its_quota(store: KeyStore) -> None:
    """An owner can have as many live keys as its quota; the keys of another owner do not count."""
    outcomes = [await refusal(store.add(made(number), Quota(3))) for number in range(5)]
    assert outcomes == ["", "", "", *[TOO_MANY.format(3)] * 2]
    assert await refusal(store.add(GLOBEX, Quota(3))) == ""
    assert len(await store.owned("acme")) == 3


async def test_a_revoked_creator_learns_nothing_of_the_quota(store: KeyStore) -> None:
    """A revoked creator is refused for its revocation, not for the quota."""
    minter = made(0).as_revoked(revocation(AT, "master"))
    await store.add_all([minter, made(1)])
    with pytest.raises(CreatorRevokedError):
        await store.add(made(2, created_by=minter.id), Quota(1))


async def test_a_revoked_key_makes_room_and_a_disabled_one_does_not(store: KeyStore) -> None:
    for number in range(2):
        await store.add(made(number), Quota(2))
    await store.revise(made(0).id, lambda record: record.as_disabled(instant(AT), "master"))
    assert await refusal(store.add(made(2), Quota(2))) == TOO_MANY.format(2)
    await revoke_key(store, made(1).id, revocation(AT, "master"))
    assert await refusal(store.add(made(2), Quota(2))) == ""


async def test_an_expired_key_makes_room(store: KeyStore) -> None:
    """A key counts as expired if its expiry is before the creation time of the new key."""
    for number in range(2):
        await store.add(made(number, expires_at=instant("2026-01-05T00:00:00Z")), Quota(2))
    second_before, then = "2026-01-04T23:59:59Z", "2026-01-05T00:00:00Z"
    assert await refusal(store.add(made(2, created_at=instant(second_before)), Quota(2))) == TOO_MANY.format(
        2
    )
    assert await refusal(store.add(made(2, created_at=instant(then)), Quota(2))) == ""


async def test_a_rotation_at_the_quota_works(store: KeyStore) -> None:
    """A rotation is allowed at the quota, and the old key counts until its overlap has ended."""
    for number in range(2):
        await store.add(made(number), Quota(2))
    until = made(0).created_at
    ended = await store.revise(
        made(0).id, lambda record: replace(record, expires_at=until), successor=made(2)
    )
    assert ended is not None
    assert await refusal(store.add(made(3, created_at=instant(AT)), Quota(2))) == TOO_MANY.format(2)
    await revoke_key(store, made(1).id, revocation(AT, "master"))
    assert await refusal(store.add(made(3, created_at=instant(AT)), Quota(2))) == ""


async def test_an_import_is_held_to_no_quota_and_counts(store: KeyStore) -> None:
    await store.add_all([made(number) for number in range(5)])
    assert await refusal(store.add(made(9), Quota(2))) == TOO_MANY.format(2).replace("2", "5", 1)


async def test_a_pending_key_that_is_bound_counts_once(store: KeyStore) -> None:
    pending = made(0, digest=f"pending:{made(0).id}", prefix="A" * 16)
    await store.add_all([pending])
    await store.bind_digest(pending.id, made(0).digest)
    assert await refusal(store.add(made(1), Quota(2))) == ""
    assert await refusal(store.add(made(2), Quota(2))) == TOO_MANY.format(2)


async def test_creating_and_revoking_in_a_loop_is_refused_in_the_end(store: KeyStore) -> None:
    """For each key of the quota, an owner may have at most four records of dead keys."""
    for number in range(8):
        await store.add(made(number), Quota(2))
        await revoke_key(store, made(number).id, revocation(AT, "master"))
    assert await refusal(store.add(made(8), Quota(2))) == FULL.format(8)
    assert await store.count_owned("acme") == 8
    await store.remove_all(await store.owned("acme"))
    assert await refusal(store.add(made(8), Quota(2))) == ""


async def test_creating_expired_keys_in_a_loop_is_refused_in_the_end(store: KeyStore) -> None:
    """Core accepts an expiry in the past, and so does the gateway; such records count too."""
    outcomes = [
        await refusal(store.add(made(number, expires_at=instant("2020-01-01T00:00:00Z")), Quota(2)))
        for number in range(9)
    ]
    assert outcomes == [*[""] * 8, FULL.format(8)]


async def test_without_a_quota_nothing_is_counted(store: KeyStore) -> None:
    assert [await refusal(store.add(made(number), Quota(0))) for number in range(9)] == [""] * 9


@pytest.mark.redis
class TestRedis:
    async def test_keys_without_an_index_of_ends_are_counted(
        self, redis_store: RedisKeyStore, redis_server: RedisServer
    ) -> None:
        """Keys of an older version, or whose index of ends is gone, are counted, and the index is rebuilt."""
        await redis_store.add_all([made(number) for number in range(600)])
        await revoke_key(redis_store, made(7).id, revocation(AT, "master"))
        redis_server.command("DEL", f"{PREFIX}ends:acme")
        # Another gateway may have written the index for one of the keys meanwhile.
        redis_server.command("ZADD", f"{PREFIX}ends:acme", "0", made(3).digest)
        assert await refusal(redis_store.add(made(900), Quota(598))) == TOO_MANY.format(598)
        assert await refusal(redis_store.add(made(900), Quota(599))) == ""

    async def test_an_owner_with_few_records_costs_one_command(
        self, redis_store: RedisKeyStore, redis_server: RedisServer
    ) -> None:
        await redis_store.add(made(0), Quota(10))
        with redis_server.monitored() as seen:
            await redis_store.add(made(1), Quota(10))
            lines = seen()
        counting = ("ZCARD", "ZCOUNT", "ZRANGE", "ZREVRANGE")
        assert [word for line in lines for word in counting if f'"{word}"' in line] == ["ZCARD"]

    async def test_at_the_quota_no_record_is_read(
        self, redis_store: RedisKeyStore, redis_server: RedisServer
    ) -> None:
        """A refused creation reads none of the owner's records, so a loop of them is cheap."""
        await redis_store.add_all([made(number) for number in range(20)])
        with redis_server.monitored() as seen:
            assert await refusal(redis_store.add(made(50), Quota(20))) != ""
            lines = seen()
        asked = {found for line in lines for found in re.findall(f"{re.escape(PREFIX)}key:([0-9a-f]+)", line)}
        assert asked == {made(50).digest}

    async def test_simultaneous_creations_do_not_exceed_the_quota(self, redis_url: str) -> None:
        """Forty creations at each of three replicas, all at the same time, do not exceed the quota."""
        stores = [RedisKeyStore(redis_url) for _ in range(3)]
        numbers = itertools.count()
        outcomes = await asyncio.gather(
            *(refusal(store.add(made(next(numbers)), Quota(20))) for _ in range(40) for store in stores)
        )
        assert outcomes.count("") == 20
        assert len(await stores[0].owned("acme")) == 20
        for store in stores:
            await store.close()


# The quota in /api-keys.


def resource(store: KeyStore, quota: int) -> ApiKeys:
    random = itertools.count()
    return ApiKeys(
        store,
        lambda _: None,
        lambda: datetime(2026, 2, 1, tzinfo=UTC),
        lambda size: next(random).to_bytes(size),
        lambda: NewKeyRules(Quota(quota)),
    )


@pytest.mark.parametrize("principal", [MASTER, CALLER], ids=["master", "scoped"])
async def test_beyond_the_quota_every_caller_gets_403(store: KeyStore, principal: Principal) -> None:
    api_keys = resource(store, 2)
    responses = [await api_keys.create(principal, BODY) for _ in range(3)]
    assert [isinstance(response, ApiResponse) for response in responses] == [True, True, False]
    assert responses[2] == Deny(Code.KEY_QUOTA, f"Too many API keys: {TOO_MANY.format(2)}")


LONG = "é" * MAX_TEXT
LISTED = f"name, owner and scopes must have at most {MAX_LISTED} bytes as JSON"
SCOPES = ",".join(['"a:read"'] * MAX_SCOPES)


@pytest.mark.parametrize(
    ("name", "owner", "scopes", "message"),
    [
        (LONG, LONG, SCOPES, ""),
        (LONG + "é", "o", "", f"name must have at most {MAX_TEXT} characters"),
        (
            LONG + "é",
            LONG + "é",
            "",
            f"name must have at most {MAX_TEXT} characters\nowner must have at most {MAX_TEXT} characters",
        ),
        ("n", "o", SCOPES + ',"a:read"', f"scopes must be at most {MAX_SCOPES}"),
        ("n", "o", f'"{"a" * MAX_SCOPE}"', ""),
        ("n", "o", f'"{"a" * (MAX_SCOPE + 1)}"', f"a scope must have at most {MAX_SCOPE} characters"),
        ("<" * MAX_TEXT, "o", ",".join(['"a"'] * MAX_SCOPES), ""),
        ("<" * MAX_TEXT, "<" * MAX_TEXT, f'"{"<" * MAX_SCOPE}",' * 2 + '"<"', ""),
        ("<" * MAX_TEXT, "<" * MAX_TEXT, f'"{"<" * MAX_SCOPE}",' * 3 + '"<"', LISTED),
    ],
)
async def test_the_size_of_each_member_is_limited(
    store: KeyStore, name: str, owner: str, scopes: str, message: str
) -> None:
    """The error names every member that is too long, and repeats no value."""
    body = f'{{"name":"{name}","owner":"{owner}","scopes":[{scopes}],"expires_at":"2999-01-02T03:04:05Z"}}'
    response = await resource(store, 2).create(MASTER, body.encode())
    assert response == Deny(Code.MALFORMED_BODY, message) if message else isinstance(response, ApiResponse)


# A full Redis.


def records(numbers: Iterable[int], **changes: Any) -> list[KeyRecord]:
    return [made(number, owner="mallory", **changes) for number in numbers]


@pytest.mark.redis
async def test_an_owner_at_every_limit_leaves_room_to_revoke_in_a_small_redis(tmp_path: Path) -> None:
    """An owner at every limit, in names of six bytes a character, can be revoked in a full Redis of 24 MB."""
    quota = Quota(1000)
    server = start_redis(tmp_path, "--maxmemory", "24mb", "--maxmemory-policy", "noeviction")
    store = RedisKeyStore(server.url)
    try:
        await store.add(RECORD)
        largest = {"name": "\x01" * MAX_TEXT, "scopes": ("api-keys:write",) * MAX_SCOPES}
        for start in range(0, quota.records, 500):
            await store.add_all(records(range(start, start + 500), **largest))
        assert await refusal(store.add(made(9999, owner="mallory"), quota)) == FULL.format(quota.records)
        revoked = await revoke_key(store, RECORD.id, revocation(AT, "master"))
        assert revoked is not None
        assert revoked.revoked
    finally:
        await store.close()
        server.kill()


@pytest.mark.redis
async def test_minting_in_a_loop_ends_and_every_key_can_be_revoked(
    start_gateway: Start, tmp_path: Path
) -> None:
    """This holds over HTTP, for names of any length, and for live and revoked keys."""
    server = start_redis(tmp_path, "--maxmemory", "24mb", "--maxmemory-policy", "noeviction")
    store = RedisKeyStore(server.url)
    try:
        gateway = await start_gateway(store=store, keys={"per_owner": 50})
        victim = await gateway.mint("ledgers:*", owner="victim")
        minter = await gateway.mint("api-keys:write", "api-keys:delete", owner="mallory")

        async def mint(length: int) -> tuple[int, str]:
            body = '{"name":"%s","owner":"mallory","scopes":[],"expires_at":"2999-01-01T00:00:00Z"}'
            response = await gateway.ask(
                "POST", "/api-keys", key=minter.key, body=(body % ("n" * length)).encode()
            )
            made = response.json()
            if response.status == 201:
                gateway.secrets.discard(made["key"])
                return 201, made["api_key_id"]
            return response.status, made["error_detail"]["code"]

        assert {await mint(length) for length in (65_000, 8_000, 500)} == {(400, "GEN_MALFORMED_REQUEST")}
        live = [await mint(MAX_TEXT) for _ in range(51)]
        assert [status for status, _ in live] == [201] * 49 + [403] * 2
        created = 50
        for _, key_id in live[:49]:
            await gateway.ask("DELETE", f"/api-keys/{key_id}", key=minter.key)
        while (response := await mint(1))[0] == 201:
            created += 1
            await gateway.ask("DELETE", f"/api-keys/{response[1]}", key=minter.key)
        assert (response, created) == ((403, "GATEWAY_KEY_QUOTA"), 200)
        for key in (victim, minter):
            target = f"/api-keys/{key.id}?owner={key.owner}"
            assert (await gateway.ask("DELETE", target, key=MASTER_KEY)).status == 204
            assert (await gateway.ask("GET", "/ledgers", key=key.key)).status == 401
        listed = (await gateway.ask("GET", "/api-keys?owner=mallory", key=MASTER_KEY)).json()
        assert len(listed) == 200
    finally:
        server.kill()
