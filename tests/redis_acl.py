"""The user that gateways log in to Redis as: no right more than they need, here and in deploy/README.md."""

from __future__ import annotations

USER = "blnk-gateway"
PASSWORD = "of-the-tests"
RULES = (
    "~{blnk-gateway}:* resetchannels -@all +ping +select +role +wait +info +config|get +cluster|slots "
    "+get +mget +set +mset +del +exists +scan +zadd +zcard +zcount +zrevrange +zrangebyscore +zrem +zmscore "
    "+sadd +srem +smembers +xadd +xread +xrange +xrevrange +watch +unwatch +multi +exec"
)


def options() -> list[str]:
    """The user as options of redis-server; tests look inside as the one who needs no password."""
    return ["--user", USER, "on", f">{PASSWORD}", *RULES.split()]


def url(*places: str, scheme: str = "redis", path: str = "/0") -> str:
    """A URL that logs in as that user."""
    return f"{scheme}://{USER}:{PASSWORD}@{','.join(places)}{path}"
