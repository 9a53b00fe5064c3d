"""A Redis whose name has several addresses, the first of which drops every packet."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.errors import GatewayError
from gateway.keys.redis.store import RedisKeyStore
from tests import redis_acl
from tests.addresses import DEAD, dropping_packets, names, run
from tests.keys.redis_setups import SERVICE, certificates, replicated, sentinels
from tests.redis_server import RedisServer, free_port, start_redis

pytestmark = pytest.mark.redis

NAMED = names(redis=[DEAD, "127.0.0.1"])


def reached(url: str) -> float:
    """Return the seconds until the first command had a response."""

    async def ping() -> float:
        store = RedisKeyStore(url)
        began = time.monotonic()
        try:
            await store.ping()
        finally:
            await store.close()
        return time.monotonic() - began

    return run(ping, NAMED)


def test_the_second_address_is_tried_in_time(redis_server: RedisServer) -> None:
    with dropping_packets(redis_server.port):
        assert reached(redis_acl.url(f"redis:{redis_server.port}")) < 0.5


def test_the_second_address_works_over_tls_with_a_certificate_for_the_name(tmp_path: Path) -> None:
    made, port = certificates(tmp_path, "DNS:redis"), free_port()
    server = start_redis(tmp_path, *made.options(port))
    path = f"/0?ssl_ca_certs={made.authority}"
    try:
        with dropping_packets(port):
            assert reached(redis_acl.url(f"redis:{port}", scheme="rediss", path=path)) < 0.7
        with pytest.raises(GatewayError) as failure:
            reached(redis_acl.url(f"127.0.0.1:{port}", scheme="rediss", path=path))
    finally:
        server.kill()
    assert failure.value.reason.startswith("the certificate of Redis is for another name")


def test_the_second_address_of_a_sentinel_is_tried_in_time(tmp_path: Path) -> None:
    with (
        replicated(tmp_path) as pair,
        sentinels(tmp_path, pair.primary.port) as watching,
        dropping_packets(watching.ports[0]),
    ):
        url = redis_acl.url(f"redis:{watching.ports[0]}", scheme="redis+sentinel", path=f"/{SERVICE}/0")
        assert reached(url) < 0.7
