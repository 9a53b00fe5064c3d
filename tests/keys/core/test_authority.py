"""Principals with Core as the authority, over a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from gateway.errors import Code, GatewayError
from gateway.gocompat.times import Instant, read_instant
from gateway.keys.cache import LATE_SECONDS, LINK_PROOF_SECONDS, KeyCache
from gateway.keys.core.authority import READ_SECONDS, CoreAuthority
from gateway.keys.core.records import GONE, CoreRow, current_record, pending_record, record_of, with_row
from gateway.keys.core.row_cache import CONFIRMED_SECONDS
from gateway.keys.core.rows import CoreRows
from gateway.keys.core.sources import CoreSources, KeyClocks
from gateway.keys.core.verifier import MAX_WAITING_PER_PREFIX, Verifier
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.minting import digest, mint_id, mint_key
from gateway.keys.record import Event, KeyRecord, Revocation
from gateway.keys.revocation import revoke_key
from gateway.keys.store import KeyChangeBatch, KeyStore
from gateway.policy.principals import ApiKey, KeyState
from gateway.policy.terms import KeyTerms, read_network
from gateway.proxy.errors import code_of
from tests.keys.core.conftest import CoreKey, Postgres, Table, hashed
from tests.keys.records import instant, revocation
from tests.running import eventually

pytestmark = pytest.mark.postgres

BOUND = 2.0
AT = "2026-02-01T00:00:00Z"


def now() -> datetime:
    return datetime.now(UTC)


class CountingVerifier(Verifier):
    """Counts the comparisons that it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def matches(self, key: str, hashed: str, *, client: str) -> bool:
        self.asked += 1
        return await super().matches(key, hashed, client=client)


class CountingRows(CoreRows):
    """Counts its reads of unknown keys."""

    reads = 0

    async def by_prefixes(self, prefixes: Sequence[str]) -> Mapping[str, list[CoreRow]]:
        self.reads += 1
        return await super().by_prefixes(prefixes)


@dataclass(slots=True)
class Replica:
    """The keys as one gateway sees them."""

    keys: CoreAuthority
    cache: KeyCache
    verifier: CountingVerifier
    rows: CountingRows

    async def find(self, key: str, client: str = "192.0.2.1") -> ApiKey | None:
        """Look up a principal as the proxy does."""
        name = digest(key)
        return self.keys.peek(name) or await self.keys.identify(name, key, client)

    async def state(self, key: str, client: str = "192.0.2.1") -> KeyState | str:
        try:
            found = await self.find(key, client)
        except GatewayError as failure:
            return code_of(failure).code
        return "unknown" if found is None else found.state(time.time())

    async def lag(self, holds: Callable[[], Awaitable[bool]]) -> float:
        """Return the seconds until `holds` returns True; then check for a while that it stays so."""
        began = time.monotonic()
        while not await holds():
            assert time.monotonic() - began < 3 * BOUND
            await asyncio.sleep(0.01)
        took = time.monotonic() - began
        for _ in range(20):
            assert await holds()
            await asyncio.sleep(0.01)
        return took


@asynccontextmanager
async def replica(
    url: str, store: KeyStore, *, grace: float = 0.0, idle_reads: int = 30
) -> AsyncIterator[Replica]:
    rows, verifier = CountingRows(url), CountingVerifier()
    cache = KeyCache(store, time.monotonic, grace=grace)
    sources, clocks = CoreSources(store, rows, verifier), KeyClocks(time.monotonic, now)
    keys = CoreAuthority(cache, sources, clocks, idle_reads=idle_reads)
    following = asyncio.create_task(keys.follow())
    try:
        yield Replica(keys, cache, verifier, rows)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await keys.close()


@pytest.fixture
async def first(postgres: Postgres, table: Table) -> AsyncIterator[Replica]:
    """Yield a replica with an empty store, whose user in the database may only read."""
    async with replica(postgres.url(), MemoryKeyStore()) as made:
        yield made


