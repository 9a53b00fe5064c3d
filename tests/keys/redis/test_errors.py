"""Reasons that operators get for failures of Redis, from exceptions and from real servers."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from pathlib import Path

import pytest
from redis import exceptions
from redis.crc import key_slot

from gateway.errors import Code, GatewayError
from gateway.keys.errors import StoreUnavailableError
from gateway.keys.redis.errors import NotAcknowledgedError, UnreadableRecordError, reason
from gateway.keys.redis.names import PREFIX
from gateway.keys.redis.store import RedisKeyStore
from gateway.proxy.errors import code_of
from tests import redis_acl
from tests.addresses import DEAD, dropping_packets
from tests.conftest import Start
from tests.keys.records import RECORD
from tests.keys.redis_setups import certificates, cluster
from tests.redis_server import RedisServer, free_port, start_redis

USER = "Redis does not let the user of keys.store"
RIGHTS = "see the rights in deploy/README.md"
UNREACHABLE = "Redis cannot be reached"
CLOSED = "Redis closed the connection"
UNTRUSTED = "the certificate of Redis is not trusted: see ssl_ca_certs"
NODE = "the Redis that keys.store names is a node of a Cluster: write redis+cluster://host:port,host:port"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (exceptions.NoPermissionError("... the 'config|get' command"), f"{USER} run config|get: {RIGHTS}"),
        (
            exceptions.NoPermissionError("No permissions to a key"),
            f"{USER} use the gateway's names: {RIGHTS}",
        ),
        (exceptions.AuthenticationError("secret"), "Redis refuses the user or the password of keys.store"),
        (exceptions.OutOfMemoryError(), "Redis takes no change: it is out of memory (maxmemory)"),
        (exceptions.BusyLoadingError(), "Redis is still loading its data"),
        (exceptions.ReadOnlyError(), "Redis has no primary that takes changes"),
        (NotAcknowledgedError("0 of 1 replicas have"), "0 of 1 replicas have"),
        (UnreadableRecordError("key:d"), "key:d in Redis holds no record that can be read"),
        (ssl.SSLCertVerificationError(), UNTRUSTED),
        (ssl.SSLError(1, "secret"), "the TLS handshake with Redis fails"),
        (FileNotFoundError("secret"), "a certificate that keys.store names cannot be read"),
        (TimeoutError(), "Redis does not answer in time"),
        (exceptions.ConnectionError("secret"), CLOSED),
        (ConnectionResetError(), CLOSED),
        (
            exceptions.ConnectionError("max number of clients reached"),
            "Redis takes no further client (maxclients)",
        ),
        (ConnectionRefusedError(errno.ECONNREFUSED, "secret"), f"{UNREACHABLE}: connection refused"),
        (OSError(errno.EHOSTUNREACH, "secret"), f"{UNREACHABLE}: no route to the host"),
        (OSError(errno.ENETUNREACH, "secret"), f"{UNREACHABLE}: no route to the network"),
        (socket.gaierror(socket.EAI_NONAME, "secret"), f"{UNREACHABLE}: unknown host name"),
        (socket.gaierror(socket.EAI_AGAIN, "secret"), f"{UNREACHABLE}: no name server answers"),
        (OSError("Multiple exceptions: secret"), UNREACHABLE),
        (
            exceptions.ResponseError("BUSY Redis is busy running a script."),
            "Redis is busy with somebody's script, and answers nothing else: see SCRIPT KILL",
        ),
        (exceptions.ResponseError("secret"), "Redis failed: ResponseError"),
        (
            exceptions.ResponseError("DB index is out of range"),
            "Redis has no database of the number that keys.store names",
        ),
        (exceptions.InvalidResponse(), "what answers where keys.store points is no Redis"),
        (
            exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."),
            "Redis takes no change: too few of its replicas are well (min-replicas-to-write)",
        ),
        (
            exceptions.ResponseError("MISCONF Redis is configured to ..."),
            "Redis takes no change: it cannot write to its disk",
        ),
        (PermissionError(errno.EPERM, "by a firewall"), UNREACHABLE),
        (PermissionError(errno.EACCES, "a file"), "a certificate that keys.store names cannot be read"),
        (IndexError("secret"), "Redis failed: IndexError"),
    ],
)
def test_a_failure_is_reported_by_its_kind(error: Exception, text: str) -> None:
    """The reason comes from the kind of the failure, never from its text, which may contain a record."""
    assert reason(error) == text


def test_the_cause_of_a_lost_connection_is_reported() -> None:
    """The cause is used if redis-py says only that a connection was lost."""
    lost = exceptions.ConnectionError()
    lost.__cause__ = ssl.SSLCertVerificationError()
    assert reason(lost) == UNTRUSTED


async def reason_of(url: str) -> str:
    store = RedisKeyStore(url)
    try:
        with pytest.raises(GatewayError) as failure:
            await store.add(RECORD)
    finally:
        await store.close()
    assert code_of(failure.value) is Code.KEY_STORE_UNAVAILABLE
    assert str(failure.value) == "Key store unavailable"
    return failure.value.reason


@pytest.mark.redis
async def test_failures_of_a_real_redis_are_reported(redis_server: RedisServer, redis_url: str) -> None:
    assert await reason_of(f"redis://127.0.0.1:{free_port()}") == f"{UNREACHABLE}: connection refused"
    refused = "Redis refuses the user or the password of keys.store"
    assert await reason_of(redis_url.replace(redis_acl.PASSWORD, "wrong")) == refused
    redis_server.command("ACL", "SETUSER", "poor", "on", ">p", *redis_acl.RULES.split(), "-zadd")
    try:
        url = f"redis://poor:p@127.0.0.1:{redis_server.port}/0"
        assert await reason_of(url) == f"{USER} run zadd: {RIGHTS}"
    finally:
        redis_server.command("ACL", "DELUSER", "poor")
    with redis_server.stalled():
        assert await reason_of(redis_url) == "Redis does not answer in time"


@pytest.mark.redis
class TestTls:
    async def test_problems_of_a_certificate_are_reported(self, tmp_path: Path) -> None:
        made, port = certificates(tmp_path, "DNS:elsewhere"), free_port()
        server = start_redis(tmp_path, *made.options(port))
        place = f"127.0.0.1:{port}"
        try:
            assert await reason_of(redis_acl.url(place, scheme="rediss")) == UNTRUSTED
            url = redis_acl.url(place, scheme="rediss", path="/0?ssl_ca_certs=/nowhere.pem")
            assert await reason_of(url) == "a certificate that keys.store names cannot be read"
            url = redis_acl.url(place, scheme="rediss", path=f"/0?ssl_ca_certs={made.authority}")
            other = "the certificate of Redis is for another name than the one in keys.store"
            assert await reason_of(url) == other
        finally:
            server.kill()

    async def test_tls_on_one_side_only_is_reported(self, tmp_path: Path) -> None:
        made, port = certificates(tmp_path), free_port()
        server = start_redis(tmp_path, *made.options(port))
        try:
            speaks = f"{CLOSED} before it answered: if it speaks TLS, write rediss in keys.store"
            assert await reason_of(redis_acl.url(f"127.0.0.1:{port}")) == speaks
            assert await reason_of(f"redis://127.0.0.1:{port}/0") == speaks
            speaks_not = (
                f"{UNREACHABLE}: no connection over TLS in time; if it speaks no TLS, write redis instead "
                "of rediss in keys.store"
            )
            assert await reason_of(redis_acl.url(f"127.0.0.1:{server.port}", scheme="rediss")) == speaks_not
        finally:
            server.kill()

    async def test_a_peer_that_speaks_no_tls_is_reported(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"-ERR unknown command\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            found = await reason_of(f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
        assert found == "what answers where keys.store points speaks no TLS: write redis instead of rediss"


@pytest.mark.redis
async def test_an_address_that_drops_packets_is_reported() -> None:
    port = free_port()
    with dropping_packets(port):
        found = await reason_of(f"redis://{DEAD}:{port}/0")
    expected = "no connection in time; its address is wrong, or something drops every packet"
    assert found == f"{UNREACHABLE}: {expected}"


@pytest.mark.redis
async def test_a_redis_without_a_free_connection_is_reported(tmp_path: Path) -> None:
    server = start_redis(tmp_path, "--maxclients", "1")
    try:
        with socket.create_connection(("127.0.0.1", server.port)) as only:
            only.sendall(b"PING\r\n")
            assert only.recv(100) == b"+PONG\r\n"
            assert await reason_of(server.url) == "Redis takes no further client (maxclients)"
    finally:
        server.kill()


@pytest.mark.redis
async def test_a_busy_redis_is_reported(tmp_path: Path) -> None:
    server = start_redis(tmp_path, "--busy-reply-threshold", "10")
    try:
        with socket.create_connection(("127.0.0.1", server.port)) as somebody:
            somebody.sendall(b'EVAL "while true do end" 0\r\n')
            await asyncio.sleep(0.1)
            busy = "Redis is busy with somebody's script, and answers nothing else: see SCRIPT KILL"
            assert await reason_of(server.url) == busy
    finally:
        server.kill()


@pytest.mark.redis
async def test_a_node_of_a_cluster_in_the_place_of_a_redis_is_reported(tmp_path: Path) -> None:
    """Every call reports it, whether another node serves the slot or none; no change is uncertain."""
    with cluster(tmp_path, key_slot(PREFIX.encode())) as nodes:
        store = RedisKeyStore(redis_acl.url(f"127.0.0.1:{nodes.other.port}"))
        failures: list[object] = []
        for call in (
            store.add(RECORD),
            store.get_by_digest("0" * 64),
            store.changes("0-0", 0.05),
            store.is_empty(),
        ):
            with pytest.raises(GatewayError) as failure:
                await call
            failures.append((type(failure.value), failure.value.reason))
        await store.close()
    assert failures == [(StoreUnavailableError, NODE)] * 4
    alone = start_redis(tmp_path, "--cluster-enabled", "yes")
    try:
        assert await reason_of(alone.url) == NODE
    finally:
        alone.kill()


@pytest.mark.redis
async def test_the_reason_why_the_primary_is_unknown_is_reported(redis_server: RedisServer) -> None:
    nobody = "no Sentinel answers, or none knows a primary called keys"
    ports = ",".join(f"127.0.0.1:{free_port()}" for _ in range(2))
    refused = f"{nobody} (Redis cannot be reached: connection refused)"
    assert await reason_of(f"redis+sentinel://{ports}/keys/0") == refused
    # This server is no Sentinel, and does not know the command.
    assert await reason_of(f"redis+sentinel://127.0.0.1:{redis_server.port}/keys/0") == nobody
    none = "no node of a Redis Cluster answers, or none knows the primary"
    no_node = "the Redis that keys.store names is in no Cluster: write redis://host:port"
    assert await reason_of(f"redis+cluster://127.0.0.1:{redis_server.port}") == f"{none} ({no_node})"


@pytest.mark.redis
async def test_a_missing_right_is_reported_by_the_gateway(
    start_gateway: Start, redis_server: RedisServer
) -> None:
    """The log and the health page name the right; clients are told only that the store is unavailable."""
    redis_server.command("ACL", "SETUSER", "poor", "on", ">p", *redis_acl.RULES.split(), "-xread")
    store = RedisKeyStore(f"redis://poor:p@127.0.0.1:{redis_server.port}/0")
    gateway = await start_gateway(store=store)
    try:
        await gateway.logged(f"{USER} run xread: {RIGHTS}")
    finally:
        redis_server.command("ACL", "DELUSER", "poor")
