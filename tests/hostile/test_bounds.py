"""The bytes that the gateway holds for all clients, and how much larger than it came a body may leave.

Rules kept here:
- The limits are the shipped ones scaled down, so that fifty connections reach them.
"""

from __future__ import annotations

import asyncio

import pytest

from gateway.keys.memory_store import MemoryKeyStore
from gateway.keys.record import KeyRecord
from gateway.stamping.batches import MAX_ITEMS
from tests.conftest import Start
from tests.core_stand_in import StandInCore, held
from tests.raw_client import RawClient, Response, chunked, request
from tests.running import Running, eventually

BODY = 64 * 1024
BUFFERED = 10 * BODY
CLIENTS = 50
MEBIBYTE = 1 << 20
SHIPPED_BODY = 5 * MEBIBYTE
CONTENT = b'{"name":"%b"}' % (b"x" * (BODY - 11))
SCALED = {"body": BODY, "buffered": BUFFERED}

# The framing of a body of BODY bytes, and the whole of it as it is sent.
FRAMINGS = {
    "by its length": ([("Content-Length", str(len(CONTENT)))], CONTENT),
    "chunked": ([("Transfer-Encoding", "chunked")], chunked(CONTENT[:1000], CONTENT[1000:])),
}


async def upload(gateway: Running, key: str, headers: list[tuple[str, str]], part: bytes) -> RawClient:
    """Open a connection, and send a head and a part of its body."""
    client = await gateway.connect()
    await client.send(request("POST", "/ledgers", key=key, headers=headers) + part)
    return client