async def test_a_key_of_core_is_known_by_its_prefix_and_its_hash(first: Replica, table: Table) -> None:
    """The key is compared once, and then has the owner, scopes and expiry in its row."""
    key = await table.mint("ledgers:read", "api-keys:*", owner="globex")
    found = await first.find(key.key)
    assert found is not None
    assert replace(found, expires_at=0.0) == ApiKey(key.id, "globex", ("ledgers:read", "api-keys:*"), 0.0)
    assert found.expires_at == datetime(2999, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
    assert await first.find(key.key) == found
    assert first.verifier.asked == 1


async def test_a_key_in_use_costs_no_look_up(first: Replica, table: Table) -> None:
    """Once a key is known, `peek` returns it without asking the database."""
    key = await table.mint("ledgers:read")
    assert await first.state(key.key) is KeyState.LIVE
    await first.lag(lambda: peeked(first, key))
    await asyncio.sleep(2.5)
    assert first.keys.peek(digest(key.key)) is not None


async def peeked(on: Replica, key: CoreKey) -> bool:
    await on.find(key.key)
    return on.keys.peek(digest(key.key)) is not None


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ("is_revoked = true, revoked_at = now()", KeyState.REVOKED),
        ("is_revoked = true", KeyState.REVOKED),
        ("expires_at = now() - interval '1 second'", KeyState.EXPIRED),
        ("expires_at = '-infinity'", KeyState.EXPIRED),
        ("api_key_id = 'api_key_00000000-0000-4000-8000-000000000000'", "unknown"),
        ("key = 'no hash'", "unknown"),
    ],
)
async def test_a_key_whose_row_becomes_invalid_is_refused_within_2_s(
    first: Replica, table: Table, change: str, state: KeyState | str
) -> None:
    """The key is refused whatever change of its row makes it invalid."""
    key = await table.mint("ledgers:read")
    await first.lag(lambda: peeked(first, key))
    await table.change(key, change)

    async def refused() -> bool:
        return await first.state(key.key) == state

    assert await first.lag(refused) < BOUND


async def test_a_key_whose_row_was_deleted_is_unknown_within_2_s(first: Replica, table: Table) -> None:
    """A key whose row was deleted is unknown."""
    key = await table.mint("ledgers:read")
    await first.lag(lambda: peeked(first, key))
    await table.delete(key)

    async def unknown() -> bool:
        return await first.state(key.key) == "unknown"

    assert await first.lag(unknown) < BOUND


async def test_changed_scopes_owner_and_expiry_count_within_2_s(first: Replica, table: Table) -> None:
    """The row counts also if it now allows more than before."""
    key = await table.mint("ledgers:read")
    await first.lag(lambda: peeked(first, key))
    await table.change(
        key, "scopes = '{balances:read}', owner_id = 'globex', expires_at = '3000-01-01T00:00:00Z'"
    )
    expected = ApiKey(key.id, "globex", ("balances:read",), datetime(3000, 1, 1, tzinfo=UTC).timestamp())

    async def changed() -> bool:
        return await first.find(key.key) == expected

    assert await first.lag(changed) < BOUND


async def test_an_expiry_beyond_the_years_of_python_is_read(first: Replica, table: Table) -> None:
    """The rows that are read with such a row are read too."""
    far, other = await table.mint("ledgers:read"), await table.mint("ledgers:read")
    await table.change(far, "expires_at = '294000-01-01'")
    never = await table.mint("ledgers:read")
    await table.change(never, "expires_at = 'infinity'")
    states = [await first.state(key.key) for key in (far, other, never)]
    # Core cannot read `infinity`, and refuses such a key.
    assert states == [KeyState.LIVE, KeyState.LIVE, KeyState.EXPIRED]


async def test_changes_in_core_are_audited_once_however_many_replicas_see_them(
    postgres: Postgres, table: Table
) -> None:
    """The entries name Core, and have what differs."""
    key, store = await table.mint("ledgers:read", owner="acme"), MemoryKeyStore()
    async with replica(postgres.url(), store) as one, replica(postgres.url(), store) as two:
        for each in (one, two):
            await each.lag(partial(peeked, each, key))
        await table.change(key, "scopes = '{ledgers:write}'")
        await eventually(lambda: len(store.audit_entries) == 2, "the change of its scopes")
        await asyncio.sleep(1.2)
        await table.change(key, f"is_revoked = true, revoked_at = '{AT}'")
        await eventually(lambda: len(store.audit_entries) == 3, "its revocation")
        await asyncio.sleep(1.2)
    entries = [(entry.kind, entry.by, entry.way, entry.key_id, entry.owner) for entry in store.audit_entries]
    of_key = ("core", "core", key.id, "acme")
    assert entries == [(kind, *of_key) for kind in ("key_created", "key_updated", "key_revoked")]
    assert store.audit_entries[1].before == {"scopes": ["ledgers:read"]}
    assert store.audit_entries[1].after == {"scopes": ["ledgers:write"]}


