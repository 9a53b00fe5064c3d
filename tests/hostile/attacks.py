"""The attacks: what one connection of each does, how many there are, and what must hold meanwhile.

Rules kept here:
- An attack takes what the shipped limits leave to one client, and no more processor time than it must.
- A bound that is wider than the others says why.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.hostile.bounds import Bounds
from tests.hostile.handshakes import hello, shake_hands
from tests.hostile.lines import Line
from tests.raw_client import request

_MEBIBYTE: Final = 1 << 20
# More than is buffered before Core is asked for a connection, so that the rest is streamed.
_STREAMED: Final = 96 * 1024
_ITEMS: Final = b'{"transactions":[' + b",".join([b"{}"] * 9_999) + b"]}"
_ITEM: Final = b'{"precise_amount":%b,"reference":"%b","description":"a"}' % (b"1" * 60, b"r" * 80)
_BULK: Final = b'{"transactions":[' + b",".join([_ITEM] * 9_999) + b"]}"
_CHUNKS: Final = b"1\r\nx\r\n" * 60_000 + b"0\r\n\r\n"
_NAMES: Final = (60_000, 200, 1)
_LISTED: Final = 20
_PIPELINED: Final = 200
_TINY: Final = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
_TINIES: Final = 300
_SMALL_BUFFER: Final = 4096
_HELLO: Final = hello()
_BARREN: Final = 4096
_RANDOM: Final = random.Random(10)  # noqa: S311  # it only spreads what attackers do

CLIENTS: Final = "listen"
PRIVATE: Final = ("admin", "health")


@dataclass(frozen=True, slots=True)
class Gateway:
    """Settings that differ from the shipped ones: open files, the reader of the log, size of Redis, TLS."""

    files: int = 0
    log_unread: bool = False
    redis_memory: str = ""
    rate: int = 0
    tls: bool = False


_AS_SHIPPED: Final = Gateway()
_OVER_TLS: Final = Gateway(tls=True)
_STRICT: Final = Bounds()


@dataclass(frozen=True, slots=True)
class Attack:
    """As many connections as `count`, each of which does `behave` again and again."""

    behave: Callable[[Line], Awaitable[None]]
    connections: int
    bounds: Bounds = _STRICT
    gateway: Gateway = _AS_SHIPPED
    listeners: tuple[str, ...] = (CLIENTS,)
    addresses: int = 1
    receive_buffer: int = 0
    variant: str = ""

    @property
    def name(self) -> str:
        """The attack's name, unique and short enough to type."""
        return self.behave.__name__.replace("_", " ") + (f", {self.variant}" if self.variant else "")

    @property
    def what(self) -> str:
        """A description of the attack, for the table."""
        return str(self.behave.__doc__) + (f", {self.variant}" if self.variant else "")


def _announcing(method: str, target: str, length: int, key: str | None = None) -> bytes:
    return request(method, target, key=key, headers=[("Content-Length", str(length))])


async def no_attack(line: Line) -> None:
    """no attack, for comparison"""


async def half_sent_bodies(line: Line) -> None:
    """half of a body on `GET /health`, without a key"""
    await line.send(_announcing("GET", "/health", 60_000) + b"x" * 30_000)
    await line.responses()


async def half_sent_questions(line: Line) -> None:
    """half of a body on `POST /explain` of the admin listener"""
    head = b"POST /explain HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2000\r\n\r\n"
    await line.send(head + b"x" * 1000)
    await line.responses()


async def half_sent_uploads(line: Line) -> None:
    """a part of a large upload, and then nothing"""
    await line.send(_announcing("POST", "/reconciliation/upload", _MEBIBYTE, line.target.key))
    await line.send(b"x" * _STREAMED)
    await line.responses()


