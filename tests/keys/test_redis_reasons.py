"""What an operator is told where Redis fails: by the kind of the failure, and by real ones."""

from __future__ import annotations

import errno
import ssl
from pathlib import Path

import pytest
from redis import exceptions

from gateway.errors import Code, GatewayError
from gateway.keys.redis_reasons import NotAcknowledgedError, UnreadableRecordError, reason
from gateway.keys.redis_store import RedisKeyStore
from tests.conftest import Start
from tests.keys import redis_acl
from tests.keys.conftest import RedisServer, free_port, start_redis
from tests.keys.records import RECORD
from tests.keys.redis_setups import certificates

USER = "Redis does not let the user of keys.store"
RIGHTS = "see the rights in deploy/README.md"
UNREACHABLE = "Redis cannot be reached"


@pytest.mark.parametrize(
    ("error", "told"),
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
        (ssl.SSLCertVerificationError(), "the certificate of Redis is not trusted: see ssl_ca_certs"),
        (FileNotFoundError("secret"), "a certificate that keys.store names cannot be read"),
        (TimeoutError(), "Redis does not answer in time"),
        (exceptions.ConnectionError("secret"), UNREACHABLE),
        (ConnectionResetError(), UNREACHABLE),
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
def test_a_failure_is_told_by_its_kind(error: Exception, told: str) -> None:
    """Never by its text, which may hold what a record does."""
    assert reason(error) == told


def test_what_led_to_a_failure_tells_more() -> None:
    """redis-py says only that a connection was lost."""
    lost = exceptions.ConnectionError()
    lost.__cause__ = ssl.SSLCertVerificationError()
    assert reason(lost) == "the certificate of Redis is not trusted: see ssl_ca_certs"


async def told_by(url: str) -> str:
    store = RedisKeyStore(url)
    try:
        with pytest.raises(GatewayError) as failure:
            await store.add(RECORD)
    finally:
        await store.close()
    assert failure.value.code is Code.KEY_STORE_UNAVAILABLE
    assert failure.value.message == "Key store unavailable"
    return failure.value.reason


@pytest.mark.redis
async def test_a_real_redis_is_told_of_as_it_fails(redis_server: RedisServer, redis_url: str) -> None:
    assert await told_by(f"redis://127.0.0.1:{free_port()}") == UNREACHABLE
    refused = "Redis refuses the user or the password of keys.store"
    assert await told_by(redis_url.replace(redis_acl.PASSWORD, "wrong")) == refused
    redis_server.command("ACL", "SETUSER", "poor", "on", ">p", *redis_acl.RULES.split(), "-zadd")
    try:
        url = f"redis://poor:p@127.0.0.1:{redis_server.port}/0"
        assert await told_by(url) == f"{USER} run zadd: {RIGHTS}"
    finally:
        redis_server.command("ACL", "DELUSER", "poor")
    with redis_server.stalled():
        assert await told_by(redis_url) == "Redis does not answer in time"


@pytest.mark.redis
async def test_a_certificate_that_is_not_trusted_is_told(tmp_path: Path) -> None:
    made, port = certificates(tmp_path), free_port()
    server = start_redis(tmp_path, *made.options(port))
    try:
        untrusted = "the certificate of Redis is not trusted: see ssl_ca_certs"
        assert await told_by(redis_acl.url(f"127.0.0.1:{port}", scheme="rediss")) == untrusted
        unread = "a certificate that keys.store names cannot be read"
        url = redis_acl.url(f"127.0.0.1:{port}", scheme="rediss", path="/0?ssl_ca_certs=/nowhere.pem")
        assert await told_by(url) == unread
    finally:
        server.kill()


@pytest.mark.redis
async def test_a_right_that_is_missing_is_told_by_the_gateway(
    start_gateway: Start, redis_server: RedisServer
) -> None:
    """In its log and on its health page; clients learn no more than that the store is unavailable."""
    redis_server.command("ACL", "SETUSER", "poor", "on", ">p", *redis_acl.RULES.split(), "-xread")
    store = RedisKeyStore(f"redis://poor:p@127.0.0.1:{redis_server.port}/0")
    gateway = await start_gateway(store=store)
    try:
        await gateway.logged(f"{USER} run xread: {RIGHTS}")
    finally:
        redis_server.command("ACL", "DELUSER", "poor")