async def test_a_revocation_in_core_is_final(first: Replica, table: Table) -> None:
    """A revocation that was seen is stored with its time, and the key stays revoked if Core takes it back."""
    key = await table.mint("ledgers:read")
    assert await first.state(key.key) is KeyState.LIVE
    await table.change(key, f"is_revoked = true, revoked_at = '{AT}'")

    async def refused() -> bool:
        return await first.state(key.key) is KeyState.REVOKED

    await first.lag(refused)
    await asyncio.sleep(1.2)
    await table.change(key, "is_revoked = false, revoked_at = NULL")
    await asyncio.sleep(CONFIRMED_SECONDS)
    assert await first.state(key.key) is KeyState.REVOKED
    record = await first.keys.get(key.id)
    assert record is not None
    assert record.revocation == revocation(AT, "core")


class Emptiable(MemoryKeyStore):
    """A store that can lose everything, as a Redis that persists nothing does, or fail."""

    silent = False
    emptied = False

    def empty_out(self) -> None:
        self._table = type(self._table)()
        self.emptied = True

    async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
        if self.silent:
            raise StoreUnavailableError
        return await super().get_by_digest(digest, client)

    async def changes(self, after: str, wait: float) -> KeyChangeBatch:
        if self.silent:
            raise StoreUnavailableError
        if self.emptied:
            self.emptied = False
            return KeyChangeBatch(await self.last_position(), continuous=False)
        return await super().changes(after, wait)


async def test_a_store_that_was_emptied_makes_no_dead_key_live(postgres: Postgres, table: Table) -> None:
    """Rotated and revoked keys stay refused, and no key is compared again."""
    store = Emptiable()
    async with replica(postgres.url(), store) as one:
        keys = [await table.mint("ledgers:read") for _ in range(3)]
        rotated, revoked, other = keys
        assert [await one.state(key.key) for key in keys] == [KeyState.LIVE] * 3
        end = Instant.of(now())
        await store.revise(
            rotated.id, lambda record: record.as_rotated(end, Event(instant(AT), "rotated", "cli:ann"))
        )
        await revoke_key(store, revoked.id, revocation(AT, "cli:ann"))
        ended = [KeyState.EXPIRED, KeyState.REVOKED, KeyState.LIVE]

        async def seen() -> bool:
            return [await one.state(key.key) for key in keys] == ended

        await one.lag(seen)
        compared = one.verifier.asked
        store.empty_out()
        for _ in range(20):
            assert [await one.state(key.key) for key in keys] == ended
            await asyncio.sleep(0.02)
        assert await store.get(other.id) is not None
        assert one.verifier.asked == compared


async def test_a_grace_covers_a_key_whose_row_was_not_read_for_long(postgres: Postgres, table: Table) -> None:
    """The grace covers a key that was idle, and the end that the cache knows still counts."""
    store = Emptiable()
    async with replica(postgres.url(), store, grace=60, idle_reads=0) as one:
        key, rotated = await table.mint("ledgers:read"), await table.mint("ledgers:read")
        assert [await one.state(each.key) for each in (key, rotated)] == [KeyState.LIVE] * 2
        end = Instant.of(now())
        await store.revise(
            rotated.id, lambda record: record.as_rotated(end, Event(instant(AT), "rotated", "cli:ann"))
        )

        async def ended() -> bool:
            return await one.state(rotated.key) is KeyState.EXPIRED

        await one.lag(ended)
        assert await one.state(key.key) is KeyState.LIVE
        store.silent = True
        # After this time, their rows are not in use any more.
        await asyncio.sleep(max(2 * READ_SECONDS, LINK_PROOF_SECONDS))
        assert [await one.state(each.key) for each in (key, rotated)] == [KeyState.LIVE, KeyState.EXPIRED]


async def test_a_row_that_core_would_not_find_by_its_prefix_is_ignored(first: Replica, table: Table) -> None:
    """A row whose prefix does not match the key is ignored, because Core looks keys up by prefix."""
    nulled, changed = await table.mint("ledgers:read"), await table.mint("ledgers:read")
    assert [await first.state(key.key) for key in (nulled, changed)] == [KeyState.LIVE] * 2
    await table.change(nulled, "key_prefix = NULL")
    await table.change(changed, "key_prefix = 'AAAAAAAAAAAAAAAA'")

    async def unknown() -> bool:
        return [await first.state(key.key) for key in (nulled, changed)] == ["unknown"] * 2

    assert await first.lag(unknown) < BOUND


