"""No body holds the event loop of a running gateway for longer than 50 ms, nor do many of them.

Rules kept here:
- A heartbeat on the gateway's own loop measures each of its turns in CPU time of that thread, so that
  other processes on the machine do not count; the best of a few runs counts.
- The client runs in a thread of its own, and the upstream, which is on the loop too, keeps nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.config import Address
from tests.core_stand_in import StandInCore
from tests.raw_client import request
from tests.running import Running
from tests.stamping.test_bounds import BULK, CASES, SIZE

LONGEST = 0.050  # seconds of CPU time between two turns of the loop
RUNS = 4
MANY = 200
# The longest wait of another key's small request while MANY bodies of one key are stamped, in seconds.
PATIENT = 0.1

FORGED = b'"meta_data":{"BLNK_GENERATED_BY":"forged","a":"'
MINTED = b'"name":"k","owner":"acme","expires_at":"2099-01-01T00:00:00Z",'
BODIES: dict[str, tuple[str, bytes, int]] = {
    "a real batch of 10,000 items": ("/transactions/bulk", BULK, 200),
    "... each with a forged stamp": (
        "/transactions/bulk",
        BULK.replace(b'"meta_data":{"a":"', FORGED).replace(b'"precision":100,', b""),
        200,
    ),
    "5 MB of {},": ("/transactions/bulk", CASES["empty items"][1], 400),
    "500,000 members": ("/ledgers", b"{%b}" % b",".join(b'"%05x":1' % n for n in range(500_000)), 200),
    "one string of 5 MB": ("/ledgers", CASES["one string"][1].replace(b"x" * 100, b"", 1), 200),
    "nesting in meta_data": ("/ledgers", CASES["... in meta_data with a forged stamp"][1], 200),
    "escapes beside brackets": ("/ledgers", CASES["escapes beside brackets"][1], 200),
    "nesting without end": ("/ledgers", CASES["nesting without end"][1], 400),
    "a key without end": ("/api-keys", b'{"name":%b' % (b"[" * 65_000), 400),
    "a key of 10,000 scopes": (
        "/api-keys",
        b'{%b"scopes":[%b]}' % (MINTED, b",".join([b'"a:b"'] * 10_000)),
        400,
    ),
    "a key of 20,000 empty scopes": (
        "/api-keys",
        b'{%b"scopes":[%b]}' % (MINTED, b",".join([b'""'] * 21_000)),
        400,
    ),
    "a key of many members": (
        "/api-keys",
        b"{%b}" % b",".join(b'"a%d":1' % n for n in range(6000)) + b"x",
        400,
    ),
    "a key of more": ("/api-keys", b'{%b"scopes":[%b]}' % (MINTED, b",".join([b'"a:b"'] * 100_000)), 413),
}


class Heartbeat:
    """The longest turn of the event loop since the last call."""

    def __init__(self) -> None:
        self._longest = 0.0
        self._last = time.thread_time()

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self._longest = max(self._longest, now - self._last)
            self._last = now

    def longest(self) -> float:
        """Return it in seconds of CPU time, without what the caller has done in this turn."""
        longest, self._longest = self._longest, 0.0
        self._last = time.thread_time()
        return longest


@asynccontextmanager
async def beating() -> AsyncIterator[Heartbeat]:
    heart = Heartbeat()
    task = asyncio.ensure_future(heart.beat())
    try:
        yield heart
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def exchange(address: Address, data: bytes) -> bytes:
    """Return the status line of the response to these bytes; blocks."""
    with socket.create_connection((address.host, address.port), timeout=30) as client:
        client.sendall(data)
        return client.recv(64).split(b"\r\n")[0]


@pytest.mark.parametrize("name", BODIES)
async def test_no_body_holds_it_for_long(gateway: Running, upstream: StandInCore, name: str) -> None:
    """Other requests get their turn while a body is read, counted, stamped and sent."""
    upstream.keep_bodies = False
    key = (await gateway.mint("*:*")).key
    target, body, status = BODIES[name]
    assert len(body) <= SIZE
    data = request("POST", target, key=key, body=body)
    turns = []
    async with beating() as heart:
        for _ in range(RUNS):
            heart.longest()
            line = await asyncio.to_thread(exchange, gateway.gateway.address, data)
            assert line.startswith(b"HTTP/1.1 %d " % status)
            turns.append(heart.longest())
            if turns[-1] < LONGEST:
                break
    assert min(turns) < LONGEST, turns


async def test_many_bodies_of_one_key_hold_nobody_up(gateway: Running, upstream: StandInCore) -> None:
    """Another key is served while two hundred bodies of 30 kB, which end in one turn, are stamped."""
    upstream.keep_bodies = False
    mallory, acme = (await gateway.mint("transactions:write")).key, (await gateway.mint("ledgers:*")).key
    body = CASES["30 kB of empty items"][1]
    data = request("POST", "/transactions/bulk", key=mallory, body=body)
    clients = [await gateway.connect(keep=False) for _ in range(MANY)]
    for client in clients:
        await client.send(data[:-1])
    waits = []
    async with await gateway.connect() as other, beating() as heart:
        for client in clients:
            await client.send(b"}")
        turns = []
        for _ in range(20):
            began = time.monotonic()
            response = await other.ask("POST", "/ledgers", key=acme, body=b'{"name":"x"}')
            waits.append(time.monotonic() - began)
            turns.append(heart.longest())
            assert response.status == 200
    # In the first turn two hundred requests were read, which takes time whatever their bodies.
    assert sorted(turns)[len(turns) // 2] < LONGEST, turns
    assert sorted(waits)[len(waits) // 2] < PATIENT, waits
    for client in clients:
        client.abort()


SMALL_PIECES = {
    "requests": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 5_000,
    "chunks": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 25_000,
    "blank lines": b"\r\n" * 75_000,
}


@pytest.mark.parametrize("what", SMALL_PIECES)
async def test_small_pieces_of_many_clients_hold_nobody_up(gateway: Running, what: str) -> None:
    """Another client is served while 150 kB of each of a hundred clients without a key wait to be parsed."""
    key = (await gateway.mint("ledgers:read")).key
    address = gateway.gateway.address
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(100)]
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            client.settimeout(10)
            client.connect((address.host, address.port))
        async with await gateway.connect(local="127.0.0.2") as other, beating() as heart:
            assert (await other.ask("GET", "/ledgers", key=key)).status == 200
            # The loop is blocked until all of it waits to be read.
            for client in clients:
                client.sendall(SMALL_PIECES[what])
            heart.longest()
            assert (await other.ask("GET", "/ledgers", key=key)).status == 200
            assert heart.longest() < 2 * LONGEST