async def refused(clients: list[RawClient], count: int) -> tuple[list[RawClient], list[RawClient]]:
    """Return the clients that wait for the rest of their bodies, after `count` others got responses."""
    reading: dict[asyncio.Future[Response], RawClient] = {
        asyncio.ensure_future(client.response()): client for client in clients
    }
    done: set[asyncio.Future[Response]] = set()
    while len(done) < count:
        more, _ = await asyncio.wait(set(reading) - done, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        assert more, f"only {len(done)} were answered"
        done |= more
    waiting = [client for future, client in reading.items() if future not in done]
    for future in set(reading) - done:
        future.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    responses = [future.result() for future in done]
    assert {(response.status, response.code) for response in responses} == {(503, "GATEWAY_UNAVAILABLE")}
    assert {response.value("retry-after") for response in responses} == {"1"}
    return waiting, [reading[future] for future in done]


@pytest.mark.parametrize(("headers", "body"), FRAMINGS.values(), ids=FRAMINGS.keys())
async def test_bodies_are_bounded_over_all_connections(
    start_gateway: Start, upstream: StandInCore, headers: list[tuple[str, str]], body: bytes
) -> None:
    """Of fifty slow uploads as many are held as fit; the others get 503, and no bytes stay reserved."""
    gateway = await start_gateway(limits=SCALED)
    key = (await gateway.mint("ledgers:write")).key
    fitting = BUFFERED // BODY
    for _ in range(2):
        clients = [await upload(gateway, key, headers, body[:2000]) for _ in range(CLIENTS)]
        for client in clients:
            await client.send(body[2000:-10])
        waiting, _ = await refused(clients, CLIENTS - fitting)
        for client in waiting:
            await client.send(body[-10:])
        assert {(await client.response()).status for client in waiting} == {200}
        # Some of the refused ones held bytes while others asked for theirs.
        assert fitting // 2 <= len(waiting) == len(upstream.take()) <= fitting


async def test_what_is_announced_costs_nothing(start_gateway: Start) -> None:
    """A head that announces a large body takes none of the bytes that others need."""
    gateway = await start_gateway(limits=SCALED)
    silent, other = await gateway.mint("ledgers:write"), await gateway.mint("ledgers:write")
    headers, _ = FRAMINGS["by its length"]
    for _ in range(CLIENTS):
        await upload(gateway, silent.key, headers, b"{")
    assert (await gateway.ask("POST", "/ledgers", key=other.key, body=CONTENT)).status == 200


async def test_the_key_that_holds_most_yields_to_another(start_gateway: Start, upstream: StandInCore) -> None:
    """A key that holds all bytes with unfinished bodies loses one to the body of another key."""
    gateway = await start_gateway(limits=SCALED)
    greedy, other = await gateway.mint("ledgers:write"), await gateway.mint("ledgers:write")
    headers, body = FRAMINGS["by its length"]
    clients = [await upload(gateway, greedy.key, headers, body[:-10]) for _ in range(BUFFERED // BODY)]
    await asyncio.sleep(0.1)  # by now their bytes are counted; if they were not, the test would only fail
    assert (await gateway.ask("POST", "/ledgers", key=other.key, body=CONTENT)).status == 200
    waiting, _ = await refused(clients, 1)
    for client in waiting:
        await client.send(body[-10:])
    assert {(await client.response()).status for client in waiting} == {200}


async def test_bodies_that_core_works_on_leave_some_to_another_key(
    start_gateway: Start, upstream: StandInCore
) -> None:
    """Bodies that Core works on cannot be given up, so some bytes are kept for another key."""
    gateway = await start_gateway(limits=SCALED, upstream={"connections": 20})
    greedy, other = await gateway.mint("ledgers:write"), await gateway.mint("ledgers:write")
    release = asyncio.Event()
    whole = BUFFERED // (BODY + 1000)
    upstream.script(*[held(release)] * whole)
    asked = [
        asyncio.create_task(gateway.ask("POST", "/ledgers", key=greedy.key, body=CONTENT))
        for _ in range(whole)
    ]
    await upstream.arrived(whole)
    late = await gateway.ask("POST", "/ledgers", key=greedy.key, body=CONTENT)
    assert (await gateway.ask("POST", "/ledgers", key=other.key, body=CONTENT)).status == 200
    release.set()
    assert [response.status for response in [late, *await asyncio.gather(*asked)]] == [503] + [200] * whole


class SlowLists(MemoryKeyStore):
    """A store whose lists take until they are released."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[str] = []
        self.let_go = asyncio.Event()

    async def owned(self, owner: str) -> list[KeyRecord]:
        self.begun.append(owner)
        await self.let_go.wait()
        return await super().owned(owner)


async def test_lists_of_keys_are_made_one_at_a_time_for_each_owner(start_gateway: Start) -> None:
    """One list of an owner is made at a time, some wait, and more are refused."""
    store = SlowLists()
    gateway = await start_gateway(store=store)
    many = [await gateway.mint("api-keys:read", owner="many") for _ in range(12)]
    one = await gateway.mint("api-keys:read", owner="one")
    asked = [asyncio.create_task(gateway.ask("GET", "/api-keys", key=key.key)) for key in many]
    early, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    asked.append(asyncio.create_task(gateway.ask("GET", "/api-keys", key=one.key)))
    await eventually(lambda: "one" in store.begun, "the list of another owner")
    assert ({answered.result().status for answered in early}, store.begun) == ({503}, ["many", "one"])
    store.let_go.set()
    statuses = [response.status for response in await asyncio.gather(*asked)]
    assert (sorted(statuses[:-1]), statuses[-1]) == ([200] * 9 + [503] * 3, 200)


async def test_a_client_that_leaves_gives_its_bytes_back(start_gateway: Start, upstream: StandInCore) -> None:
    """A client that leaves in mid-body, or whose body is refused, keeps no bytes reserved."""
    gateway = await start_gateway(limits={"body": BODY, "buffered": BODY})
    key = (await gateway.mint("ledgers:write")).key
    headers, body = FRAMINGS["chunked"]
    for _ in range(3):
        (await upload(gateway, key, headers, body[:2000])).abort()
        assert (await gateway.ask("POST", "/ledgers", key=key, body=b"null")).status in (400, 503)
        large = await gateway.ask("POST", "/ledgers", key=key, body=CONTENT + b" ")
        assert large.status in (413, 503)
    async with await gateway.connect() as client:
        assert (await client.ask("POST", "/ledgers", key=key, body=CONTENT)).status == 200
    assert [len(got.body) for got in upstream.requests if got.complete] != []


async def test_a_body_over_the_limit_is_refused_before_it_is_read(
    start_gateway: Start, upstream: StandInCore
) -> None:
    """A body over the limit, declared or found, is 413, and nothing is forwarded."""
    gateway = await start_gateway(limits=SCALED)
    key = (await gateway.mint("ledgers:write")).key
    declared = await upload(gateway, key, [("Content-Length", str(BODY + 1))], b"{")
    found = await upload(gateway, key, [("Transfer-Encoding", "chunked")], chunked(b"{" * (BODY + 1))[:-5])
    for client in (declared, found):
        response = await client.response()
        assert (response.status, response.code) == (413, "GEN_PAYLOAD_TOO_LARGE")
    assert upstream.requests == []


@pytest.mark.parametrize("item", [b"{}", b'{"meta_data":{"BLNK_GENERATED_BY":"forged"}}'])
async def test_what_leaves_is_at_most_a_mebibyte_more(
    start_gateway: Start, upstream: StandInCore, item: bytes
) -> None:
    """A stamped body of the most items and the largest size leaves at most a mebibyte larger."""
    gateway = await start_gateway(upstream={"max_body": SHIPPED_BODY + MEBIBYTE})
    key = (await gateway.mint("transactions:write")).key
    items = b",".join([item] * MAX_ITEMS)
    body = b'{"transactions":[%b],"a":"' % items
    body += b"x" * (SHIPPED_BODY - len(body) - 2) + b'"}'
    assert (await gateway.ask("POST", "/transactions/bulk", key=key, body=body)).status == 200
    (got,) = upstream.requests
    assert SHIPPED_BODY < got.body_length <= SHIPPED_BODY + MEBIBYTE


async def test_a_body_that_its_stamps_make_too_long_for_core_is_not_sent(
    gateway: Running, upstream: StandInCore
) -> None:
    """A body that stamps make too long for Core is 413, naming both sizes and Core's limit."""
    key = await gateway.mint("transactions:write")
    stamps = b'{"a":1,"meta_data":{"BLNK_GENERATED_BY":"%b"}}' % key.id.encode()
    item, added = b'{"a":1}', len(stamps) - 7
    body = b'{"transactions":[%b],"a":"' % b",".join([item] * MAX_ITEMS)
    body += b"x" * (SHIPPED_BODY - MAX_ITEMS * added - len(body) - 2) + b'"}'
    assert (await gateway.ask("POST", "/transactions/bulk", key=key.key, body=body)).status == 200
    assert [got.body_length for got in upstream.take()] == [SHIPPED_BODY]
    longer = body[:-2] + b'x"}'
    response = await gateway.ask("POST", "/transactions/bulk", key=key.key, body=longer)
    assert (response.status, response.code, response.json()["error"]) == (
        413,
        "GEN_PAYLOAD_TOO_LARGE",
        f"Request body too large: {len(longer)} bytes, 5242881 with the stamp; "
        "Blnk Core takes at most 5242880",
    )
    assert upstream.take() == []


async def test_a_body_that_core_would_not_take_unstamped_is_refused_before_it_is_read(
    start_gateway: Start, upstream: StandInCore
) -> None:
    """A body too long for Core is refused before it is read, however large `limits.body` is."""
    gateway = await start_gateway(limits={"body": 2 * BODY}, upstream={"max_body": BODY})
    key = (await gateway.mint("ledgers:write")).key
    client = await upload(gateway, key, [("Content-Length", str(BODY + 1))], b"{")
    response = await client.response()
    assert (response.status, response.code) == (413, "GEN_PAYLOAD_TOO_LARGE")
    assert upstream.requests == []