async def test_a_key_whose_record_has_no_hash_is_compared_once(postgres: Postgres, table: Table) -> None:
    """A record without a hash, stored while the database was down, is compared once for all replicas."""
    store = MemoryKeyStore()
    key = await table.mint("ledgers:read")
    async with replica(postgres.url(), store) as one:
        row = (await one.rows.by_ids([key.id]))[key.id]
        await store.add(replace(record_of(row, digest(key.key)), bcrypt=""))
        states = await asyncio.gather(*(one.state(key.key) for _ in range(3 * MAX_WAITING_PER_PREFIX)))
        assert (set(states), one.verifier.asked) == ({KeyState.LIVE}, 1)
    async with replica(postgres.url(), store) as again:
        assert (await again.state(key.key), again.verifier.asked) == (KeyState.LIVE, 0)
        await table.change(key, f"key = '{hashed('another')}'")
    async with replica(postgres.url(), store) as two:
        assert await two.state(key.key) == "unknown"


async def test_a_key_that_replaced_another_in_its_row_is_known_by_the_record_of_that_row(
    postgres: Postgres, table: Table
) -> None:
    """The new key is compared once, and a change of the record with that id applies to it."""
    store = MemoryKeyStore()
    async with replica(postgres.url(), store) as one:
        key = await table.mint("ledgers:read")
        assert await one.state(key.key) is KeyState.LIVE
        new = mint_key(os.urandom)
        await table.change(key, f"key = '{hashed(new)}', key_prefix = '{new[:16]}'")

        async def moved() -> bool:
            return [await one.state(each) for each in (key.key, new)] == ["unknown", KeyState.LIVE]

        await one.lag(moved)
        compared = one.verifier.asked
        assert [await one.state(new) for _ in range(5)] == [KeyState.LIVE] * 5
        assert one.verifier.asked == compared
        await store.revise(key.id, lambda record: record.as_disabled(instant(AT), "cli:ann"))

        async def refused() -> bool:
            return await one.state(new) is KeyState.DISABLED

        assert await one.lag(refused) < 1


async def test_a_key_whose_hash_was_replaced_is_unknown_and_the_new_key_is_known(
    postgres: Postgres, table: Table
) -> None:
    """A digest counts only with the hash that its key was compared with, on every replica."""
    key = await table.mint("ledgers:read")
    store = MemoryKeyStore()
    new = key.key[:16] + mint_key(os.urandom)[16:]
    async with replica(postgres.url(), store) as one, replica(postgres.url(), store) as two:
        assert await one.state(key.key) is KeyState.LIVE
        await table.pool.execute(
            "UPDATE blnk.api_keys SET key = $1 WHERE api_key_id = $2", hashed(new), key.id
        )

        async def unknown() -> bool:
            return await one.state(key.key) == "unknown"

        assert await one.lag(unknown) < BOUND
        assert (await two.state(key.key), await one.state(new)) == ("unknown", KeyState.LIVE)
        assert (await two.state(new), await two.state(key.key)) == (KeyState.LIVE, "unknown")


async def test_a_key_that_one_replica_found_costs_the_others_no_bcrypt(
    postgres: Postgres, table: Table
) -> None:
    """The digest is in the store that the replicas share."""
    key = await table.mint("ledgers:read")
    store = MemoryKeyStore()
    async with replica(postgres.url(), store) as one, replica(postgres.url(), store) as two:
        assert await one.state(key.key) is KeyState.LIVE
        assert await two.state(key.key) is KeyState.LIVE
        assert (one.verifier.asked, two.verifier.asked) == (1, 0)


async def test_a_revocation_in_the_store_counts_more_than_a_live_row(
    first: Replica, postgres: Postgres, table: Table
) -> None:
    """A replica that finds the key later refuses it too, though its row is live."""
    key = await table.mint("ledgers:read")
    store = MemoryKeyStore()
    async with replica(postgres.url(), store) as one:
        assert await one.state(key.key) is KeyState.LIVE
        await revoke_key(store, key.id, revocation(str(Instant.of(now())), "master"))
        async with replica(postgres.url(), store) as two:
            assert await two.state(key.key) is KeyState.REVOKED
    assert await table.value(key, "is_revoked") is False


async def test_a_rotated_key_ends_with_its_overlap(postgres: Postgres, table: Table) -> None:
    """The end in the store counts, though the row has a later one."""
    key = await table.mint("ledgers:read")
    store = MemoryKeyStore()
    async with replica(postgres.url(), store) as one:
        assert await one.state(key.key) is KeyState.LIVE
        until = Instant.of(now())
        await store.revise(key.id, lambda record: record.as_rotated(until, Event(until, "rotated", "cli:me")))

        async def ended() -> bool:
            return await one.state(key.key) is KeyState.EXPIRED

        assert await one.lag(ended) < BOUND