async def trickled_uploads(line: Line) -> None:
    """large uploads at 4 KiB a second"""
    await line.send(_announcing("POST", "/reconciliation/upload", _MEBIBYTE, line.target.key))
    await line.send(b"x" * _STREAMED)
    for _ in range((_MEBIBYTE - _STREAMED) // 2048):
        await asyncio.sleep(0.5)
        await line.send(b"x" * 2048)
    await line.responses()


async def announced_bodies(line: Line) -> None:
    """bodies of 5 MiB announced, of which one byte comes"""
    await line.send(_announcing("POST", "/transactions", 5 * _MEBIBYTE, line.target.key) + b"{")
    await line.responses()


async def bodies_almost_whole(line: Line) -> None:
    """bodies of 5 MiB, of which 4 MiB come"""
    await line.send(_announcing("POST", "/transactions", 5 * _MEBIBYTE, line.target.key))
    await line.send(b"{" + b" " * 4 * _MEBIBYTE)
    await line.responses()


async def readers_of_nothing(line: Line) -> None:
    """responses of 4 MiB, of which the client takes nothing"""
    await line.send(_large(line))
    await asyncio.sleep(3600)


async def slow_readers(line: Line) -> None:
    """responses of 4 MiB, of which the client takes a byte now and then"""
    await line.send(_large(line))
    while True:
        await asyncio.sleep(0.5)
        await line.take(1)


async def patient_readers(line: Line) -> None:
    """responses of 4 MiB, of which the client takes 16 KiB every 0.7 s"""
    await line.send(_large(line))
    while True:
        await asyncio.sleep(0.7)
        await line.take(16 * 1024)


def _large(line: Line) -> bytes:
    return request("GET", f"/ledgers?size={4 * _MEBIBYTE}", key=line.target.key)


async def abandoned_reads(line: Line) -> None:
    """GETs that Core needs 5 s for, given up after 0.2 s and sent again"""
    await line.send(request("GET", "/ledgers?wait=5", key=line.target.key))
    await asyncio.sleep(0.2)


async def abandoned_changes(line: Line) -> None:
    """POSTs that Core needs 1 s for, given up after 0.2 s and sent again"""
    await line.send(request("POST", "/transactions?wait=1", key=line.target.key, body=b'{"amount":1}'))
    await asyncio.sleep(0.2)


async def slow_requests(line: Line) -> None:
    """GETs that Core needs 1 s for, all with one key"""
    while True:
        await line.send(request("GET", "/ledgers?wait=1", key=line.target.key))
        await line.response()


async def aborts(line: Line) -> None:
    """clients that leave at any moment of a request, or of its response"""
    whole = _RANDOM.choice(_ABORTED)(line.target.key)
    sent = _RANDOM.randrange(len(whole) + 1)
    await line.send(whole[: max(sent, len(whole) - 5000)])
    await asyncio.sleep(_RANDOM.random() / 4)


_ABORTED: Final = (
    lambda key: request("GET", "/ledgers?wait=0.1", key=key),
    lambda key: request("GET", "/ledgers?size=500000", key=key),
    lambda key: request("POST", "/transactions?wait=0.1", key=key, body=b'{"amount":1}'),
    lambda key: request("POST", "/transactions/filter", key=key, body=b" " * _STREAMED),
)


async def unknown_keys(line: Line) -> None:
    """keys that nobody has, a new one each time"""
    while True:
        key = base64.urlsafe_b64encode(os.urandom(32)).decode()
        await line.send(request("GET", "/ledgers", key=key))
        await line.response()


async def refusals(line: Line) -> None:
    """requests that get 403 and 404, all with one key"""
    while True:
        for target in ("/identities", "/ledgers/a/b/c"):
            await line.send(request("GET", target, key=line.target.key))
            await line.response()


async def half_sent_heads(line: Line) -> None:
    """60 KiB of a head, and then nothing"""
    await line.send(b"GET /health HTTP/1.1\r\nHost: x\r\n" + _filling(60 * 1024))
    await line.responses()


async def huge_heads(line: Line) -> None:
    """900 KiB of a head, in lines of 8 KiB, and then nothing"""
    await line.send(b"GET /health HTTP/1.1\r\nHost: x\r\n" + _filling(900 * 1024))
    await line.responses()


def _filling(size: int) -> bytes:
    header = b"X-Filling: " + b"x" * 8000 + b"\r\n"
    return header * (size // len(header))


async def heads_byte_by_byte(line: Line) -> None:
    """a head whose bytes come one a second"""
    for byte in b"GET /health/alive HTTP/1.1\r\nHost: x\r\n" * 10:
        await line.send(bytes([byte]))
        await asyncio.sleep(1)


async def idle_connections(line: Line) -> None:
    """connections on which nothing is sent"""
    await line.responses()


async def empty_items(line: Line) -> None:
    """bulk bodies of 9,999 empty items"""
    while True:
        await line.send(request("POST", "/transactions/bulk", key=line.target.key, body=_ITEMS))
        await line.response()


async def large_bulks(line: Line) -> None:
    """bulk bodies of 9,999 items, of 2 MB"""
    while True:
        await line.send(request("POST", "/transactions/bulk", key=line.target.key, body=_BULK))
        await line.response()


async def tiny_chunks(line: Line) -> None:
    """bodies in 60,000 chunks of one byte"""
    framing = [("Transfer-Encoding", "chunked")]
    head = request("POST", "/transactions/filter", key=line.target.key, headers=framing)
    while True:
        await line.send(head + _CHUNKS)
        await line.response()


async def pipelined_requests(line: Line) -> None:
    """200 requests in one segment, again and again"""
    many = request("GET", "/ledgers", key=line.target.key) * _PIPELINED
    while True:
        await line.send(many)
        for _ in range(_PIPELINED):
            await line.response()


async def tiny_requests(line: Line) -> None:
    """300 requests of 27 bytes in one segment, without a key, again and again"""
    while True:
        await line.send(_TINY * _TINIES)
        for _ in range(_TINIES):
            await line.response()


async def minting(line: Line) -> None:
    """new keys with the longest names that are taken, and lists of them"""
    for number in range(1_000_000):
        name = "n" * _NAMES[number % len(_NAMES)]
        wanted = {"name": name, "owner": "mallory", "scopes": [], "expires_at": "2099-01-01T00:00:00Z"}
        body = json.dumps(wanted).encode()
        await line.send(request("POST", "/api-keys", key=line.target.minter, body=body))
        await line.response()
        if number % _LISTED == 0:
            await line.send(request("GET", "/api-keys?owner=mallory", key=line.target.minter))
            await line.response()


async def keyless_requests(line: Line) -> None:
    """requests without a key"""
    while True:
        await line.send(request("GET", "/ledgers"))
        await line.response()


async def reconnects(line: Line) -> None:
    """a connection for each request, reset once it is answered"""
    await line.send(request("GET", "/ledgers"))
    await line.response()


async def connects(line: Line) -> None:
    """connections that are reset at once"""


async def scrapes(line: Line) -> None:
    """`GET /metrics` on the private listeners"""
    while True:
        await line.send(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await line.response()


async def begun_handshakes(line: Line) -> None:
    """handshakes of TLS that are begun, given up once they are answered, and begun again"""
    await line.send(_HELLO)
    await line.take(1)


async def barren_records(line: Line) -> None:
    """a KeyUpdate of TLS for every two bytes of data, again and again"""
    records = await shake_hands(line)
    while True:
        await line.send(records.barren(_BARREN))
        # A socket that takes everything would keep the attacker's other connections from their turn.
        await asyncio.sleep(0)


# Held bytes: the budgets of heads and responses (64 MiB) and of bodies (64 MiB), and Python's overhead.
_HELD: Final = Bounds(growth=256 * _MEBIBYTE)
# A slot that a client keeps busy can be taken after 1 s, and is asked for every 0.25 s.
_PRESSED: Final = Bounds(wait=2.0, growth=256 * _MEBIBYTE)

ATTACKS: Final = (
    Attack(no_attack, 0),
    Attack(half_sent_bodies, 600, _HELD),
    Attack(half_sent_questions, 200, listeners=("admin",)),
    Attack(half_sent_uploads, 300, _PRESSED),
    Attack(trickled_uploads, 300, _PRESSED),
    Attack(announced_bodies, 300),
    Attack(bodies_almost_whole, 40, _HELD),
    Attack(readers_of_nothing, 300, _PRESSED, receive_buffer=_SMALL_BUFFER),
    Attack(slow_readers, 300, _PRESSED, receive_buffer=_SMALL_BUFFER),
    Attack(patient_readers, 300, _PRESSED, receive_buffer=_SMALL_BUFFER),
    Attack(abandoned_reads, 300),
    Attack(aborts, 100, _PRESSED),
    Attack(abandoned_changes, 300, _PRESSED),
    Attack(slow_requests, 500, _PRESSED),
    Attack(unknown_keys, 3000),
    Attack(unknown_keys, 3000, addresses=20, variant="from 20 addresses"),
    Attack(refusals, 200),
    Attack(half_sent_heads, 1800, _HELD, listeners=(CLIENTS, *PRIVATE)),
    Attack(huge_heads, 150, _HELD),
    Attack(heads_byte_by_byte, 600, listeners=(CLIENTS, *PRIVATE)),
    Attack(idle_connections, 400, Bounds(descriptors=255), Gateway(files=256), variant="beyond 256 files"),
    Attack(
        idle_connections, 1500, Bounds(descriptors=1023), Gateway(files=1024), variant="beyond 1,024 files"
    ),
    Attack(empty_items, 200, _HELD),
    Attack(large_bulks, 20, _HELD),
    Attack(tiny_chunks, 50),
    Attack(pipelined_requests, 50),
    Attack(tiny_requests, 2000),
    Attack(minting, 20, _HELD, Gateway(redis_memory="16mb")),
    Attack(keyless_requests, 100, gateway=Gateway(log_unread=True), variant="with a log that nobody reads"),
    Attack(reconnects, 100),
    Attack(connects, 100),
    Attack(scrapes, 64, listeners=PRIVATE),
    Attack(no_attack, 0, gateway=_OVER_TLS, variant="over TLS"),
    Attack(begun_handshakes, 200, gateway=_OVER_TLS),
    Attack(barren_records, 50, gateway=_OVER_TLS),
)
