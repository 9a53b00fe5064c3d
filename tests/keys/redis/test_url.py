"""The parts of a URL of Redis, and the errors for other URLs."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gateway.keys.redis.url import RedisUrl, Topology, read_url

HOST = ("h", 6379)
ONE = RedisUrl(kind=Topology.SINGLE, places=(HOST,))
WATCHED = RedisUrl(kind=Topology.SENTINEL, places=(("a", 26379), ("b", 1)), service="keys")
NODES = RedisUrl(kind=Topology.CLUSTER, places=(("a", 6379), ("b", 1)))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("redis://h", ONE),
        ("redis://h/", ONE),
        ("redis://h:1/15", replace(ONE, places=(("h", 1),), database=15)),
        ("redis://[::1]:1", replace(ONE, places=(("::1", 1),))),
        ("redis://u:p@h", replace(ONE, user="u", password="p")),
        ("redis://:p@h", replace(ONE, password="p")),
        ("redis://u:p%40%2F@h", replace(ONE, user="u", password="p@/")),
        ("redis://u:p@q@h", replace(ONE, user="u", password="p@q")),
        ("rediss://h", replace(ONE, tls=True)),
        ("rediss://h?ssl_ca_certs=/ca.pem", replace(ONE, tls=True, options={"ssl_ca_certs": "/ca.pem"})),
        ("redis+sentinel://a,b:1/keys", WATCHED),
        ("redis+sentinel://u:p@a,b:1/keys/2", replace(WATCHED, user="u", password="p", database=2)),
        (
            "rediss+sentinel://a,b:1/keys?sentinel_password=x&ssl_ca_certs=c",
            replace(WATCHED, tls=True, options={"sentinel_password": "x", "ssl_ca_certs": "c"}),
        ),
        ("redis+cluster://a,b:1", NODES),
        ("redis+cluster://a,b:1/0", NODES),
    ],
)
def test_a_url_is_read(text: str, url: RedisUrl) -> None:
    assert read_url(text) == url


FORMS = (
    "write redis://user:password@host:6379/0, rediss:// for TLS, redis+sentinel://host,host/NAME/0 or "
    "redis+cluster://host,host"
)
DATABASE = "write the number of the database last, as /0"
PLACE = "write each host as host:port, or [::1]:port"
SERVICE = "write what the Sentinels call the primary after them, as /mymaster"
ONCE = "write each option once; with this scheme there are "
NONE = "write nothing behind ?: with this scheme there are no options"
TLS = f"{ONCE}ssl_ca_certs, ssl_certfile, ssl_keyfile"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", FORMS),
        ("redis://", FORMS),
        ("redis://:se[cret@h", FORMS),
        ("redis://h#f", FORMS),
        ("redis://h\u00e9", FORMS),
        ("redis://h/0 ", FORMS),
        ("REDIS://h", FORMS),
        ("redis+unix://a", FORMS),
        ("unix:///s", FORMS),
        ("http://:secret@h", FORMS),
        ("redis://h:0", PLACE),
        ("redis://h:65536", PLACE),
        ("redis://:secret@host:port", PLACE),
        ("redis+cluster://a,", PLACE),
        ("redis://[::::::]:6379/0", PLACE),
        ("redis://a,b", "write one host; several are redis+sentinel:// or redis+cluster://"),
        ("redis://h/x", DATABASE),
        ("redis://h/0/1", DATABASE),
        ("redis+sentinel://a/keys/x", DATABASE),
        ("redis+cluster://a/1", "write no database: a Cluster has but one"),
        ("redis+sentinel://a", SERVICE),
        ("redis+sentinel://a/", SERVICE),
        ("redis://h?db=1", NONE),
        ("redis://h?ssl_ca_certs=c", NONE),
        ("redis+cluster://a?sentinel_password=x", NONE),
        ("redis+sentinel://a/k?x=1", f"{ONCE}sentinel_username, sentinel_password"),
        ("rediss://h?ssl_cert_reqs=none", TLS),
        ("rediss://h?ssl_ca_certs=a&ssl_ca_certs=b", TLS),
    ],
)
def test_a_url_that_is_not_of_redis_is_refused_with_a_reason(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
        read_url(text)


def test_no_repr_contains_a_password() -> None:
    url = read_url("redis+sentinel://u:secret@a/keys?sentinel_password=secret")
    assert "secret" not in repr(url)