async def test_the_terms_in_the_store_count_for_a_key_of_core(postgres: Postgres, table: Table) -> None:
    """They count when they change, without a look-up, and at a replica that finds the key later."""
    key, store = await table.mint("ledgers:read"), MemoryKeyStore()
    terms = KeyTerms(allow_from=(read_network("10.0.0.0/8"),))
    async with replica(postgres.url(), store) as one:
        await one.lag(lambda: peeked(one, key))
        await store.revise(key.id, lambda record: replace(record, terms=terms))

        async def bound() -> bool:
            found = one.keys.peek(digest(key.key)) or await one.find(key.key)
            return found is not None and found.terms == terms

        assert await one.lag(bound) < BOUND
        # The rows in use are read again meanwhile.
        await asyncio.sleep(2 * READ_SECONDS)
        peek = one.keys.peek(digest(key.key))
        assert peek is not None
        assert (peek.terms, peek.scopes) == (terms, ("ledgers:read",))
        async with replica(postgres.url(), store) as two:
            found = await two.find(key.key)
            assert found is not None
            assert found.terms == terms


async def test_terms_that_one_look_up_found_count_before_the_row_is_confirmed_again(
    postgres: Postgres, table: Table
) -> None:
    """Another request need not wait for the one that looks the key up, and is judged by them all the same."""
    key, store = await table.mint("ledgers:read"), MemoryKeyStore()
    terms = KeyTerms(allow_from=(read_network("10.0.0.0/8"),))
    async with replica(postgres.url(), store) as one:
        await one.lag(lambda: peeked(one, key))
        await store.revise(key.id, lambda record: replace(record, terms=terms))

        async def bound() -> bool:
            await one.cache.lookup(digest(key.key))
            found = one.keys.peek(digest(key.key))
            return found is not None and found.terms == terms

        assert await one.lag(bound) < BOUND


async def test_the_terms_of_a_key_of_core_count_while_the_store_fails(
    postgres: Postgres, table: Table
) -> None:
    """Under grace the terms that were known last count, also after the row was dropped and read anew."""
    key, store = await table.mint("ledgers:read"), Emptiable()
    terms = KeyTerms(allow_from=(read_network("10.0.0.0/8"),))
    async with replica(postgres.url(), store, grace=60, idle_reads=0) as one:
        assert await one.state(key.key) is KeyState.LIVE
        await store.revise(key.id, lambda record: replace(record, terms=terms))

        async def bound() -> bool:
            found = await one.find(key.key)
            return found is not None and found.terms == terms

        await one.lag(bound)
        store.silent = True
        await asyncio.sleep(max(2 * READ_SECONDS, LINK_PROOF_SECONDS))
        assert await bound()


async def test_simultaneous_requests_share_one_comparison(first: Replica, table: Table) -> None:
    """Fifty first requests with one key cause one look-up and one comparison."""
    key = await table.mint("ledgers:read")
    assert await asyncio.gather(*(first.state(key.key) for _ in range(50))) == [KeyState.LIVE] * 50
    assert (first.verifier.asked, first.rows.reads) == (1, 1)


async def test_a_bad_key_is_remembered_for_a_second(first: Replica, table: Table) -> None:
    """A bad key that is sent again causes no look-up, and is known a second after it was created."""
    key, key_id = mint_key(os.urandom), mint_id(os.urandom)
    assert [await first.state(key) for _ in range(20)] == ["unknown"] * 20
    assert first.rows.reads == 1
    await table.insert(key, key_id, ("ledgers:read",), "acme")

    async def live() -> bool:
        return await first.state(key) is KeyState.LIVE

    assert await first.lag(live) < BOUND


@pytest.mark.parametrize("text", ["", "x", "k" * 44, "k" * 43 + "é", "\udcff" * 44, "k" * 5000])
async def test_a_text_that_is_no_key_causes_no_look_up(first: Replica, text: str) -> None:
    """Only texts of 44 characters of base64url are looked up."""
    assert await first.keys.identify("d" * 64, text) is None
    assert first.rows.reads == 0


