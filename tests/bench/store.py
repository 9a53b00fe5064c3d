"""A real redis-server with as many keys as a section needs.

Rules kept here:
- Records have the gateway's own format. Indexes by owner and id, which a look-up does not read, are left out.
- Key number N is always the same, so that a load can use it without having stored it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.gocompat.times import read_instant
from gateway.keys.minting import digest
from gateway.keys.record import KeyRecord
from gateway.keys.record_json import encode_record
from gateway.keys.redis.names import key_name
from gateway.policy.terms import KeyTerms
from tests import redis_acl
from tests.addresses import free_ports
from tests.bench.gateways import SCOPES
from tests.bench.processes import find
from tests.bench.servers import Stage

INSTALL = "sudo apt-get install --yes --no-install-recommends redis-server"
_BATCH = 10_000
_DIGEST = "d" * 64
_ID = f"api_key_{'e' * 36}"
_RECORD = KeyRecord(
    id=_ID,
    digest=_DIGEST,
    name="benchmark",
    owner="benchmark",
    scopes=SCOPES,
    expires_at=read_instant("2099-01-01T00:00:00Z"),
    created_at=read_instant("2026-01-01T00:00:00Z"),
    created_by="master",
)


@dataclass(frozen=True, slots=True)
class Store:
    """A running redis-server, and the URL that a gateway takes."""

    port: int

    @property
    def url(self) -> str:
        return redis_acl.url(f"127.0.0.1:{self.port}")

    def fill(self, keys: int) -> None:
        """Store the keys with the numbers below `keys`. Raises OSError."""
        template = encode_record(_RECORD)
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            for first in range(0, keys, _BATCH):
                numbers = range(first, min(first + _BATCH, keys))
                connection.sendall(b"".join(_commands(template, numbers)))
                _read_all(connection, b"+OK\r\n" * len(numbers))

    def put(self, number: int, terms: KeyTerms) -> None:
        """Store one key with these terms. Raises OSError."""
        stored = replace(record(number), terms=terms)
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(_set(key_name(stored.digest), encode_record(stored)))
            _read_all(connection, b"+OK\r\n")


def start_store(stage: Stage, name: str) -> Store:
    """Run a redis-server on the core of the load until the stage ends. Raises StartError."""
    (port,) = free_ports(1)
    folder = stage.folder_of(name)
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder))
    command = [find("redis-server") or "redis-server", *options, *redis_acl.options()]
    process = stage.run(name, command, stage.cores.load, {})
    process.wait_until(lambda: _answers(port))
    return Store(port)


def key(number: int) -> str:
    """Return key number `number`, which has the shape of a minted one."""
    return base64.urlsafe_b64encode(hashlib.sha256(b"key %d" % number).digest()).decode()


def record(number: int) -> KeyRecord:
    """Return the record of a key."""
    return replace(_RECORD, id=_key_id(number), digest=digest(key(number)))


def _key_id(number: int) -> str:
    return f"api_key_00000000-0000-4000-8000-{number:012x}"


def _commands(template: bytes, numbers: Sequence[int]) -> Iterator[bytes]:
    for number in numbers:
        found = digest(key(number))
        # Replaced as text: a million records are made in seconds.
        text = template.replace(_DIGEST.encode(), found.encode()).replace(
            _ID.encode(), _key_id(number).encode()
        )
        yield _set(key_name(found), text)


def _set(name: bytes, text: bytes) -> bytes:
    """Return a command of Redis's protocol."""
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(text), text)


def _read_all(connection: socket.socket, expected: bytes) -> None:
    received = b""
    while len(received) < len(expected):
        piece = connection.recv(1 << 20)
        received += piece
        if not piece or not expected.startswith(received):
            raise OSError(f"redis-server did not store the keys: {received[-200:]!r}")


def _answers(port: int) -> bool:
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=5)) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