async def test_a_flood_of_unknown_keys_causes_few_reads(first: Replica, table: Table) -> None:
    """A thousand bad keys at once cause eight reads and no comparison, and the loop keeps running."""
    good = await table.mint("ledgers:read")
    assert await first.state(good.key) is KeyState.LIVE
    stalls: list[float] = []
    watching = asyncio.create_task(watch_loop(stalls))
    before = first.rows.reads
    flood = [first.state(mint_key(os.urandom)) for _ in range(1000)]
    states = await asyncio.gather(*flood, first.state(good.key))
    watching.cancel()
    assert states == ["unknown"] * 1000 + [KeyState.LIVE]
    assert (first.verifier.asked, first.rows.reads - before) == (1, 8)
    assert max(stalls) < 0.5


async def test_a_first_use_waits_for_no_flood_of_another_address(first: Replica, table: Table) -> None:
    """A first use waits for fewer than 6 of the 40 reads that the flood needs."""
    good = await table.mint("ledgers:read")
    flood = [asyncio.create_task(first.state(mint_key(os.urandom), "192.0.2.66")) for _ in range(5000)]
    await asyncio.sleep(0.1)
    before = first.rows.reads
    assert await first.state(good.key) is KeyState.LIVE
    assert first.rows.reads - before < 6
    states = await asyncio.gather(*flood)
    assert set(states) == {"unknown", Code.KEY_STORE_UNAVAILABLE.code}


async def test_a_first_use_waits_for_no_flood_of_known_prefixes_from_another_address(
    first: Replica, table: Table
) -> None:
    """Owners of keys know prefixes, and to compare 100 keys takes longer than a second."""
    good = await table.mint("ledgers:read")
    begun = hashed("another", 9)[:29]
    known = [mint_key(os.urandom) for _ in range(100)]
    await table.pool.executemany(
        "INSERT INTO blnk.api_keys (api_key_id, key, key_prefix, name, owner_id, expires_at)"
        " VALUES ($1, $2, $3, 'n', 'mallory', '2999-01-02T03:04:05Z')",
        [(mint_id(os.urandom), begun + os.urandom(16).hex()[:31], key[:16]) for key in known],
    )
    flood = [asyncio.create_task(first.state(key, "192.0.2.66")) for key in known]
    await asyncio.sleep(0.2)
    began = time.monotonic()
    assert await first.state(good.key) is KeyState.LIVE
    assert time.monotonic() - began < 0.5
    assert await asyncio.gather(*flood) == ["unknown"] * 100


async def test_a_flood_of_one_prefix_waits_in_a_queue_of_its_own(first: Replica, table: Table) -> None:
    """Keys with the prefix of another key get few comparisons, and delay no other key."""
    victim = await table.mint("ledgers:read", cost=10)
    other = await table.mint("ledgers:read")
    stalls: list[float] = []
    watching = asyncio.create_task(watch_loop(stalls))
    flood = asyncio.gather(*(first.state(victim.key[:16] + mint_key(os.urandom)[16:]) for _ in range(200)))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    assert await first.state(other.key) is KeyState.LIVE
    assert time.monotonic() - began < 1
    states = await flood
    watching.cancel()
    assert set(states) == {"unknown", Code.KEY_STORE_UNAVAILABLE.code}
    # One is compared, and MAX_WAITING_PER_PREFIX wait.
    assert states.count("unknown") == MAX_WAITING_PER_PREFIX + 1
    assert first.verifier.asked <= 201
    assert max(stalls) < 0.5
    assert await first.state(victim.key) is KeyState.LIVE


async def watch_loop(stalls: list[float]) -> None:
    """Record how many seconds of CPU time the thread of the loop uses while each sleep of 0.01 s lasts."""
    while True:
        began = time.thread_time()
        await asyncio.sleep(0.01)
        stalls.append(time.thread_time() - began)


@pytest.mark.parametrize("outage", ["down", "stalled"])
async def test_without_the_database_every_key_fails_until_it_is_back(
    first: Replica, postgres: Postgres, table: Table, outage: str
) -> None:
    """Known keys fail within 2 s and unknown ones at once, and all work 2 s after the database is back."""
    known, unknown = await table.mint("ledgers:read"), await table.mint("ledgers:read")
    await first.lag(lambda: peeked(first, known))
    unavailable = Code.KEY_STORE_UNAVAILABLE.code

    async def refused() -> bool:
        return await first.state(known.key) == unavailable

    async def live() -> bool:
        return [await first.state(key.key) for key in (known, unknown)] == [KeyState.LIVE, KeyState.LIVE]

    outages = AsyncExitStack()
    outages.enter_context(getattr(postgres, outage)())
    async with outages:
        began = time.monotonic()
        assert await first.state(unknown.key) == unavailable
        assert time.monotonic() - began < 2.5
        while not await refused():
            await asyncio.sleep(0.01)
        assert time.monotonic() - began < 2 * BOUND + 0.5
        assert first.keys.failure is not None
    assert await first.lag(live) < BOUND
    await first.lag(lambda: sound(first))


async def sound(on: Replica) -> bool:
    return on.keys.failure is None


class SlowStore(MemoryKeyStore):
    """Delays look-ups and reads of the changes by as many seconds as a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.look_up = self.reading = 0.0

    async def get_by_digest(self, digest: str, client: str = "") -> KeyRecord | None:
        record = await super().get_by_digest(digest, client)
        await asyncio.sleep(self.look_up)
        return record

    async def changes(self, after: str, wait: float) -> KeyChangeBatch:
        changes = await super().changes(after, wait)
        await asyncio.sleep(self.reading)
        return changes


async def test_a_row_that_became_too_old_during_the_look_up_is_not_used(
    postgres: Postgres, table: Table
) -> None:
    """Each of the two is in time, but together they take so long that the row may be 2.5 s old."""

    class SlowRows(CountingRows):
        delay = 0.0

        async def by_ids(self, key_ids: Sequence[str]) -> dict[str, CoreRow]:
            rows = await super().by_ids(key_ids)
            await asyncio.sleep(self.delay)
            return rows

    key, store, rows = await table.mint("ledgers:read"), SlowStore(), SlowRows(postgres.url())
    cache = KeyCache(store, time.monotonic)
    # `keys.follow` does not run, so rows are read as for a key that was not used for 30 s.
    keys = CoreAuthority(cache, CoreSources(store, rows, Verifier()), KeyClocks(time.monotonic, now))
    following = asyncio.create_task(cache.follow())
    assert await keys.identify(digest(key.key), key.key) is not None
    await asyncio.sleep(CONFIRMED_SECONDS + 0.05)
    rows.delay, store.look_up = CONFIRMED_SECONDS - 0.1, LATE_SECONDS - 0.4
    with pytest.raises(GatewayError) as failure:
        await keys.identify(digest(key.key), key.key)
    assert failure.value.reason == "Core's database responds too late"
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await keys.close()


async def test_a_rotation_counts_though_its_change_is_late(postgres: Postgres, table: Table) -> None:
    """The store responds to look-ups, and the end of the key in them is kept."""
    key, store = await table.mint("ledgers:read"), SlowStore()
    async with replica(postgres.url(), store) as one:
        assert await one.state(key.key) is KeyState.LIVE
        store.reading = LINK_PROOF_SECONDS + 0.3
        await asyncio.sleep(2 * store.reading)
        assert not one.cache.linked
        end = Instant.of(now() + timedelta(seconds=1.5))
        await store.revise(
            key.id, lambda record: record.as_rotated(end, Event(instant(AT), "rotated", "cli:ann"))
        )
        for _ in range(5):
            await one.find(key.key)
            await asyncio.sleep(0.1)
        store.reading = 0.0

        async def expired() -> bool:
            return await one.state(key.key) is KeyState.EXPIRED

        assert await one.lag(expired) < 1.5
        assert time.time() < end.unix + 0.5


async def test_a_key_that_cannot_be_stored_is_refused(postgres: Postgres, table: Table) -> None:
    """A key that cannot be stored is refused, because its revocation could be missed."""

    class Failing(MemoryKeyStore):
        async def add(self, record: object, quota: object = None, *, terms_only: bool = False) -> None:
            raise StoreUnavailableError

    key = await table.mint("ledgers:read")
    async with replica(postgres.url(), Failing()) as one:
        assert await one.state(key.key) == Code.KEY_STORE_UNAVAILABLE.code


async def test_the_record_of_a_row_has_times_that_can_be_written(
    first: Replica, postgres: Postgres, table: Table
) -> None:
    """Times outside the years of RFC 3339 are cut to them, and the revocation of the row is not copied."""
    key = await table.mint("ledgers:read")
    await table.change(key, "expires_at = '294000-01-01', created_at = '-infinity', is_revoked = true")
    row = (await first.rows.by_ids([key.id]))[key.id]
    record = record_of(row, "d")
    assert (str(record.expires_at), str(record.created_at)) == (
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
    )
    assert (record.created_by, record.revoked) == ("core", False)
    assert record.bcrypt == row.hashed
    assert row.hashed not in repr(row)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda record: record, KeyState.LIVE),
        (lambda record: record.as_disabled(instant(AT), "cli:ann"), KeyState.DISABLED),
        (lambda record: record.as_revoked(revocation(AT, "cli:ann")), KeyState.REVOKED),
        (
            lambda record: record.as_rotated(Instant.of(now()), Event(instant(AT), "rotated", "cli:ann")),
            KeyState.EXPIRED,
        ),
    ],
)
async def test_a_change_of_a_key_before_its_first_use_counts(
    postgres: Postgres, table: Table, change: Callable[[KeyRecord], KeyRecord], state: KeyState
) -> None:
    """A command stored the id alone; the first use adds the digest and the hash, and the change stays."""
    store = MemoryKeyStore()
    async with replica(postgres.url(), store) as one:
        key = await table.mint("ledgers:read")
        row = (await one.rows.by_ids([key.id]))[key.id]
        pending = change(pending_record(row, Instant.of(now())))
        await store.add_all([pending])
        assert await one.state(key.key) == state
        assert await store.get_by_digest(digest(key.key)) == replace(
            pending, digest=digest(key.key), bcrypt=row.hashed
        )
        assert [batch async for batch in store.scan()] == [[await store.get(key.id)]]


async def test_a_command_may_store_a_record_during_the_first_use_of_its_key(
    postgres: Postgres, table: Table
) -> None:
    """The record that a command stored during the first use, pending and disabled, is not overwritten."""

    class Late(MemoryKeyStore):
        async def bind_digest(self, key_id: str, digest: str, *, moved: bool = False) -> KeyRecord | None:
            known = await super().bind_digest(key_id, digest, moved=moved)
            if await self.get(key_id) is None:
                await self.add_all([pending])
            return known

    key = await table.mint("ledgers:read")
    store = Late()
    async with replica(postgres.url(), store) as one:
        row = (await one.rows.by_ids([key.id]))[key.id]
        pending = pending_record(row, Instant.of(now())).as_disabled(instant(AT), "cli:ann")
        assert await one.state(key.key) is KeyState.DISABLED


def test_a_row_updates_its_record() -> None:
    """A row replaces members of its record, except the revocation and an earlier end."""
    row = CoreRow("api_key_1", "hash", "new", "globex", ("a:b",), 2e9, 1e9, True, "AAAAAAAAAAAAAAAA")
    record = pending_record(replace(row, name="old", owner="acme", revoked=False), Instant.of(now()))
    later = with_row(record, row)
    assert later == replace(record, name="new", owner="globex")
    end = read_instant("2026-03-01T00:00:00Z")
    assert with_row(later.as_rotated(end, Event(instant(AT), "rotated", "cli:ann")), row).expires_at == end
    assert (
        with_row(
            later.as_rotated(end, Event(instant(AT), "rotated", "cli:ann")), replace(row, expires_at=1e9)
        ).expires_at.unix
        == 1e9
    )
    revoked = pending_record(row, end)
    assert revoked.revocation == Revocation(end, "core")


def test_the_current_record_combines_the_row_and_the_stored_record() -> None:
    """The first revocation stays, one without a time counts from now, and a key without a row is revoked."""
    at, now_ = read_instant(AT), read_instant("2026-03-01T00:00:00Z")
    row = CoreRow("api_key_1", "hash", "n", "acme", ("a:b",), 2e9, 1e9, False, "AAAAAAAAAAAAAAAA")
    dead = replace(row, revoked=True)
    record = record_of(row, "d")
    assert current_record(None, None, now_) is None
    assert current_record(None, row, now_) == pending_record(row, now_)
    assert current_record(record, row, now_) == record
    assert current_record(record, replace(row, owner="globex"), now_) == replace(record, owner="globex")
    assert current_record(record, dead, now_) == record.as_revoked(Revocation(now_, "core"))
    assert current_record(record, replace(dead, revoked_at=at.unix), now_) == record.as_revoked(
        revocation(AT, "core")
    )
    assert current_record(record.as_revoked(revocation(AT, "master")), dead, now_) == record.as_revoked(
        revocation(AT, "master")
    )
    assert current_record(record, None, now_) == record.as_revoked(Revocation(None, "core", GONE))
    used = replace(row, last_used_at=at.unix)
    assert current_record(record, used, now_) == replace(record, last_used_at=instant(AT))
    assert current_record(record.with_last_use(now_.unix), used, now_) == replace(record, last_used_at=now_)
